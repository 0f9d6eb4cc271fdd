//! How much source there is of each part, and what faults it was tried against: data that are no part of a record, from files beside
//! the page.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::lab::report::page::{Source, Value};

/// A row of `source.csv`, which `ci/source.sh` makes.
#[derive(Debug, Deserialize)]
pub(super) struct Counted {
    pub(super) part: String,
    pub(super) files: u64,
    /// Of code: no comments, no tests, no empty lines.
    pub(super) lines: u64,
    /// Blocks, functions and implementations.
    #[serde(rename = "unsafe")]
    pub(super) unsafes: u64,
    /// Places where an order of memory is named.
    pub(super) orderings: u64,
}

/// What came of the fault catalogue over one transport.
#[derive(Debug, Default)]
pub(super) struct Tried {
    pub(super) on: String,
    /// Each of many trials of one fault.
    pub(super) runs: u64,
    pub(super) trials: u64,
    pub(super) failures: u64,
    /// Runs with a failure, or with a time beyond what is allowed.
    pub(super) not_ok: u64,
}

/// The rows of a run of `tests/soak.sh` that are summed up in [`Tried`].
#[derive(Debug, Deserialize)]
struct Fault {
    on: String,
    trials: u64,
    failures: u64,
    result: String,
}

/// Nothing, if nothing was counted.
pub(super) fn read(path: &Path) -> Result<Vec<Counted>> {
    if !path.exists() {
        return Ok(vec![]);
    }
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    reader.deserialize().collect::<csv::Result<_>>().with_context(|| path.display().to_string())
}

/// The last run of the fault catalogue beside the page, by the name of its folder; and its sums by transport.
pub(super) fn faults(folder: &Path) -> Result<Option<(String, Vec<Tried>)>> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(here).with_context(|| format!("cannot read {}", here.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let run = names.filter(|name| name.ends_with("-faults") && here.join(name).join(FAULTS).exists()).max();
    let Some(run) = run else { return Ok(None) };
    let path = here.join(&run).join(FAULTS);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(b'\t')
        .from_path(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut tried: Vec<Tried> = Vec::new();
    for fault in reader.deserialize() {
        let Fault { on, trials, failures, result } = fault.with_context(|| path.display().to_string())?;
        if result == "skipped" {
            continue;
        }
        let on = on.split(',').next().unwrap_or(&on).to_owned();
        let at = tried.iter().position(|tried| tried.on == on).unwrap_or_else(|| {
            tried.push(Tried { on, ..Tried::default() });
            tried.len() - 1
        });
        tried[at].runs += 1;
        tried[at].trials += trials;
        tried[at].failures += failures;
        tried[at].not_ok += u64::from(result != "ok");
    }
    Ok(Some((run, tried)))
}

/// A number of `source.csv`.
pub(super) fn value(number: u64, row: usize, column: &'static str) -> Value {
    Value { text: number.to_string(), sources: vec![Source { part: "source".to_owned(), row, column }] }
}

const FAULTS: &str = "faults.tsv";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_of_the_faults_is_summed_up_by_transport() {
        let folder = tempfile::tempdir().unwrap();
        assert!(faults(folder.path()).unwrap().is_none());
        for (run, trials) in [("2026-01-01-faults", 1), ("2026-02-01-faults", 100)] {
            fs::create_dir(folder.path().join(run)).unwrap();
            let rows = format!(
                "fault\ton\ttrials\tfailures\tresult\nkilled\tshm,host\t{trials}\t0\tok\nkilled\tunix,host\t50\t2\tfailed\n\
                 full\tshm,both\t7\t0\tok\nsteps\tshm\t0\t0\tskipped\n"
            );
            fs::write(folder.path().join(run).join(FAULTS), rows).unwrap();
        }
        let (run, tried) = faults(folder.path()).unwrap().unwrap();
        assert_eq!(run, "2026-02-01-faults");
        let sums: Vec<_> = tried.iter().map(|on| (&on.on[..], on.runs, on.trials, on.failures, on.not_ok)).collect();
        assert_eq!(sums, [("shm", 2, 107, 0, 0), ("unix", 1, 50, 2, 1)]);
    }
}
