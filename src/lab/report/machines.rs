//! Records that lie beside each other: what a hot call takes in each. Numbers of different records are not compared with each other:
//! each line has its own, and its ratios are of one run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::claims;
use super::page::{Table, Value};
use super::read::{Record, Row};
use super::words;

/// The other records in the folder of this one, by name.
pub(super) fn beside(directory: &Path) -> Result<Vec<Record>> {
    let place = || format!("cannot read {}", directory.display());
    let own = directory.canonicalize().with_context(place)?;
    let Some(folder) = own.parent() else { return Ok(Vec::new()) };
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>).with_context(place)?;
    let paths = entries.iter().map(fs::DirEntry::path);
    let mut paths: Vec<_> = paths.filter(|path| *path != own && path.join("commands.txt").exists()).collect();
    paths.sort();
    paths.iter().map(|path| Record::read(path)).collect()
}

/// A hot call in each record: rows of the record that a line names stand behind it. `to` is the first one, seen from the page.
pub(super) fn hot(records: &[&Record], to: &str) -> Table {
    let header = [
        "record",
        "processor",
        "cores",
        "socket, sleeping",
        "socket, adaptive",
        "shm, adaptive",
        "socket, adaptive × sleeping (95 %)",
        "shm, adaptive × sleeping (95 %)",
        "stolen while sleeping",
    ];
    let line = |record: &&Record| {
        let picked = claims::hot(record);
        let cell = |transport, wait, measure: fn(&Row) -> Value| {
            let row = picked.as_ref().and_then(|picked| picked.way(transport, wait, claims::HOT));
            row.map_or_else(|| Value::word(words::DASH), measure)
        };
        let distance = picked.as_ref().map_or(words::DASH, |picked| words::distance(picked.distance));
        vec![
            Value::word(link(record, to)),
            Value::word(record.machine().split(',').next().unwrap_or_default()),
            Value::word(distance),
            cell("uds", "park", words::p50),
            cell("uds", "adaptive", words::p50),
            cell("shm", "adaptive", words::p50),
            cell("uds", "adaptive", words::to_uds),
            cell("shm", "adaptive", words::to_uds),
            cell("uds", "park", words::stolen),
        ]
    };
    Table { header: header.map(str::to_owned).into(), rows: records.iter().map(line).collect() }
}

/// A record's name, which leads to its summary; `to` is a record beside it, seen from the page.
pub(super) fn link(record: &Record, to: &str) -> String {
    format!("[{}]({})", record.name, Path::new(to).with_file_name(&record.name).join("summary.md").display())
}
