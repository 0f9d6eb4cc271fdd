//! Which rows a page shows: those of one distance between the cores, the one that a part met most often, and with them the rows
//! that never got one because they failed.

use std::collections::BTreeMap;

use super::read::{Record, Row};

/// Rows of one part and one distance.
#[derive(Debug, Clone)]
pub(super) struct Picked<'a> {
    pub(super) distance: Option<&'a str>,
    pub(super) rows: Vec<&'a Row>,
}

/// The rows of a part that are wanted, by distance: the one with the most slices first. Without any, nothing.
pub(super) fn by_distance<'a>(record: &'a Record, part: &str, wanted: impl Fn(&Row) -> bool) -> Vec<Picked<'a>> {
    let rows: Vec<&Row> = record.rows(part).iter().filter(|row| wanted(row)).collect();
    let mut slices: BTreeMap<Option<&str>, u64> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.is_empty()) {
        *slices.entry(row.distance.as_deref()).or_default() += row.slices;
    }
    if slices.is_empty() && !rows.is_empty() {
        slices.insert(None, 0); // all of them failed
    }
    let mut distances: Vec<_> = slices.into_iter().collect();
    distances.sort_by_key(|(_, slices)| std::cmp::Reverse(*slices));
    let picked = distances.into_iter().map(|(distance, _)| Picked {
        distance,
        rows: rows.iter().copied().filter(|row| row.is_empty() || row.distance.as_deref() == distance).collect(),
    });
    picked.collect()
}

/// The rows of the distance with the most slices.
pub(super) fn most_met<'a>(record: &'a Record, part: &str, wanted: impl Fn(&Row) -> bool) -> Option<Picked<'a>> {
    by_distance(record, part, wanted).into_iter().next()
}

impl<'a> Picked<'a> {
    /// The row that was measured, if there is one among those that are wanted; else one that was not.
    pub(super) fn one(&self, wanted: impl Fn(&Row) -> bool) -> Option<&'a Row> {
        let mut rows = self.rows.iter().copied().filter(|row| wanted(row));
        let first = rows.next()?;
        if first.is_empty() { Some(rows.find(|row| !row.is_empty()).unwrap_or(first)) } else { Some(first) }
    }

    /// As [`one`](Self::one), for a transport, a wait and a workload; without a cache, with a blocking host.
    pub(super) fn way(&self, transport: &str, wait: &str, workload: &str) -> Option<&'a Row> {
        self.one(|row| {
            (&row.transport[..], &row.wait[..], &row.workload[..]) == (transport, wait, workload)
                && row.host == "thread"
                && row.cache.is_none()
        })
    }
}
