//! The parts of `ADR-follow-up.md`, the page beside the records that takes up ADR-003: what each of its claims looks like in a record,
//! when something else pays, and what that does to the stages that are proposed. Everything that a measurement decides is said here,
//! by a rule that stands beside it; in what people write on the page there is no number of a measurement, which is checked.
//!
//! | file | what it does |
//! | --- | --- |
//! | `claims` | the consequences that ADR-003 expects, each with its rule, its numbers and a verdict |
//! | `sufficient` | the first of them, which is about whole executions |
//! | `rejected` | the same of what it rejects, and of batches |
//! | `compare` | which of two rows is faster, and how that is printed |
//! | `pays` | how many calls an execution must make before something else pays |
//! | `stages` | what is proposed, in order, and whether a record bears it out |
//! | `source` | how much source there is, and which faults were tried: from files beside the page |

mod claims;
mod compare;
mod pays;
mod rejected;
mod source;
mod stages;
mod sufficient;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};

use super::charts::Drawn;
use super::fill;
use super::machines;
use super::markdown;
use super::page::{Block, Line, Piece, Table, Value, line};
use super::pages;
use super::read::{Record, Row};
use super::words;
use claims::Claim;

/// What is weighed against what. That these are the right ones is argued in `docs/monitoring/README.md` and on the page.
struct Terms {
    /// The share of an execution's time from which on something is worth doing.
    share: f64,
    /// An execution of a WebAssembly contract that reads and writes nothing, in nanoseconds. The few calls of its start and end are in
    /// it, and among the recorded ones as well.
    fixed_ns: f64,
    fixed_calls: u32,
    /// S: what an interpreter may take beyond that to start and to run its contract, in nanoseconds. None is what WebAssembly has.
    starts_ns: [f64; 5],
}

const TERMS: Terms = Terms { share: 0.05, fixed_ns: 6.3e6, fixed_calls: 7, starts_ns: [0.0, 0.5e9, 1e9, 2e9, 5e9] };

/// All parts by their names: of a record, and whether the others say the same. `to` is the record, seen from the page.
pub(super) fn parts(
    record: &Record,
    others: &[Record],
    charts: &[Drawn],
    page: &Path,
    to: &str,
) -> Result<BTreeMap<String, String>> {
    let folder = page.parent().unwrap_or(Path::new(""));
    let (counted, faults) = (source::read(&folder.join("source.csv"))?, source::faults(folder)?);
    let claims = |record| [claims::all(record, &TERMS), rejected::all(record, &counted, faults.as_ref())].concat();
    let elsewhere: Vec<_> = others.iter().map(|other| (other.name.as_str(), claims(other))).collect();
    let claims = claims(record);
    let plots = format!("{to}/plots");
    let mut parts = BTreeMap::new();
    let mut put = |name: &str, blocks: &[Block]| {
        parts.insert(name.to_owned(), fill::block(&markdown::render(blocks, &plots)));
    };
    put("record", &[Block::Text(about(record, to))]);
    put("verdicts", &[Block::Table(verdicts(&claims, &elsewhere))]);
    put("machines", &elsewhere_blocks(record, others, to));
    for claim in &claims {
        put(claim.name, &claim.blocks());
    }
    put("break-even", &pays::blocks(record, &TERMS));
    put("stages", &stages::blocks(record, &TERMS));
    for (name, part) in PLOTS {
        let chart = charts.iter().flatten().find(|chart| chart.name == *name);
        let block = chart.map_or_else(|| Block::Text(lacks(part)), pages::figure);
        put(&format!("plot-{name}"), &[block]);
    }
    parts.insert("share".to_owned(), percent(TERMS.share));
    parts.insert("fixed".to_owned(), words::exactly(TERMS.fixed_ns));
    Ok(parts)
}

/// Fails if there are numbers on the page that nobody made.
pub(super) fn check(text: &str) -> Result<()> {
    let found = fill::unexplained(text)?;
    ensure!(found.is_empty(), "numbers with a unit outside of the parts that are made:\n{}", found.join("\n"));
    Ok(())
}

fn about(record: &Record, to: &str) -> Line {
    line![
        "The record is ",
        Piece::Link { text: record.name.clone(), to: format!("{to}/summary.md") },
        format!(": {}, commit ", record.machine()),
        Piece::Code(record.fact("commit").unwrap_or("not recorded").to_owned()),
        ". Behind numbers stand the rows that they are from: ",
        Piece::Code("think:3".to_owned()),
        " is row 3 of ",
        Piece::Code("think.csv".to_owned()),
        " in it, and row 0 the first below its header. Where rows have no part's name, the head of the column has it.",
    ]
}

/// What each claim looks like in this record, and in others.
fn verdicts(claims: &[Claim], elsewhere: &[(&str, Vec<Claim>)]) -> Table {
    let line = |(number, claim): (usize, &Claim)| {
        let verdict = |claim: &Claim| Value::word(format!("**{}**", claim.verdict.word()));
        let mut cells = vec![Value::word(format!("[{}](#{})", claim.said, claim.name)), verdict(claim)];
        cells.extend(elsewhere.iter().map(|(_, claims)| verdict(&claims[number])));
        cells.push(claim.because.clone());
        cells
    };
    let others = elsewhere.iter().map(|(name, _)| *name);
    let header = ["ADR-003", "this record"].into_iter().chain(others).chain(["because, in this record"]);
    Table { header: header.map(str::to_owned).collect(), rows: claims.iter().enumerate().map(line).collect() }
}

/// A hot call in every record, and what the others say of break-even and stages.
fn elsewhere_blocks(record: &Record, others: &[Record], to: &str) -> Vec<Block> {
    if others.is_empty() {
        return vec![Block::Text("No other record lies beside this one.".into())];
    }
    let records: Vec<_> = std::iter::once(record).chain(others).collect();
    let about = "A hot read of 32 bytes; rows are those of the record that a line names, and ratios of its own rounds.";
    let mut blocks = vec![Block::Text(about.into()), Block::Table(machines::hot(&records, to))];
    for other in others {
        let text =
            |what: &str| Block::Text(format!("{what} in {}, by its rows:", machines::link(other, to)).as_str().into());
        if let Some(table) = pays::hot(other, &TERMS) {
            blocks.extend([text("From how many calls on something else pays"), table]);
        }
        let steps = stages::steps(other);
        if !steps.is_empty() {
            blocks.extend([text("Each stage against the one before it"), Block::List(steps)]);
            blocks.extend(sufficient::beyond(other, &TERMS).map(Block::Text));
        }
    }
    blocks
}

fn lacks(part: &str) -> Line {
    line!["Missing: this needs rows of the part ", Piece::Code(part.to_owned()), "."]
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent < 0.1 => "< 0.1 %".to_owned(),
        percent if percent < 9.95 && percent.fract() > 0.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// What lies between two calls, in a table.
fn between(think_us: u64) -> Value {
    Value::word(if think_us == 0 { "none".to_owned() } else { words::exactly(think_us as f64 * 1e3) })
}

/// What the interpreter takes, in a heading.
fn starts(ns: f64) -> String {
    if ns == 0.0 { "S = 0 (WebAssembly)".to_owned() } else { format!("S = {}", words::exactly(ns)) }
}

/// A recorded contract, marked if it is none of the public ones.
fn contract(row: &Row) -> String {
    let name = row.trace().unwrap_or(&row.workload);
    let mark = match name {
        WRITTEN => " †",
        "escrow_evm" => " ‡",
        _ => "",
    };
    format!("{name}{mark}")
}

fn is_public(row: &Row) -> bool {
    row.trace() != Some(WRITTEN)
}

/// The contract that was written for the set of traces. Another is so in part: `benches/traces/README.md`.
const WRITTEN: &str = "treemap_1k";
/// What the marks of [`contract`] mean.
const MARKS: &str = "† Written for the set, ‡ in part.";
/// Of the caches that were recorded, the one that is shown: bytes of its pages.
const PAGE: u32 = 256;
/// Plots on the page, and the parts that they need.
const PLOTS: &[(&str, &str)] = &[
    ("think", "think"),
    ("cpu", "think"),
    ("executions", "cache"),
    ("connections", "connections"),
    ("connections-tokio", "connections"),
];
