//! A page, whatever it is written as: blocks of words and numbers. Each number knows the rows that it was taken from; `markdown`
//! and `html` print both.

use super::read::Row;

#[derive(Debug, Clone)]
pub(super) enum Block {
    /// 1 for the page's title, 2 for a section, 3 for a table.
    Heading(u8, String),
    Text(Line),
    List(Vec<Line>),
    Table(Table),
    /// By the name of its files.
    Figure {
        name: &'static str,
        title: String,
        caption: String,
    },
    /// As a program printed it, or to be typed.
    Printed(String),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Line(pub(super) Vec<Piece>);

#[derive(Debug, Clone)]
pub(super) enum Piece {
    Text(String),
    Strong(String),
    Code(String),
    Link { text: String, to: String },
    Value(Value),
}

/// A number as it is printed, with where it comes from; a word in its place has no source.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) sources: Vec<Source>,
}

/// A cell of a recorded table.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::lab) struct Source {
    pub(in crate::lab) part: String,
    /// As in [`Row::number`].
    pub(in crate::lab) row: usize,
    pub(in crate::lab) column: &'static str,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<Value>>,
}

impl Source {
    pub(super) fn of(row: &Row, column: &'static str) -> Self {
        Self { part: row.part.clone(), row: row.number, column }
    }
}

impl Value {
    pub(super) fn new(text: impl Into<String>, row: &Row, column: &'static str) -> Self {
        Self { text: text.into(), sources: vec![Source::of(row, column)] }
    }

    pub(super) fn word(text: impl Into<String>) -> Self {
        Self { text: text.into(), sources: Vec::new() }
    }

    /// Both, one after the other.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.text = format!("{}, {}", self.text, other.text);
        self.sources.extend(other.sources);
        self
    }
}

impl Table {
    /// The part that all numbers come from, if it is one.
    pub(super) fn part(&self) -> Option<&str> {
        let mut sources = self.rows.iter().flatten().flat_map(|value| &value.sources);
        let part = &sources.next()?.part;
        sources.all(|source| source.part == *part).then_some(part)
    }

    /// What heads the column of sources.
    pub(super) fn sources_header(&self) -> String {
        self.part().map_or_else(|| "rows".to_owned(), |part| format!("{part}.csv, rows"))
    }

    /// The rows of the recorded table that a line's numbers come from, from left to right: `3, 17` of one part, `hot:3` otherwise.
    pub(super) fn sources(&self, line: &[Value]) -> String {
        let one = self.part().is_some();
        let mut named: Vec<String> = Vec::new();
        for source in line.iter().flat_map(|value| &value.sources) {
            let name = if one { source.row.to_string() } else { source.to_string() };
            if !named.contains(&name) {
                named.push(name);
            }
        }
        named.join(", ")
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.part, self.row)
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self(vec![text.into()])
    }
}

impl From<&str> for Piece {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Piece {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for Piece {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// A [`Line`] of pieces: text, numbers, whatever becomes a [`Piece`].
macro_rules! line {
    ($($piece:expr),* $(,)?) => { $crate::lab::report::page::Line(vec![$($piece.into()),*]) };
}
pub(super) use line;
