//! Pages in Markdown.

use super::page::{Block, Line, Piece, Table};

/// All blocks; `plots` is where their figures lie, seen from the page.
pub(super) fn render(blocks: &[Block], plots: &str) -> String {
    let blocks = blocks.iter().map(|block| match block {
        Block::Heading(level, text) => format!("{} {text}\n", "#".repeat(usize::from(*level))),
        Block::Text(text) => line(text) + "\n",
        Block::List(lines) => lines.iter().map(|text| format!("- {}\n", line(text))).collect(),
        Block::Table(rows) => table(rows),
        Block::Figure { name, title, caption } => {
            format!("![{title}]({plots}/{name}.svg)\n\n*{title}.* {caption} [Data]({plots}/{name}.csv).\n")
        }
        Block::Printed(text) => format!("```text\n{}\n```\n", text.trim_end()),
    });
    blocks.collect::<Vec<_>>().join("\n")
}

fn line(line: &Line) -> String {
    let pieces = line.0.iter().map(|piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Strong(text) => format!("**{text}**"),
        Piece::Code(text) => format!("`{text}`"),
        Piece::Link { text, to } => format!("[{text}]({to})"),
        Piece::Value(value) => {
            let mut sources: Vec<_> = value.sources.iter().map(ToString::to_string).collect();
            sources.dedup();
            if sources.is_empty() { value.text.clone() } else { format!("{} [{}]", value.text, sources.join(", ")) }
        }
    });
    pieces.collect()
}

fn table(table: &Table) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = row(table.header.iter().cloned().chain([table.sources_header()]).collect());
    let sentences = |column: usize| table.rows.iter().any(|row| row[column].text.chars().count() > SENTENCE);
    let rule = |column: usize| if column == 0 || sentences(column) { " --- |" } else { " ---: |" };
    out += &format!("|{} --- |\n", (0..table.header.len()).map(rule).collect::<String>());
    for line in &table.rows {
        out += &row(line.iter().map(|value| value.text.clone()).chain([table.sources(line)]).collect());
    }
    out
}

/// Letters from which on a cell is text to be read rather than numbers to be compared.
const SENTENCE: usize = 60;
