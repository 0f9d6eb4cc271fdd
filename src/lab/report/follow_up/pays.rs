//! How many calls an execution has to make before something else than today's way pays, and before shared memory does where both ends
//! poll a socket already: simple arithmetic on what a record says a call takes. Whoever has snapshots of real executions asks
//! `lab advise`, which knows more.

use super::compare::{Order, difference, joined};
use super::{MARKS, Terms, between, contract, lacks, percent, starts};
use crate::lab::report::page::{Block, Table, Value};
use crate::lab::report::pick::{Picked, most_met};
use crate::lab::report::read::{Record, Row};
use crate::lab::report::tables::words_and_code;
use crate::lab::report::words;
use crate::lab::table::nanos;

/// What an alternative does to an execution, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Saving {
    /// What a call takes before.
    before: f64,
    /// What it takes less, for each call that was made before.
    a_call: f64,
    /// What connecting takes more.
    once: f64,
}

/// The least number of the calls before with which a share of an execution's time, which is `rest` and its calls, is saved. `None` if no
/// number is enough.
fn calls_to_save(share: f64, rest: f64, saving: Saving) -> Option<f64> {
    // n calls save n × a_call − once, of rest + n × before.
    let gain = saving.a_call - share * saving.before;
    (gain > 0.0).then(|| ((share * rest + saving.once.max(0.0)) / gain).ceil())
}

/// The tables, and what one has to know to read them.
pub(super) fn blocks(record: &Record, terms: &Terms) -> Vec<Block> {
    let rows: Vec<_> = calls(record, terms).into_iter().chain(fewer(record, terms)).collect();
    if rows.is_empty() {
        return vec![Block::Text(lacks("think"))];
    }
    let about = format!(
        "Calls an execution has to make so that {} of its whole time is saved: {}, S for the interpreter, and its calls at what they take \
         today in the same place. The {} have {} calls of start and end in them. S = 0 is WebAssembly's; Python adds its S. \
         “Never”: a call saves too little of itself, or what it saves is within the intervals. \
         What connecting takes longer is earned back first. CPU time is that of both processes. The last lines are \
         the replayed `erc20` executions, whose calls follow each other at once: what a cache saves depends on the contract, and its calls \
         are counted as the contract makes them, before the cache.",
        percent(terms.share),
        words::exactly(terms.fixed_ns),
        words::exactly(terms.fixed_ns),
        terms.fixed_calls,
    );
    let mut blocks =
        vec![Block::Text(words_and_code(&about)), Block::Table(Table { header: header(&FIXED, terms), rows })];
    let rows = carrying(record, terms);
    if !rows.is_empty() {
        let about = format!(
            "Once the ends of the socket are adaptive, most of that is saved already. What is left for shared memory, adaptive, instead of \
             the Unix socket, adaptive, is in the next table, without a cache and with one, and counted are the calls that still reach the \
             host, as `genvm_host_calls_total` does. For executions as they were counted, `lab advise` says the same in its line \
             `shm instead, both adaptive`. {MARKS}"
        );
        let fixed = ["shared memory for the socket", "between calls", "saved a call"];
        let table = Table { header: header(&fixed, terms), rows };
        blocks.extend([Block::Text(words_and_code(&about)), Block::Table(table)]);
    }
    blocks
}

/// The first lines of it, where calls follow each other at once.
pub(super) fn hot(record: &Record, terms: &Terms) -> Option<Block> {
    let at_once = between(0);
    let rows: Vec<_> = calls(record, terms).into_iter().filter(|line| line[1] == at_once).collect();
    (!rows.is_empty()).then(|| Block::Table(Table { header: header(&FIXED, terms), rows }))
}

fn header(fixed: &[&str], terms: &Terms) -> Vec<String> {
    let fixed = fixed.iter().map(|text| (*text).to_owned());
    fixed.chain(terms.starts_ns.iter().map(|ns| starts(*ns))).collect()
}

/// Ways to make the same calls, close to each other and with computing between them.
fn calls(record: &Record, terms: &Terms) -> Vec<Vec<Value>> {
    let Some(picked) = most_met(record, "think", |_| true) else { return vec![] };
    let connect = most_met(record, "connect", |row| row.host == "thread");
    let mut lines = Vec::new();
    for (transport, wait) in
        [("uds", "adaptive"), ("uds", "spin"), ("shm", "park"), ("shm", "adaptive"), ("shm", "spin")]
    {
        for think_us in THINK_US {
            let find = |transport: &str, wait: &str| {
                let same = |row: &Row| (&row.transport[..], &row.wait[..], row.think_us) == (transport, wait, think_us);
                picked.one(same).filter(|row| !row.is_empty())
            };
            let (Some(today), Some(way)) = (find("uds", "park"), find(transport, wait)) else { continue };
            let (Some(today_ns), Some(ns)) = (today.p50_ns, way.p50_ns) else { continue };
            let faster = Order::of_rows(way, today) == Some(Order::Faster);
            let a_call = if faster { today_ns - ns } else { 0.0 };
            let once = connect.as_ref().and_then(|connect| more_to_connect(connect, way, today)).unwrap_or(0.0);
            let saving = Saving { before: today_ns, a_call, once };
            let text = if faster { nanos(a_call) } else { "nothing that is told".to_owned() };
            let mut line = vec![
                Value::word(words::way(way)),
                between(think_us),
                joined(text, [words::p50(today), words::p50(way)]),
                cpu(way, today),
            ];
            line.extend(needed(terms, saving));
            lines.push(line);
        }
    }
    lines
}

/// Ways to make fewer of them, or several at once: the latter are parts of their own, and today's way is in another.
fn fewer(record: &Record, terms: &Terms) -> Vec<Vec<Value>> {
    let workload = "trace:erc20";
    let mut lines = Vec::new();
    for (part, with_today, cache) in [("cache", "cache", Some(super::PAGE)), ("batches", "savings", None)] {
        let of = |part| most_met(record, part, |row| row.workload == workload);
        let (Some(picked), Some(base)) = (of(part), of(with_today)) else { continue };
        let Some(today) = base.way("uds", "park", workload).filter(|_| base.distance == picked.distance) else {
            continue;
        };
        for (transport, wait) in [("uds", "park"), ("uds", "adaptive"), ("shm", "adaptive")] {
            let same = |row: &Row| (&row.transport[..], &row.wait[..], row.cache) == (transport, wait, cache);
            let Some(way) = picked.one(same).filter(|row| !row.is_empty()) else { continue };
            let (Some(today_ns), Some(ns), Some(calls)) = (today.execution_ns, way.execution_ns, today.execution_calls)
            else {
                continue;
            };
            // Connecting is in both times.
            let saving = Saving { before: today_ns / calls, a_call: (today_ns - ns) / calls, once: 0.0 };
            let batched = if way.in_flight > 1 { ", batched" } else { "" };
            let mut line = vec![
                Value::word(words::cached_way(way) + batched),
                between(0),
                joined(difference(saving.a_call), [words::whole(today), words::whole(way)]),
                Value::word(words::DASH),
            ];
            line.extend(needed(terms, saving));
            lines.push(line);
        }
    }
    lines
}

/// What shared memory saves where the ends of both are adaptive: of single reads, and of whole executions with and without a cache.
fn carrying(record: &Record, terms: &Terms) -> Vec<Vec<Value>> {
    let connect = most_met(record, "connect", |row| row.host == "thread");
    let more = |socket: &Row, shm: &Row| {
        connect.as_ref().and_then(|connect| more_to_connect(connect, shm, socket)).unwrap_or(0.0)
    };
    let mut lines = Vec::new();
    let mut add = |name: String, think_us, (a_call, values): (Option<f64>, [Value; 2]), before: f64, once: f64| {
        let text = a_call.map_or_else(|| "nothing that is told".to_owned(), nanos);
        let mut line = vec![Value::word(name), between(think_us), joined(text, values)];
        line.extend(needed(terms, Saving { before, a_call: a_call.unwrap_or(0.0), once }));
        lines.push(line);
    };
    let think = most_met(record, "think", |_| true);
    for think_us in THINK_US {
        let pair = think.as_ref().and_then(|picked| adaptive(picked, |row| row.think_us == think_us));
        let Some((socket, shm)) = pair else { continue };
        let (Some(before), Some(after)) = (socket.p50_ns, shm.p50_ns) else { continue };
        let a_call = (Order::of_rows(shm, socket) == Some(Order::Faster)).then_some(before - after);
        let values = [socket, shm].map(words::p50);
        add("a read of 32 bytes".to_owned(), think_us, (a_call, values), before, more(socket, shm));
    }
    for workload in ["trace:erc20", "trace:treemap_1k"] {
        let Some(picked) = most_met(record, "savings", |row| row.workload == workload) else { continue };
        for cache in [None, Some(super::PAGE)] {
            let Some((socket, shm)) = adaptive(&picked, |row| row.cache == cache) else { continue };
            let (Some(before), Some(after), Some(calls)) =
                (socket.execution_ns, shm.execution_ns, socket.execution_calls)
            else {
                continue;
            };
            // Connecting is in both times, and is no matter of how many calls there are.
            let once = more(socket, shm);
            let connecting = connect.as_ref().and_then(|connect| connects(connect, socket)).unwrap_or(0.0);
            let (before, after) = (before - connecting, after - connecting - once);
            let a_call = (Order::of_bare(after, before) == Order::Faster).then_some((before - after) / calls);
            let cached = cache.map_or_else(String::new, |bytes| format!(", both cached by {bytes}"));
            let values = [socket, shm].map(words::whole);
            add(format!("{}{cached}", contract(socket)), 0, (a_call, values), before / calls, once);
        }
    }
    lines
}

/// The rows of the socket and of shared memory whose ends are adaptive.
fn adaptive<'a>(picked: &Picked<'a>, wanted: impl Fn(&Row) -> bool) -> Option<(&'a Row, &'a Row)> {
    let find = |transport: &str| {
        let same = |row: &Row| (&row.transport[..], &row.wait[..]) == (transport, "adaptive") && wanted(row);
        picked.one(same).filter(|row| !row.is_empty())
    };
    find("uds").zip(find("shm"))
}

fn needed(terms: &Terms, saving: Saving) -> impl Iterator<Item = Value> {
    terms.starts_ns.iter().map(move |start| {
        let calls = calls_to_save(terms.share, terms.fixed_ns + start, saving);
        Value::word(calls.map_or_else(|| "never".to_owned(), |calls| format!("{calls}")))
    })
}

fn cpu(way: &Row, today: &Row) -> Value {
    let (ours, theirs) = (words::cpu(way), words::cpu(today));
    joined(format!("{} for {}", ours.text, theirs.text), [ours, theirs])
}

/// What connecting takes more than it took before.
fn more_to_connect(picked: &Picked<'_>, way: &Row, before: &Row) -> Option<f64> {
    Some(connects(picked, way)? - connects(picked, before)?)
}

/// What connecting takes. Ends that poll for ever connect as adaptive ones do, where they were not recorded.
fn connects(picked: &Picked<'_>, way: &Row) -> Option<f64> {
    let connect = |wait| picked.way(&way.transport, wait, "connect")?.p50_ns;
    connect(&way.wait).or_else(|| connect("adaptive"))
}

/// What heads the cells of [`calls`] and [`fewer`], before those of each S.
const FIXED: [&str; 4] = ["alternative", "between calls", "saved a call", "CPU a call, for today's"];
/// Microseconds between calls: none, and more than the budget of an adaptive wait.
const THINK_US: [u64; 2] = [0, 100];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pays_when_the_share_is_saved_and_not_a_call_earlier() {
        let saving = Saving { before: 50e3, a_call: 40e3, once: 100e3 };
        let (share, rest) = (0.05, 6.3e6);
        let calls = calls_to_save(share, rest, saving).unwrap();
        let saved = |calls: f64| (calls * saving.a_call - saving.once) / (rest + calls * saving.before);
        assert!(saved(calls) >= share && saved(calls - 1.0) < share, "{calls}");
        assert!(calls_to_save(share, 1e9, saving).unwrap() > calls);
    }

    #[test]
    fn what_saves_less_than_the_share_of_a_call_never_pays() {
        assert_eq!(calls_to_save(0.05, 1.0, Saving { before: 100.0, a_call: 5.0, once: 0.0 }), None);
        assert_eq!(calls_to_save(0.05, 1.0, Saving { before: 100.0, a_call: -5.0, once: 0.0 }), None);
    }
}
