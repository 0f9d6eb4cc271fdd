//! What the numbers say, in sentences. Every sentence is about named rows and prints what they have; which of two is better is left
//! to the numbers. A sentence whose rows are not there is not said.

use super::page::{Line, Piece, line};
use super::pick::{Picked, most_met};
use super::read::{Record, Row};
use super::words;

/// The first sentence: a hot call over shared memory, over the adaptive and over the sleeping Unix socket.
pub(super) fn headline(record: &Record) -> Option<Line> {
    let picked = hot(record)?;
    let row = |transport, wait| measured(&picked, transport, wait, HOT);
    let (shm, socket, today) = (row("shm", "adaptive")?, row("uds", "adaptive")?, row("uds", "park")?);
    let intervals = if shm.p50_low_ns.is_some() { " with 95 % intervals" } else { "" };
    Some(line![
        strong("A hot read of 32 bytes"),
        " and its answer, between two processes, take ",
        words::p50_interval(shm),
        " over shared memory and ",
        words::p50_interval(socket),
        " over the Unix socket with adaptive ends, which poll here, and ",
        words::p50_interval(today),
        " over the Unix socket when they sleep, as today",
        format!(" ({}, a core each; medians{}).", words::distance(picked.distance), intervals),
    ])
}

/// The rows that the headline is about, every way to wait and to be carried; from the part with the most rounds.
pub(super) fn hot(record: &Record) -> Option<Picked<'_>> {
    let wanted = |row: &Row| row.workload == HOT && row.placement == "split";
    HOT_PARTS.iter().find_map(|part| most_met(record, part, wanted))
}

/// Further sentences, in the order of what they are about.
pub(super) fn claims(record: &Record) -> Vec<Line> {
    [
        ratios(record),
        stolen(record),
        copying(record),
        execution(record),
        cache(record),
        asleep(record),
        one_core(record),
        connecting(record),
        batch(record),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn ratios(record: &Record) -> Option<Line> {
    let picked = hot(record)?;
    let (shm, socket) = (measured(&picked, "shm", "adaptive", HOT)?, measured(&picked, "uds", "adaptive", HOT)?);
    Some(line![
        strong("Polling and carrying."),
        " In the same rounds the adaptive Unix socket takes ",
        words::to_uds(socket),
        " and adaptive shared memory ",
        words::to_uds(shm),
        " the time of the sleeping Unix socket; shared memory is at ",
        words::to_floor(shm),
        " the floor, one cache line there and back.",
    ])
}

fn stolen(record: &Record) -> Option<Line> {
    let picked = hot(record)?;
    let (socket, today) = (measured(&picked, "uds", "adaptive", HOT)?, measured(&picked, "uds", "park", HOT)?);
    today.steal.zip(socket.steal)?;
    Some(line![
        strong("Stolen"),
        " is what the hypervisor gave of the machine's time to others: ",
        words::stolen(today),
        " while the ends of the Unix socket slept, ",
        words::stolen(socket),
        " while they were adaptive. The more it is, the more of p99 and p99.9 is the hypervisor's.",
    ])
}

fn copying(record: &Record) -> Option<Line> {
    let workload = "read:65536";
    let picked = most_met(record, "bulk", |row| row.workload == workload)?;
    let (shm, socket) =
        (measured(&picked, "shm", "adaptive", workload)?, measured(&picked, "uds", "adaptive", workload)?);
    Some(line![
        strong("64 KiB at once"),
        " take ",
        words::p50(shm),
        " over shared memory, ",
        words::to_copy_floor(shm),
        " the floor of copying as much, and ",
        words::p50(socket),
        " over the Unix socket, both adaptive.",
    ])
}

fn execution(record: &Record) -> Option<Line> {
    let workload = "trace:erc20";
    let picked = most_met(record, "alternatives", |row| row.workload == workload)?;
    let way = |transport, wait| measured(&picked, transport, wait, workload);
    let (shm, socket, today) = (way("shm", "adaptive")?, way("uds", "adaptive")?, way("uds", "park")?);
    Some(line![
        strong("A recorded execution"),
        " of ",
        Piece::Code("erc20".to_owned()),
        " takes ",
        words::whole(today),
        " today, ",
        words::whole(socket),
        " over the Unix socket and ",
        words::whole(shm),
        " over shared memory with adaptive ends, connecting included and without any time for computing.",
    ])
}

fn cache(record: &Record) -> Option<Line> {
    let workload = "trace:erc20";
    let picked = most_met(record, "cache", |row| row.workload == workload)?;
    let way = |transport: &str, wait: &str| {
        let found = picked.one(|row| row.transport == transport && row.wait == wait && row.cache == Some(256));
        found.filter(|row| !row.is_empty())
    };
    let (shm, socket, today) = (way("shm", "adaptive")?, way("uds", "adaptive")?, way("uds", "park")?);
    let all = measured(&picked, "uds", "park", workload).filter(|row| row.execution_calls.is_some())?;
    Some(line![
        strong("Fewer calls."),
        " With a cache of 256-byte pages, ",
        words::calls(today),
        " instead of ",
        words::calls(all),
        " come to the host: ",
        words::whole(today),
        " over the sleeping Unix socket instead of ",
        words::whole(all),
        ", ",
        words::whole(socket),
        " over the adaptive one, ",
        words::whole(shm),
        " over adaptive shared memory.",
    ])
}

fn asleep(record: &Record) -> Option<Line> {
    let picked = most_met(record, "parked", |row| row.workload == HOT)?;
    let way = |transport, wait| measured(&picked, transport, wait, HOT);
    let (shm, today, adaptive) = (way("shm", "park")?, way("uds", "park")?, way("shm", "adaptive")?);
    Some(line![
        strong("A millisecond between calls:"),
        " ",
        words::p50(today),
        " over the sleeping Unix socket, ",
        words::p50(shm),
        " over sleeping shared memory, and ",
        words::p50(adaptive),
        " over adaptive shared memory for ",
        words::cpu(adaptive),
        " of CPU time a call against ",
        words::cpu(today),
        " today.",
    ])
}

fn one_core(record: &Record) -> Option<Line> {
    let picked = most_met(record, "same", |row| row.workload == HOT)?;
    let way = |transport, wait| measured(&picked, transport, wait, HOT);
    let (shm, socket, today) = (way("shm", "adaptive")?, way("uds", "adaptive")?, way("uds", "park")?);
    Some(line![
        strong("One core for both ends:"),
        " ",
        words::p50(shm),
        " over adaptive shared memory, ",
        words::p50(socket),
        " over the adaptive Unix socket, ",
        words::p50(today),
        " over the sleeping one.",
    ])
}

fn connecting(record: &Record) -> Option<Line> {
    let picked = most_met(record, "connect", |_| true)?;
    let way = |transport, wait| measured(&picked, transport, wait, "connect");
    let (shm, today) = (way("shm", "adaptive")?, way("uds", "park")?);
    Some(line![
        strong("Connect to first answer:"),
        " ",
        words::p50(shm),
        " over shared memory, ",
        words::p50(today),
        " over the sleeping Unix socket.",
    ])
}

fn batch(record: &Record) -> Option<Line> {
    let picked = most_met(record, "flight", |row| row.transport == "shm" && row.wait == "adaptive")?;
    let few = picked.rows.iter().copied().filter(|row| !row.is_empty()).min_by_key(|row| row.in_flight)?;
    let many = picked.rows.iter().copied().filter(|row| !row.is_empty()).max_by_key(|row| row.in_flight)?;
    if few.in_flight == many.in_flight {
        return None;
    }
    Some(line![
        strong("Calls in flight"),
        " over shared memory: ",
        words::p50(many),
        format!(" a call with {} on their way, ", many.in_flight),
        words::p50(few),
        format!(" with {}.", few.in_flight),
    ])
}

fn measured<'a>(picked: &Picked<'a>, transport: &str, wait: &str, workload: &str) -> Option<&'a Row> {
    picked.way(transport, wait, workload).filter(|row| !row.is_empty())
}

fn strong(text: &str) -> Piece {
    Piece::Strong(text.to_owned())
}

/// The call of the headline.
pub(super) const HOT: &str = "read:32";
/// Parts that have it.
pub(super) const HOT_PARTS: [&str; 2] = ["tails", "compare"];
