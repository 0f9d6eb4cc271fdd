//! What is proposed, in its order: when each stage begins, how it is taken back, and whether a record bears the order out.

use super::claims::todays;
use super::compare::{Order, executions};
use super::{PAGE, Terms, lacks, percent};
use crate::lab::report::page::{Block, Line, Piece, Value, line};
use crate::lab::report::pick::most_met;
use crate::lab::report::read::{Record, Row};
use crate::lab::report::tables::words_and_code;
use crate::lab::report::words;

/// A stage and the way that it ends with.
struct Stage {
    name: &'static str,
    what: &'static str,
    /// With `SHARE` for the share of the terms.
    begins: &'static str,
    back: &'static str,
    way: (&'static str, &'static str, Option<u32>),
}

const STAGES: [Stage; 4] = [
    Stage {
        name: "0. Watch",
        what: "Publish snapshots, load the alerts and the dashboard of `docs/monitoring`. The Unix socket sleeps, as today.",
        begins: "now",
        back: "take the feature `metrics` out",
        way: ("uds", "park", None),
    },
    Stage {
        name: "1. Wait awake",
        what: "`WaitStrategy::ADAPTIVE` over the same Unix socket, the host first.",
        begins: "`GenvmWaitsForHost` fires (SHARE of the time of executions) and fewer executions run at once than half the cores",
        back: "`WaitStrategy::Park`: an option of each end, nothing on the wire",
        way: ("uds", "adaptive", None),
    },
    Stage {
        name: "2. Call less",
        what: "`storage::PageCache` in GenVM; batches where several reads are known at once.",
        begins: "`GenvmWaitsForHost` fires still, and `GenvmWaitsForStorage` says that it is for reads and writes of storage",
        back: "take the cache out of GenVM; the host does not know of it",
        way: ("uds", "adaptive", Some(PAGE)),
    },
    Stage {
        name: "3. Carry faster",
        what: "The feature `prefer-shm` in GenVM, after the host listens at `shm://`.",
        begins: "`GenvmWaitsForHost` fires still, and executions make more calls than the break-even asks for at their S",
        back: "take the feature out, or the host's `upgrades` off: clients fall back to the same Unix socket",
        way: ("shm", "adaptive", Some(PAGE)),
    },
];

pub(super) fn blocks(record: &Record, terms: &Terms) -> Vec<Block> {
    let stages = STAGES.iter().map(|stage| {
        let mut text = line![Piece::Strong(format!("Stage {}.", stage.name)), " "];
        let begins = stage.begins.replace("SHARE", &percent(terms.share));
        let words = format!("{} Begins: {begins}. Back: {}.", stage.what, stage.back);
        text.0.extend(words_and_code(&words).0);
        if let Some(row) = find(record, "cache", "trace:erc20", stage.way) {
            text.0.extend([
                " After it, ".into(),
                Piece::Code("erc20".into()),
                " takes ".into(),
                words::whole(row).into(),
                ".".into(),
            ]);
        }
        text
    });
    let mut blocks = vec![Block::List(stages.collect())];
    let steps = STAGES.windows(2).filter_map(|pair| step(record, &pair[0], &pair[1]));
    let steps: Vec<_> = steps.collect();
    match steps.is_empty() {
        true => blocks.push(Block::Text(lacks("savings"))),
        false => blocks.extend([
            Block::Text(words_and_code(
                "Each stage against the one before it, over all recorded contracts; an execution is replayed without computing between its \
                 calls, where polling is at its best:",
            )),
            Block::List(steps),
        ]),
    }
    blocks
}

/// In how many of the recorded contracts a stage is faster than the one before, and what that says.
fn step(record: &Record, before: &Stage, after: &Stage) -> Option<Line> {
    let (mut faster, mut slower, mut all) = (0, 0, 0);
    let mut most: Option<(f64, Value)> = None;
    for today in todays(record) {
        let find = |way| find(record, "savings", &today.workload, way);
        let (Some(one), Some(other)) = (find(after.way), find(before.way)) else { continue };
        let (Some(ns), Some(other_ns)) = (one.execution_ns, other.execution_ns) else { continue };
        let order = Order::of_bare(ns, other_ns);
        all += 1;
        faster += usize::from(order == Order::Faster);
        slower += usize::from(order == Order::Slower);
        if most.as_ref().is_none_or(|(most, _)| other_ns - ns > *most) {
            let value = executions(one, other);
            most = Some((
                other_ns - ns,
                Value { text: format!("{} takes {}", one.trace().unwrap_or(&one.workload), value.text), ..value },
            ));
        }
    }
    let verdict = match (faster * 2 > all, faster > 0) {
        (true, _) => "the record supports it",
        (false, true) => "the record supports it for some contracts only",
        (false, false) => "the record does not support it",
    };
    let (_, most) = most?;
    Some(line![
        format!(
            "Stage {}: faster in {faster} of {all}, slower in {slower}: {verdict}. Where it saves the most, ",
            after.name
        ),
        most,
        "."
    ])
}

fn find<'a>(record: &'a Record, part: &str, workload: &str, way: (&str, &str, Option<u32>)) -> Option<&'a Row> {
    let picked = most_met(record, part, |row| row.workload == workload)?;
    let same = |row: &Row| (&row.transport[..], &row.wait[..], row.cache) == way;
    picked.one(same).filter(|row| !row.is_empty())
}
