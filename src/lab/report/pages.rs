//! What stands on which page: the whole record, and the short form of it for a README.

use super::charts::{Chart, Drawn};
use super::claims;
use super::machines;
use super::page::{Block, Line, Piece, Source, Table, Value, line};
use super::read::{PLAYED, Played, Record, Row};
use super::tables::{PRINTED, TABLES, ways, words_and_code};
use super::{targets, words};

/// The summary of a record: everything that it has, and what it has not.
pub(super) fn summary(record: &Record, charts: &[Drawn]) -> Vec<Block> {
    let mut missing: Vec<Line> = Vec::new();
    let mut blocks = vec![Block::Heading(1, format!("Record {}", record.name))];
    match top(record) {
        Some(top) => blocks.extend(top),
        None => missing.push(lacks("the headline", claims::HOT_PARTS[0])),
    }
    blocks.extend([
        Block::Text(line![
            "Behind each number stands the row that it is from, as ",
            Piece::Code("PART:ROW".into()),
            ": row 0 is the first below the header of ",
            Piece::Code("PART.csv".into()),
            ". ",
            Piece::Code("index.html".into()),
            " names the column as well. ",
            "Times of single calls include one reading of the clock, ratios leave it out."
        ]),
        Block::Heading(2, "Plots".to_owned()),
    ]);
    for chart in charts {
        match chart {
            Ok(chart) => blocks.push(figure(chart)),
            Err((title, part)) => missing.push(lacks(&format!("the plot of {title}"), part)),
        }
    }
    blocks.push(Block::Heading(2, "Tables".to_owned()));
    for table in TABLES {
        match table.blocks(record) {
            Some(table) => blocks.extend(table),
            None => missing.push(lacks(&format!("the table “{}”", table.title()), table.part)),
        }
    }
    if let Some(table) = targets::table(record) {
        let about = "Ratios that the design of shared memory was asked for, to the floor or to the sleeping socket in the same rounds, with the \
                     default wait. `results/README.md` says why some are missed.";
        blocks.extend([
            Block::Heading(3, "What was hoped for".to_owned()),
            Block::Text(words_and_code(about)),
            Block::Table(table),
        ]);
    }
    match played(record) {
        Some(table) => blocks.extend(table),
        None => missing.push(line!["Missing: which executions were played, ", Piece::Code(PLAYED.into()), "."]),
    }
    blocks.push(Block::Heading(2, "As printed".to_owned()));
    for (part, title) in PRINTED {
        match record.printed.get(*part) {
            Some(text) => blocks.extend([Block::Heading(3, (*title).to_owned()), Block::Printed(text.clone())]),
            None => missing.push(lacks(&format!("“{title}”"), part)),
        }
    }
    blocks.push(Block::Heading(2, "What failed, moved or is missing".to_owned()));
    blocks.push(Block::List([failures(record), moved(record), missing].concat()));
    blocks.extend(parameters(record));
    blocks
}

/// The short form: headline, its table, what else the numbers say, what failed, two plots, parameters. `to` is the record, seen
/// from the page.
pub(super) fn short(record: &Record, others: &[Record], charts: &[Drawn], to: &str) -> Vec<Block> {
    let mut blocks =
        top(record).unwrap_or_else(|| vec![Block::List(vec![lacks("the headline", claims::HOT_PARTS[0])])]);
    let link = |text: &str, file: &str| Piece::Link { text: text.to_owned(), to: format!("{to}/{file}") };
    blocks.push(Block::Text(line![
        "Behind each number stands the row that it is from: ",
        Piece::Code("compare:3".into()),
        " is row 3 of ",
        Piece::Code("compare.csv".into()),
        ", and row 0 the first below its header. All tables and plots: ",
        link("summary.md", "summary.md"),
        ", or as one page to open from disk, ",
        link("index.html", "index.html"),
        ".",
    ]));
    if !others.is_empty() {
        let records: Vec<_> = std::iter::once(record).chain(others).collect();
        let about = "The same call in the other records; rows are those of the record that a line names, and ratios of its own rounds.";
        blocks.extend([Block::Text(about.into()), Block::Table(machines::hot(&records, to))]);
    }
    let failures = failures(record);
    if !failures.is_empty() {
        blocks.push(Block::List(failures));
    }
    blocks.extend(charts.iter().flatten().filter(|chart| SHOWN.contains(&chart.name)).map(figure));
    blocks.extend(parameters(record));
    blocks
}

/// The headline, the table that it is from, and the other claims.
fn top(record: &Record) -> Option<Vec<Block>> {
    let headline = claims::headline(record)?;
    let picked = claims::hot(record)?;
    let mut blocks = vec![Block::Text(headline), Block::Table(ways(&picked.rows))];
    let claims = claims::claims(record);
    if !claims.is_empty() {
        blocks.push(Block::List(claims));
    }
    Some(blocks)
}

pub(super) fn figure(chart: &Chart) -> Block {
    Block::Figure { name: chart.name, title: chart.title.clone(), caption: chart.caption.clone() }
}

fn lacks(what: &str, part: &str) -> Line {
    line!["Missing: ", what.to_owned(), ", which needs rows of the part ", Piece::Code(part.to_owned()), "."]
}

/// Every row with an error, and every command that did not end well.
fn failures(record: &Record) -> Vec<Line> {
    let rows = record.parts.values().flat_map(|part| &part.rows).filter(|row| row.errors > 0);
    let row = |row: &Row| {
        let error = row.error.as_deref().unwrap_or("unknown error");
        let what = if row.is_empty() { "Failed" } else { "Failed in some rounds" };
        let errors = Value::new(format!("{} errors, the first", row.errors), row, "errors");
        line![strong(what), format!(": {}: ", words::full(row)), errors, ": ", Piece::Code(error.to_owned()), "."]
    };
    let commands = record.commands.iter().filter(|command| !command.outcome.ends_with("exit status: 0"));
    let command = commands.map(|command| {
        line![
            strong("Did not end well"),
            ": the part ",
            Piece::Code(command.part.clone()),
            format!(", {}.", command.outcome)
        ]
    });
    rows.map(row).chain(command).collect()
}

/// The executions that stand for each trace, and how many calls they have.
fn played(record: &Record) -> Option<Vec<Block>> {
    let mut traces: Vec<&str> = record.played.iter().map(|played| &played.trace[..]).collect();
    traces.dedup();
    let line = |trace: &&str| {
        let of_trace = record.played.iter().enumerate().filter(|(_, played)| played.trace == *trace);
        let (rows, played): (Vec<usize>, Vec<_>) = of_trace.unzip();
        let value = |text: String, column| {
            let sources =
                rows.iter().map(|row| Source { part: PLAYED.trim_end_matches(".csv").into(), row: *row, column });
            Value { text, sources: sources.collect() }
        };
        let list = |number: fn(&Played) -> usize| {
            played.iter().map(|played| number(played).to_string()).collect::<Vec<_>>().join(", ")
        };
        let mean = played.iter().map(|played| played.calls).sum::<usize>() as f64 / played.len() as f64;
        let all = played[0].of_calls as f64 / played[0].of_executions as f64;
        vec![
            Value::word(*trace),
            value(list(|played| played.execution), "execution"),
            value(list(|played| played.calls), "calls"),
            value(format!("{mean:.1}"), "calls"),
            value(format!("{all:.1} of {}", played[0].of_executions), "of_calls / of_executions"),
        ]
    };
    let header = ["trace", "executions", "calls of each", "mean", "mean of all"].map(str::to_owned).into();
    let table = Table { header, rows: traces.iter().map(line).collect() };
    let about = "Whole executions are of these, played in turn.";
    (!traces.is_empty()).then(|| {
        vec![
            Block::Heading(3, "The executions that were played".to_owned()),
            Block::Text(about.into()),
            Block::Table(table),
        ]
    })
}

/// How many slices each part has, and how many are in no row.
fn moved(record: &Record) -> Vec<Line> {
    let each = record.parts.iter().map(|(name, part)| {
        let slices: u64 = part.rows.iter().map(|row| row.slices).sum();
        // A cell counts what moved in each of its rows.
        let mut cells: Vec<(String, u64)> =
            part.rows.iter().map(|row| (words::full(&Row { distance: None, ..row.clone() }), row.moved)).collect();
        cells.dedup();
        let moved: u64 = cells.iter().map(|(_, moved)| moved).sum();
        format!("{name} {moved} of {}", slices + moved)
    });
    let text = each.collect::<Vec<_>>().join(", ");
    vec![line![strong("Left out"), format!(", because the cores moved meanwhile, of the slices of each part: {text}.")]]
}

/// Machine, kernel, commit, how to repeat.
fn parameters(record: &Record) -> Vec<Block> {
    let mut facts = vec![line!["Machine: ", record.machine().to_owned(), "."]];
    for (name, label) in [("kernel", "Kernel"), ("commit", "Commit"), ("rustc", "Compiler")] {
        let text = record.fact(name).map_or_else(|| "not recorded".to_owned(), str::to_owned);
        facts.push(line![format!("{label}: "), Piece::Code(text), "."]);
    }
    facts.push(words_and_code(
        "Repeat: `cargo lab-peers record` makes a new directory of this kind; `cargo lab report DIRECTORY` makes its pages. Numbers move \
         with the machine; ratios of one run move less.",
    ));
    let width = record.commands.iter().map(|command| command.part.len()).max().unwrap_or(0);
    let commands = record
        .commands
        .iter()
        .map(|command| format!("{:width$}  {}  # {}\n", command.part, command.command, command.outcome));
    vec![Block::Heading(2, "Parameters".to_owned()), Block::List(facts), Block::Printed(commands.collect())]
}

fn strong(text: &str) -> Piece {
    Piece::Strong(text.to_owned())
}

/// Plots of the short form.
const SHOWN: &[&str] = &["think", "executions"];
