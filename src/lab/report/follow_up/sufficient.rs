//! “Sufficient performance for current requirements”: how long recorded executions wait for their host, as a share of their time. That
//! depends on S, which nobody has measured.

use super::claims::{Claim, Verdict, calls, claim, table, todays};
use super::compare::joined;
use super::{MARKS, Terms, WRITTEN, between, contract, is_public, percent, starts};
use crate::lab::report::page::{Line, Piece, Value, line};
use crate::lab::report::pick::most_met;
use crate::lab::report::read::{Record, Row};
use crate::lab::report::tables::words_and_code;
use crate::lab::report::words;
use crate::lab::table::nanos;

/// The claim.
pub(super) fn sufficient(record: &Record, terms: &Terms) -> Claim {
    let rule = format!(
        "ADR-003 names no requirement. Here one is put: an execution waits for its host for less than {share} of its time. It is {fixed}, \
         S for the interpreter of its contract, and the replayed calls over today's sleeping socket, connecting included. All recorded \
         contracts are of Python, so none of them can have S = 0, and that column decides nothing. Supported where none waits that long at any \
         other S, in part where some of them wait less. The {fixed} have {in_fixed} calls of start and end in them, which were replayed \
         as well: counted twice, they make shares at S = 0 too small by less than a tenth of themselves.",
        share = percent(terms.share),
        fixed = words::exactly(terms.fixed_ns),
        in_fixed = terms.fixed_calls,
    );
    let today = todays(record);
    let header = ["execution", "calls", "in calls"].map(str::to_owned).into_iter();
    let none = |ns: f64| if ns == 0.0 { ": none of these" } else { "" };
    let header = header.chain(terms.starts_ns.iter().map(|ns| format!("share, {}{}", starts(*ns), none(*ns))));
    let header = header.chain([format!("{} or more up to S =", percent(terms.share))]).collect();
    let share = |row: &Row, start: f64| {
        let ns = row.execution_ns.unwrap_or_default();
        ns / (terms.fixed_ns + start + ns)
    };
    let mut rows = Vec::new();
    for row in &today {
        let mut cells = vec![Value::word(contract(row)), calls(row), words::whole(row)];
        cells.extend(terms.starts_ns.iter().map(|start| {
            let share = share(row, *start);
            let text = percent(share);
            Value::word(if share >= terms.share { format!("**{text}**") } else { text })
        }));
        cells.push(Value::word(
            row.execution_ns.and_then(|ns| longest_start(ns, terms)).map_or_else(|| "none".to_owned(), nanos),
        ));
        rows.push(cells);
    }
    let above = |start: f64, wanted: fn(&Row) -> bool| {
        today.iter().filter(|row| wanted(row) && share(row, start) >= terms.share).count()
    };
    let interpreted = || terms.starts_ns.into_iter().filter(|start| *start > 0.0);
    let each = |wanted| {
        let each = interpreted().map(|start| format!("{} at {}", above(start, wanted), starts(start)));
        each.collect::<Vec<_>>().join(", ")
    };
    let mut because = format!(
        "Of {} recorded contracts, those that wait {} or longer: {}",
        today.len(),
        percent(terms.share),
        each(|_| true)
    );
    if today.iter().any(|row| !is_public(row)) {
        because += &format!(
            "; without {WRITTEN}, of {}: {}",
            today.iter().filter(|row| is_public(row)).count(),
            each(is_public)
        );
    }
    let counts: Vec<_> = interpreted().map(|start| above(start, |_| true)).collect();
    let below = counts.iter().filter(|above| **above == 0).count();
    let verdict = if today.is_empty() { Verdict::NotMeasured } else { Verdict::of(below, counts.len()) };
    // Not even with the longest start do all wait less, but many do: neither yes nor no.
    let some = counts.iter().any(|above| *above < today.len());
    let verdict = if verdict == Verdict::NotSupported && some { Verdict::InPart } else { verdict };
    let about = format!(
        "Printed bold: as long, or longer. S was not measured; where it is not known, this claim is not decided. Where it is longer than \
         the last column says, nothing that is done to these calls can save {} of the execution. They follow each other at once; of a \
         contract that computes between them each takes longer over sleeping ends, and the shares are larger. {MARKS}",
        percent(terms.share)
    );
    claim(
        "sufficient",
        "Sufficient performance for current requirements",
        rule,
        verdict,
        Value::word(because),
        table(header, rows, words_and_code(&about)),
        "savings",
    )
}

/// From which S on the first stage begins for none of the public contracts.
pub(super) fn beyond(record: &Record, terms: &Terms) -> Option<Line> {
    let public = todays(record).into_iter().filter(|row| is_public(row));
    let starts = public.filter_map(|row| Some((row, longest_start(row.execution_ns?, terms)?)));
    let (row, start) = starts.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let start = joined(nanos(start), [words::whole(row)]);
    let mut line = line![
        Piece::Strong("What S decides.".to_owned()),
        " Of the public contracts, ",
        contract(row),
        format!(" waits for {} of its time up to the longest S, which is ", percent(terms.share)),
        start,
        ". Where the interpreter takes longer than that, the trigger fires for none that are like them, and stage 0 is all that is proposed."
    ];
    let think = most_met(record, "think", |row| (&row.transport[..], &row.wait[..]) == ("uds", "park"));
    let call = |think_us| think.as_ref()?.one(|row| row.think_us == think_us).filter(|row| !row.is_empty());
    if let Some((apart, close)) = call(APART_US).zip(call(0)) {
        line.0.extend([
            " These calls follow each other at once; with ".into(),
            between(APART_US).into(),
            " of computing between them a call of today takes ".into(),
            words::p50(apart).into(),
            " instead of ".into(),
            words::p50(close).into(),
            ", and that S is longer in proportion.".into(),
        ]);
    }
    Some(line)
}

/// S up to which an execution that waits for so long does so for the share of its time, if it does at all: all in nanoseconds.
fn longest_start(ns: f64, terms: &Terms) -> Option<f64> {
    Some(ns / terms.share - ns - terms.fixed_ns).filter(|start| *start >= 0.0)
}

/// Microseconds between calls in which the host's core goes to sleep.
const APART_US: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::report::follow_up::TERMS;

    #[test]
    fn the_longest_start_is_where_the_share_is_reached() {
        for (wait, reaches) in [(15e6, true), (366e6, true), (0.3e6, false)] {
            let start = longest_start(wait, &TERMS);
            assert_eq!(start.is_some(), reaches, "{wait}");
            let Some(start) = start else { continue };
            let share = wait / (TERMS.fixed_ns + start + wait);
            assert!((share - TERMS.share).abs() < 1e-9, "{share}");
        }
    }
}
