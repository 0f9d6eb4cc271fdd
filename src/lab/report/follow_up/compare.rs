//! Which of two rows is faster, told from their intervals, and how that is printed.

use crate::lab::report::page::Value;
use crate::lab::report::read::Row;
use crate::lab::report::words;
use crate::lab::table::nanos;

/// How the first of two compares with the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Faster,
    /// The record does not tell them apart.
    Alike,
    Slower,
}

impl Order {
    fn of(ends: [f64; 2], others: [f64; 2]) -> Self {
        match (ends, others) {
            ([_, high], [low, _]) if high < low => Self::Faster,
            ([low, _], [_, high]) if low > high => Self::Slower,
            _ => Self::Alike,
        }
    }

    /// Of a share of the other's time, or of the other's time for one thing, by an interval of it.
    pub(super) fn of_ratio(ends: [f64; 2]) -> Self {
        Self::of(ends, [1.0; 2])
    }

    /// Of two times, or of the inverse of two rates, that were recorded without an interval.
    pub(super) fn of_bare(one: f64, other: f64) -> Self {
        Self::of([one, one], [other * (1.0 - MARGIN), other * (1.0 + MARGIN)])
    }

    /// Of two medians by their intervals.
    pub(super) fn of_rows(one: &Row, other: &Row) -> Option<Self> {
        Some(Self::of(ends(one)?, ends(other)?))
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Alike => "alike",
            Self::Slower => "slower",
        }
    }
}

fn ends(row: &Row) -> Option<[f64; 2]> {
    Some([row.p50_low_ns?, row.p50_high_ns?])
}

/// `361 ns for 5.18 µs, faster`.
pub(super) fn medians(one: &Row, other: &Row) -> Value {
    let (one_text, other_text) = (words::p50(one), words::p50(other));
    let order = Order::of_rows(one, other).map_or("not compared", Order::word);
    joined(format!("{} for {}, **{order}**", one_text.text, other_text.text), [one_text, other_text])
}

/// The same of whole executions.
pub(super) fn executions(one: &Row, other: &Row) -> Value {
    let (one_text, other_text) = (words::whole(one), words::whole(other));
    let order = one.execution_ns.zip(other.execution_ns).map(|(one, other)| Order::of_bare(one, other));
    let order = order.map_or("not compared", Order::word);
    joined(format!("{} for {}, **{order}**", one_text.text, other_text.text), [one_text, other_text])
}

/// A text that is made of these.
pub(super) fn joined(text: String, values: impl IntoIterator<Item = Value>) -> Value {
    Value { text, sources: values.into_iter().flat_map(|value| value.sources).collect() }
}

/// A time that was computed from others, which may be less than nothing.
pub(super) fn difference(ns: f64) -> String {
    if ns < 0.0 { format!("−{}", nanos(-ns)) } else { nanos(ns) }
}

/// What lies nearer to each other than this share is not told apart where no interval was recorded.
pub(super) const MARGIN: f64 = 0.1;
