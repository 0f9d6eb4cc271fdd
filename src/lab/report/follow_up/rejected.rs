//! What ADR-003 rejects, and what it would have considered: claims as in [`claims`](super::claims).

use super::claims::{Claim, Verdict, WAYS, claim, table, todays};
use super::compare::{self, Order, joined};
use super::source::{Counted, Tried, value};
use super::{MARKS, contract};
use crate::lab::report::page::{Block, Piece, Table, Value, line};
use crate::lab::report::pick::most_met;
use crate::lab::report::read::{Record, Row};
use crate::lab::report::tables::words_and_code;
use crate::lab::report::words;

/// In the order of ADR-003.
pub(super) fn all(record: &Record, counted: &[Counted], faults: Option<&(String, Vec<Tried>)>) -> Vec<Claim> {
    vec![complex(counted, faults), http(record), batching(record)]
}

/// “Rejected due to complexity …; would require complex synchronization mechanisms”.
fn complex(counted: &[Counted], faults: Option<&(String, Vec<Tried>)>) -> Claim {
    let rule = "By the source of this crate: lines of code, uses of `unsafe`, places where an order of memory is named. Supported if shared memory \
                has more of each than the Unix socket, on which it is built; in part if of some.";
    let rows = counted.iter().enumerate().map(|(number, part)| {
        let cell = |count, column| value(count, number, column);
        vec![
            Value::word(part.part.clone()),
            cell(part.files, "files"),
            cell(part.lines, "lines"),
            cell(part.unsafes, "unsafe"),
            cell(part.orderings, "orderings"),
        ]
    });
    let rows = rows.collect();
    let find = |name: &str| counted.iter().find(|part| part.part == name);
    let (mut because, mut holds, mut all) = (Value::default(), 0, 0);
    if let (Some(shm), Some(socket)) = (find("shared memory"), find("Unix socket")) {
        let pairs = [(shm.lines, socket.lines), (shm.unsafes, socket.unsafes), (shm.orderings, socket.orderings)];
        (holds, all) = (pairs.iter().filter(|(shm, socket)| shm > socket).count(), pairs.len());
        because = Value::word(format!(
            "Shared memory: {} lines, {} uses of `unsafe` and {} orders of memory on top of the socket's {}, {} and {}",
            shm.lines, shm.unsafes, shm.orderings, socket.lines, socket.unsafes, socket.orderings
        ));
    }
    let header = ["source", "files", "lines of code", "unsafe", "orders of memory"].map(str::to_owned).into();
    let mut evidence = table(header, rows, line!["Counted without comments and tests:"]);
    match faults {
        Some((run, tried)) => {
            let rows = tried.iter().map(|tried| {
                let number = |number: u64| Value::word(number.to_string());
                let numbers = [tried.runs, tried.trials, tried.failures, tried.not_ok].map(number);
                std::iter::once(Value::word(tried.on.clone())).chain(numbers).collect()
            });
            let table = Table {
                header: ["over", "runs", "trials", "failed trials", "runs that failed or took too long"]
                    .map(str::to_owned)
                    .into(),
                rows: rows.collect(),
            };
            let link = Piece::Link { text: format!("{run}/faults.tsv"), to: format!("{run}/faults.tsv") };
            evidence.extend([
                Block::Text(line!["Faults that were tried, and how often that did not end as promised or not in the time allowed; each run is a row of ", link, ". Runs before a fault was mended count as well, and so do those of a busy machine."]),
                Block::Table(table),
            ]);
        }
        None => evidence.push(Block::Text(words_and_code("Faults: no run of `tests/soak.sh` lies beside this page."))),
    }
    claim(
        "complexity",
        "Shared memory: complexity, complex synchronization",
        rule.to_owned(),
        Verdict::of(holds, all),
        because,
        evidence,
        "source",
    )
}

/// “Rejected due to unnecessary overhead for local communication”.
fn http(record: &Record) -> Claim {
    let rule = "HTTP/1.1 over a Unix socket against today's bare Unix socket, both sleeping, in the same rounds: supported if the interval of the \
                ratio lies above one in every recorded kind of call, in part if in some.";
    let picked = most_met(record, "alternatives", |_| true);
    let ways = [("http-uds", "park"), ("http-tcp", "park"), ("tcp", "park")];
    let mut workloads: Vec<&str> = Vec::new();
    for row in picked.iter().flat_map(|picked| &picked.rows) {
        if row.trace().is_none() && !workloads.contains(&&row.workload[..]) {
            workloads.push(&row.workload);
        }
    }
    let (mut holds, mut all) = (0, 0);
    let mut rows = Vec::new();
    for (transport, wait) in ways {
        let find = |workload: &str| picked.as_ref()?.way(transport, wait, workload).filter(|row| !row.is_empty());
        let Some(first) = workloads.first().and_then(|workload| find(workload)) else { continue };
        let mut cells = vec![Value::word(words::way(first))];
        for workload in &workloads {
            let row = find(workload);
            cells.push(row.map_or_else(|| Value::word(words::DASH), words::to_uds));
            if let (true, Some(ends)) = (transport == "http-uds", row.and_then(ratio)) {
                all += 1;
                holds += usize::from(Order::of_ratio(ends) == Order::Slower);
            }
        }
        cells.push(find("trace:erc20").map_or_else(|| Value::word(words::DASH), words::whole));
        rows.push(cells);
    }
    let first = rows.first().map(|cells| cells[1].clone()).unwrap_or_default();
    let because = format!(
        "Slower in {holds} of {all} kinds of call; {} of today's time for {}",
        first.text,
        workloads.first().unwrap_or(&"one")
    );
    let because = joined(because, [first]);
    let header =
        std::iter::once("way").chain(workloads.iter().copied()).chain(["trace:erc20"]).map(str::to_owned).collect();
    let evidence = table(header, rows, line!["As a share of today's time, and the time of an execution:"]);
    claim(
        "http",
        "HTTP: unnecessary overhead for local communication",
        rule.to_owned(),
        Verdict::of(holds, all),
        because,
        evidence,
        "alternatives",
    )
}

/// “Consider implementing batching for multiple operations to reduce round-trip overhead”.
fn batching(record: &Record) -> Claim {
    let rule = "A call with the most recorded calls on their way at once against one alone, over the same way, by the 95 % intervals of their \
                medians: supported if faster over all recorded ways, in part if over some.";
    let picked = most_met(record, "flight", |_| true);
    let mut flights: Vec<u32> = picked.iter().flat_map(|picked| &picked.rows).map(|row| row.in_flight).collect();
    flights.sort_unstable();
    flights.dedup();
    let find = |(transport, wait): (&str, &str), in_flight: u32| {
        let same = |row: &Row| (&row.transport[..], &row.wait[..], row.in_flight) == (transport, wait, in_flight);
        picked.as_ref()?.one(same).filter(|row| !row.is_empty())
    };
    let recorded = WAYS.iter().filter(|way| flights.iter().any(|in_flight| find(**way, *in_flight).is_some()));
    let recorded: Vec<_> = recorded.copied().collect();
    let dash = || Value::word(words::DASH);
    let rows = flights.iter().map(|in_flight| {
        let cells = recorded.iter().map(|way| find(*way, *in_flight).map_or_else(dash, words::p50_interval));
        std::iter::once(Value::word(in_flight.to_string())).chain(cells).collect()
    });
    let rows = rows.collect();
    let (mut holds, mut all, mut told, mut values) = (0, 0, Vec::new(), Vec::new());
    let mut names = vec!["in flight".to_owned()];
    for way in &recorded {
        names.extend(flights.iter().find_map(|in_flight| find(*way, *in_flight)).map(words::way));
        let ends = flights.first().zip(flights.last()).filter(|(few, many)| few < many);
        let pair = ends.and_then(|(few, many)| find(*way, *many).zip(find(*way, *few)));
        let Some((many, few)) = pair else { continue };
        let value = compare::medians(many, few);
        told.push(format!("{}: {}", words::way(many), value.text));
        values.push(value);
        all += 1;
        holds += usize::from(Order::of_rows(many, few) == Some(Order::Faster));
    }
    let because = joined(format!("Faster over {holds} of {all} ways. {}", told.join("; ")), values);
    let mut evidence = table(names, rows, line!["Time for each call, with so many on their way:"]);
    evidence.extend(batches(record));
    claim(
        "batching",
        "Batching reduces round-trip overhead",
        rule.to_owned(),
        Verdict::of(holds, all),
        because,
        evidence,
        "flight",
    )
}

/// Whole executions whose reads go out together where they follow each other, if they were recorded.
fn batches(record: &Record) -> Vec<Block> {
    let Some(picked) = most_met(record, "batches", |_| true) else { return vec![] };
    let alone = most_met(record, "savings", |_| true).filter(|alone| alone.distance == picked.distance);
    let mut rows = Vec::new();
    for today in todays(record) {
        let pair = |(transport, wait): (&str, &str)| {
            let same = |row: &Row| {
                (&row.transport[..], &row.wait[..], row.cache, &row.workload)
                    == (transport, wait, None, &today.workload)
            };
            let one = picked.one(same).filter(|row| !row.is_empty())?;
            let other = alone.as_ref()?.one(same).filter(|row| !row.is_empty())?;
            Some(compare::executions(one, other))
        };
        let cells = WAYS.iter().map(|way| pair(*way).unwrap_or_else(|| Value::word(words::DASH)));
        rows.push(std::iter::once(Value::word(contract(today))).chain(cells).collect::<Vec<_>>());
    }
    let header =
        ["execution", "socket, sleeping", "socket, adaptive", "shm, sleeping", "shm, adaptive"].map(str::to_owned);
    let about = format!(
        "Whole executions, reads that follow each other sent together, for one at a time. That is the most that batches could win: a contract \
         would have to know all of these reads beforehand. {MARKS}"
    );
    table(header.into(), rows, words_and_code(&about))
}

fn ratio(row: &Row) -> Option<[f64; 2]> {
    Some([row.ratio_uds_low?, row.ratio_uds_high?])
}
