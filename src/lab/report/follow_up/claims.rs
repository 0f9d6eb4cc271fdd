//! What ADR-003 expects of its decision and of the rivals, as far as a record can say something about it: each claim with the rule that
//! decides it, the numbers that it is decided by, and what comes out.

use super::compare::{self, MARGIN, Order, joined};
use super::sufficient::sufficient;
use super::{MARKS, PAGE, Terms, WRITTEN, between, contract, is_public, percent};
use crate::lab::report::page::{Block, Line, Piece, Table, Value, line};
use crate::lab::report::pick::{Picked, most_met};
use crate::lab::report::read::{Record, Row};
use crate::lab::report::tables::words_and_code;
use crate::lab::report::words;

#[derive(Clone)]
pub(super) struct Claim {
    /// Of its part on the page.
    pub(super) name: &'static str,
    /// In the words of ADR-003, or near them.
    pub(super) said: &'static str,
    rule: String,
    pub(super) verdict: Verdict,
    /// What the verdict is from, in one cell.
    pub(super) because: Value,
    evidence: Vec<Block>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Supported,
    InPart,
    NotSupported,
    NotMeasured,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::InPart => "supported in part",
            Self::NotSupported => "not supported",
            Self::NotMeasured => "not measured in this record",
        }
    }

    /// Of as many cases as there are, in how many a claim holds.
    pub(super) fn of(holds: usize, all: usize) -> Self {
        match holds {
            _ if all == 0 => Self::NotMeasured,
            0 => Self::NotSupported,
            holds if holds == all => Self::Supported,
            _ => Self::InPart,
        }
    }
}

impl Claim {
    pub(super) fn blocks(&self) -> Vec<Block> {
        let strong = |text: &str| Piece::Strong(text.to_owned());
        let mut verdict = line![strong(&format!("Verdict: {}.", self.verdict.word()))];
        if self.verdict != Verdict::NotMeasured {
            verdict.0.extend([" ".into(), self.because.clone().into(), ".".into()]);
        }
        let mut rule = line![strong("Rule."), " "];
        rule.0.extend(words_and_code(&self.rule).0);
        [vec![Block::Text(rule), Block::Text(verdict)], self.evidence.clone()].concat()
    }
}

/// In the order of ADR-003.
pub(super) fn all(record: &Record, terms: &Terms) -> Vec<Claim> {
    vec![sufficient(record, terms), shared_memory(record), storage(record), bottleneck(record)]
}

/// “Shared memory may be faster for high-frequency operations”.
fn shared_memory(record: &Record) -> Claim {
    let rule = "Of a read of 32 bytes, at every recorded time between calls, shared memory against a Unix socket whose ends wait in the same \
                way: faster or slower where the 95 % intervals of the medians are apart, alike where not. Supported if it is faster in \
                all of them, in part if in some.";
    let picked = most_met(record, "think", |_| true);
    let find = |transport: &str, wait: &str, think_us: u64| {
        let same = |row: &Row| (&row.transport[..], &row.wait[..], row.think_us) == (transport, wait, think_us);
        picked.as_ref()?.one(same).filter(|row| !row.is_empty())
    };
    let mut thinks: Vec<u64> = picked.iter().flat_map(|picked| &picked.rows).map(|row| row.think_us).collect();
    thinks.sort_unstable();
    thinks.dedup();
    let waits = [("park", "sleeping"), ("adaptive", "adaptive"), ("spin", "polled")];
    let (mut alike_waits, mut today) = (Vec::new(), Vec::new());
    let mut faster = [(0, 0); 3];
    for think_us in thinks {
        let mut cells = vec![between(think_us)];
        for ((wait, _), faster) in waits.iter().zip(&mut faster) {
            let pair = find("shm", wait, think_us).zip(find("uds", wait, think_us));
            cells.push(pair.map_or_else(|| Value::word(words::DASH), |(shm, uds)| compare::medians(shm, uds)));
            if let Some(order) = pair.and_then(|(shm, uds)| Order::of_rows(shm, uds)) {
                faster.0 += usize::from(order == Order::Faster);
                faster.1 += 1;
            }
        }
        alike_waits.push(cells);
        let ratios = AGAINST_TODAY.iter().map(|(transport, wait)| {
            find(transport, wait, think_us).map_or_else(|| Value::word(words::DASH), words::to_uds)
        });
        today.push(std::iter::once(between(think_us)).chain(ratios).collect::<Vec<_>>());
    }
    let (holds, all) = faster.iter().fold((0, 0), |sum, faster| (sum.0 + faster.0, sum.1 + faster.1));
    let each = waits.iter().zip(faster).map(|((_, word), (holds, all))| format!("{holds} of {all} ({word} ends)"));
    let hot = ["adaptive", "park"].map(|wait| find("shm", wait, 0).zip(find("uds", wait, 0)));
    let because = format!("Faster at {} recorded times between calls", each.collect::<Vec<_>>().join(", "));
    let because = match hot {
        [Some(adaptive), Some(parked)] => {
            let [adaptive, parked] = [adaptive, parked].map(|(shm, uds)| compare::medians(shm, uds));
            let text = format!("{because}. With none between, adaptive: {}; sleeping: {}", adaptive.text, parked.text);
            joined(text, [adaptive, parked])
        }
        _ => Value::word(because),
    };
    let header =
        std::iter::once("between calls").chain(waits.iter().map(|(_, word)| *word)).map(str::to_owned).collect();
    let mut evidence = table(header, alike_waits, line!["Shared memory for Unix socket, by how both ends wait."]);
    let header =
        ["between calls", "socket, adaptive", "shm, sleeping", "shm, adaptive", "shm, polled"].map(str::to_owned);
    evidence.extend(table(
        header.into(),
        today,
        line!["As a share of today's time, the sleeping socket's in the same rounds:"],
    ));
    claim(
        "shared-memory",
        "Shared memory may be faster for high-frequency operations",
        rule.to_owned(),
        Verdict::of(holds, all),
        because,
        evidence,
        "think",
    )
}

/// “Having storage on GenVM side would yield better hot storage optimizations”.
fn storage(record: &Record) -> Claim {
    let rule = format!(
        "Over today's sleeping socket, a replayed execution with a cache of {PAGE}-byte pages on GenVM's side, writes kept for the end, against one without. Times of \
         executions have no recorded interval: less than {} apart counts as alike. Supported if it is faster in all, in part if in some.",
        percent(MARGIN)
    );
    let savings = most_met(record, "savings", |_| true);
    let mut rows = Vec::new();
    let (mut every, mut public) = (Saved::default(), Saved::default());
    for today in todays(record) {
        let find = |transport: &str, wait: &str, cache: Option<u32>| {
            let same = |row: &Row| {
                (&row.transport[..], &row.wait[..], row.cache, &row.workload)
                    == (transport, wait, cache, &today.workload)
            };
            savings.as_ref()?.one(same).filter(|row| !row.is_empty())
        };
        let pair = |one: Option<&Row>, other: Option<&Row>| {
            one.zip(other).map_or_else(|| Value::word(words::DASH), |(one, other)| compare::executions(one, other))
        };
        let (cached, adaptive) = (find("uds", "park", Some(PAGE)), find("uds", "adaptive", Some(PAGE)));
        let (shm, both) = (find("shm", "adaptive", None), find("shm", "adaptive", Some(PAGE)));
        let saved = cached.map_or_else(
            || Value::word(words::DASH),
            |cached| joined(format!("{} for {}", calls(cached).text, calls(today).text), [calls(cached), calls(today)]),
        );
        rows.push(vec![
            Value::word(contract(today)),
            saved,
            pair(cached, Some(today)),
            pair(adaptive, shm),
            pair(both, adaptive),
        ]);
        for saved in [Some(&mut every), is_public(today).then_some(&mut public)].into_iter().flatten() {
            saved.add(cached.map(|cached| (cached, today)), adaptive.zip(shm));
        }
    }
    let (holds, all) = (every.holds, every.all);
    let mut because = format!(
        "Faster in {holds} of {all} recorded contracts; over an adaptive socket, faster than adaptive shared memory without it in {}. Most, {}",
        every.fewer,
        every.most().text
    );
    let mut most = vec![every.most()];
    if public.all < every.all {
        because += &format!(
            ". Without {WRITTEN} {} of {}, and {}; most, {}",
            public.holds,
            public.all,
            public.fewer,
            public.most().text
        );
        most.push(public.most());
    }
    let because = joined(because, most);
    let header = [
        "execution",
        "calls, cached",
        "today's socket: cached for uncached",
        "adaptive: cached socket for uncached shm",
        "adaptive, both cached: shm for socket",
    ];
    let evidence = table(
        header.map(str::to_owned).into(),
        rows,
        words_and_code(&format!("Fewer calls and cheaper ones. {MARKS}")),
    );
    claim(
        "storage",
        "Having storage on GenVM side would yield better hot storage optimizations",
        rule,
        Verdict::of(holds, all),
        because,
        evidence,
        "savings",
    )
}

/// In how many executions a cache is faster than none, and than shared memory without one; and where it saves the most.
#[derive(Default)]
struct Saved<'a> {
    holds: usize,
    all: usize,
    fewer: usize,
    most: Option<(f64, (&'a Row, &'a Row))>,
}

impl<'a> Saved<'a> {
    fn add(&mut self, cached: Option<(&'a Row, &'a Row)>, adaptive: Option<(&Row, &Row)>) {
        let times = |(one, other): (&Row, &Row)| Some((one.execution_ns?, other.execution_ns?));
        let faster = |(one, other)| Order::of_bare(one, other) == Order::Faster;
        self.fewer += usize::from(adaptive.and_then(times).is_some_and(faster));
        let Some((pair, (ns, today))) = cached.and_then(|pair| Some((pair, times(pair)?))) else { return };
        self.all += 1;
        self.holds += usize::from(faster((ns, today)));
        if self.most.is_none_or(|(most, _)| ns / today < most) {
            self.most = Some((ns / today, pair));
        }
    }

    fn most(&self) -> Value {
        self.most.map_or_else(Value::default, |(_, (cached, today))| {
            let value = compare::executions(cached, today);
            Value { text: format!("{}: {}", contract(today), value.text), ..value }
        })
    }
}

/// “Potential bottleneck for high-throughput scenarios”.
fn bottleneck(record: &Record) -> Claim {
    let rule = format!(
        "Reads of 32 bytes a second over as many connections as were recorded at most, placed by the scheduler: supported if with both \
         kinds of host another way makes more of them than today's sleeping socket, in part if with one. Rates have no recorded \
         interval: less than {} apart counts as alike.",
        percent(MARGIN)
    );
    let (mut rows, mut because, mut holds, mut all) = (Vec::new(), Vec::new(), 0, 0);
    for host in ["thread", "tokio"] {
        let Some(picked) = most_met(record, "connections", |row| row.host == host) else { continue };
        let mut counts: Vec<u32> = picked.rows.iter().map(|row| row.connections).collect();
        counts.sort_unstable();
        counts.dedup();
        for &connections in &counts {
            let find = |transport: &str, wait: &str| {
                let same =
                    |row: &Row| (&row.transport[..], &row.wait[..], row.connections) == (transport, wait, connections);
                picked.one(same)
            };
            let rates = WAYS.map(|(transport, wait)| find(transport, wait));
            let mut cells = vec![
                Value::word(if host == "tokio" { "tokio" } else { "threads" }),
                Value::word(connections.to_string()),
            ];
            cells.extend(rates.map(|row| row.map_or_else(|| Value::word(words::DASH), words::rate)));
            rows.push(cells);
            let measured = || rates.iter().flatten().filter_map(|row| Some((*row, row.calls_per_s?)));
            let best = measured().max_by(|a, b| a.1.total_cmp(&b.1));
            let (Some(today), Some((best, rate)), true) = (rates[0], best, Some(&connections) == counts.last()) else {
                continue;
            };
            let Some(today_rate) = today.calls_per_s else { continue };
            all += 1;
            let more = Order::of_bare(1.0 / rate, 1.0 / today_rate) == Order::Faster;
            holds += usize::from(more);
            let (ours, theirs) = (words::rate(best), words::rate(today));
            because.push(if std::ptr::eq(best, today) {
                Value { text: format!("{}: {}, **as today**", words::way(today), theirs.text), ..theirs }
            } else {
                let word = if more { "more" } else { "alike" };
                let text = format!("{}: {} for today's {}, **{word}**", words::way(best), ours.text, theirs.text);
                joined(text, [ours, theirs])
            });
        }
    }
    let texts: Vec<_> = because.iter().map(|value| value.text.clone()).collect();
    let most = rows.last().map_or_else(String::new, |row: &Vec<Value>| row[1].text.clone());
    let because = joined(format!("The most with {most} connections, {}", texts.join("; ")), because);
    let header = ["host", "connections", "socket, sleeping", "socket, adaptive", "shm, sleeping", "shm, adaptive"];
    let evidence = table(header.map(str::to_owned).into(), rows, line!["Calls a second, of all connections:"]);
    claim(
        "bottleneck",
        "Potential bottleneck for high-throughput scenarios",
        rule,
        Verdict::of(holds, all),
        because,
        evidence,
        "connections",
    )
}

/// Without its rows a claim is not measured, and says what it lacks.
pub(super) fn claim(
    name: &'static str,
    said: &'static str,
    rule: String,
    verdict: Verdict,
    because: Value,
    evidence: Vec<Block>,
    part: &str,
) -> Claim {
    let measured = verdict != Verdict::NotMeasured;
    let because = if measured { because } else { Value::default() };
    let evidence = if measured { evidence } else { vec![Block::Text(super::lacks(part))] };
    Claim { name, said, rule, verdict, because, evidence }
}

pub(super) fn table(header: Vec<String>, rows: Vec<Vec<Value>>, about: Line) -> Vec<Block> {
    vec![Block::Text(about), Block::Table(Table { header, rows })]
}

/// Every recorded execution as it is today: a row for each trace.
pub(super) fn todays(record: &Record) -> Vec<&Row> {
    let today = |row: &Row| (&row.transport[..], &row.wait[..], row.cache) == ("uds", "park", None);
    let picked: Option<Picked<'_>> = most_met(record, "savings", |_| true);
    let rows = picked.into_iter().flat_map(|picked| picked.rows);
    rows.filter(|row| today(row) && row.execution_ns.is_some()).collect()
}

/// Calls without their name.
pub(super) fn calls(row: &Row) -> Value {
    let value = words::calls(row);
    Value { text: value.text.trim_end_matches(" calls").to_owned(), ..value }
}

/// Ways whose time is given as a share of today's.
const AGAINST_TODAY: [(&str, &str); 4] = [("uds", "adaptive"), ("shm", "park"), ("shm", "adaptive"), ("shm", "spin")];
/// Ways that are compared wherever they were recorded, today's first.
pub(super) const WAYS: [(&str, &str); 4] = [("uds", "park"), ("uds", "adaptive"), ("shm", "park"), ("shm", "adaptive")];
