//! What is proposed, in its order: when each stage begins, how it is taken back, and whether a record bears the order out.

use super::claims::todays;
use super::compare::{Order, executions};
use super::sufficient::beyond;
use super::{MARKS, PAGE, Terms, WRITTEN, contract, is_public, lacks, percent};
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
        what: "`WaitStrategy::ADAPTIVE` over the same Unix socket, at both ends, as in every row here. The host's end alone was not measured \
               in this record; outside of it, with the executor of July 2025, a host that polled brought a call of an unchanged GenVM from \
               39–62 µs to 11 µs.",
        begins: "`GenvmWaitsForHost` fires (SHARE of the time of executions) and fewer executions run at once than half the cores",
        back: "`WaitStrategy::Park`: an option of each end, nothing on the wire",
        way: ("uds", "adaptive", None),
    },
    Stage {
        name: "2. Call less",
        what: "`storage::PageCache` in GenVM, here with pages of 256 bytes and writes that are kept for the end; batches where several reads \
               are known at once.",
        begins: "`GenvmWaitsForHost` fires still, and `GenvmWaitsForStorage` says that it is for reads and writes of storage",
        back: "take the cache out of GenVM; the host does not know of it",
        way: ("uds", "adaptive", Some(PAGE)),
    },
    Stage {
        name: "3. Carry faster",
        what: "The feature `prefer-shm` in GenVM, after the host is built with the feature `shm` and listens through this crate, at the address \
               that it has.",
        begins: "`GenvmWaitsForHost` fires still, and `lab advise`, given snapshots that were taken since, names shared memory: it has to save \
                 SHARE more than a socket whose ends poll already",
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
    let steps = steps(record);
    if steps.is_empty() {
        blocks.push(Block::Text(lacks("savings")));
        return blocks;
    }
    let about = format!(
        "Each stage against the one before it, over all recorded contracts; an execution is replayed without computing between its \
         calls, where polling is at its best. {MARKS}"
    );
    blocks.extend([Block::Text(words_and_code(&about)), Block::List(steps)]);
    blocks.extend(beyond(record, terms).map(Block::Text));
    blocks
}

/// Each stage against the one before it.
pub(super) fn steps(record: &Record) -> Vec<Line> {
    STAGES.windows(2).filter_map(|pair| step(record, &pair[0], &pair[1])).collect()
}

/// In how many of the recorded contracts a stage is faster than the one before, and what that says.
fn step(record: &Record, before: &Stage, after: &Stage) -> Option<Line> {
    let pairs = todays(record).into_iter().filter_map(|today| {
        let find = |way| find(record, "savings", &today.workload, way);
        let (one, other) = (find(after.way)?, find(before.way)?);
        Some((one, other, Order::of_bare(one.execution_ns?, other.execution_ns?)))
    });
    let every: Vec<_> = pairs.collect();
    let public: Vec<_> = every.iter().filter(|(row, ..)| is_public(row)).copied().collect();
    let count = |pairs: &[(&Row, &Row, Order)], wanted| pairs.iter().filter(|(.., order)| *order == wanted).count();
    let saves =
        |(one, other, _): &(&Row, &Row, Order)| other.execution_ns.zip(one.execution_ns).map_or(0.0, |(b, a)| b - a);
    let most = |pairs: &[(&Row, &Row, Order)]| {
        let (one, other, _) = *pairs.iter().max_by(|a, b| saves(a).total_cmp(&saves(b)))?;
        let value = executions(one, other);
        Some(Value { text: format!("{} takes {}", contract(one), value.text), ..value })
    };
    let faster = count(&public, Order::Faster);
    let verdict = match (faster * 2 > public.len(), faster > 0) {
        (true, _) => "the record supports it".to_owned(),
        (false, true) => "the record supports it for some contracts only".to_owned(),
        (false, false) if count(&every, Order::Faster) > 0 => format!("the record supports it for {WRITTEN} only"),
        (false, false) => "the record does not support it".to_owned(),
    };
    let told = |pairs: &[_]| {
        let (faster, slower) = (count(pairs, Order::Faster), count(pairs, Order::Slower));
        format!("faster in {faster} of {}, slower in {slower}", pairs.len())
    };
    let mut line = line![format!("Stage {}: {}", after.name, told(&every))];
    let without = public.len() < every.len();
    if without {
        line.0.push(format!("; without {WRITTEN} {}", told(&public)).into());
    }
    line.0.extend([format!(": {verdict}. Where it saves the most, ").into(), most(&every)?.into()]);
    if let Some(most) = most(&public).filter(|_| without) {
        line.0.extend(["; of the others, ".into(), most.into()]);
    }
    line.0.push(".".into());
    Some(line)
}

fn find<'a>(record: &'a Record, part: &str, workload: &str, way: (&str, &str, Option<u32>)) -> Option<&'a Row> {
    let picked = most_met(record, part, |row| row.workload == workload)?;
    let same = |row: &Row| (&row.transport[..], &row.wait[..], row.cache) == way;
    picked.one(same).filter(|row| !row.is_empty())
}
