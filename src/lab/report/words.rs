//! How rows and their numbers are called. A number that a row does not have is a dash, a row that failed says so.

use super::page::Value;
use super::read::Row;
use crate::lab::table::{count, nanos, ratio_text};

/// A way to reach a host, in words: transport, wait, what serves; budgets, ring and cache are not in it.
pub(super) fn way(row: &Row) -> String {
    let transport = match &row.transport[..] {
        "uds" => "Unix socket",
        "shm" => "shared memory",
        "shm-named" => "named segments",
        "tcp" => "TCP",
        "genvm" => "Unix socket with GenVM's present client",
        "http-uds" => "HTTP/1.1 over a Unix socket",
        "http-tcp" => "HTTP/1.1 over TCP",
        other => other,
    };
    format!("{transport}, {}{}", wait(row), host(row))
}

/// The same for the margin of a plot, where there is little room.
pub(super) fn short_way(row: &Row) -> String {
    let transport = match &row.transport[..] {
        "uds" => "socket",
        "tcp" => "TCP",
        "genvm" => "GenVM's client",
        "http-uds" => "HTTP, socket",
        "http-tcp" => "HTTP, TCP",
        other => other,
    };
    format!("{transport}, {}{}", wait(row), host(row))
}

fn wait(row: &Row) -> &str {
    match &row.wait[..] {
        "park" => "sleeping",
        "spin" => "polled",
        other => other,
    }
}

fn host(row: &Row) -> &'static str {
    if row.host == "tokio" { ", tokio host" } else { "" }
}

/// The way, with the pages of its cache.
pub(super) fn cached_way(row: &Row) -> String {
    match row.cache {
        Some(bytes) => format!("{}, cached by {bytes}", way(row)),
        None => way(row),
    }
}

/// Where it was measured; nothing for the usual: a core each, one connection.
pub(super) fn distance(distance: Option<&str>) -> &str {
    match distance {
        Some("near") => "near cores",
        Some("far") => "far cores",
        Some("siblings") => "sibling threads",
        Some(other) => other,
        None => "no distance",
    }
}

/// All that tells the row from others of its table.
pub(super) fn full(row: &Row) -> String {
    let mut text = format!("{}: {}", cached_way(row), row.workload);
    if let (Some(spin), Some(yields)) = (row.spin_us, row.yield_us) {
        text += &format!(", {spin} + {yields} µs");
    }
    if let Some(kib) = row.ring_kib {
        text += &format!(", {kib} KiB");
    }
    text += &format!(", {}", row.placement);
    for (number, usual, unit) in [
        (row.think_us, 0, " µs of thinking"),
        (row.in_flight.into(), 1, " in flight"),
        (row.connections.into(), 1, " connections"),
    ] {
        if number != usual {
            text += &format!(", {number}{unit}");
        }
    }
    match &row.distance {
        Some(at) => format!("{text}, {}", distance(Some(at))),
        None => text,
    }
}

/// What a table prints of a row.
pub(super) type Measure = fn(&Row) -> Value;

pub(super) fn p50(row: &Row) -> Value {
    time(row, row.p50_ns, "p50_ns")
}

pub(super) fn p50_interval(row: &Row) -> Value {
    interval(row, nanos, [row.p50_ns, row.p50_low_ns, row.p50_high_ns], "p50_ns")
}

pub(super) fn mean(row: &Row) -> Value {
    time(row, row.mean_ns, "mean_ns")
}

pub(super) fn p99(row: &Row) -> Value {
    time(row, row.p99_ns, "p99_ns")
}

pub(super) fn p999(row: &Row) -> Value {
    time(row, row.p999_ns, "p999_ns")
}

/// A whole execution's time, or the median call's.
pub(super) fn whole(row: &Row) -> Value {
    time(row, row.time_ns(), if row.trace().is_some() { "execution_ns" } else { "p50_ns" })
}

/// Calls of an execution that came to the host.
pub(super) fn calls(row: &Row) -> Value {
    number(row, row.execution_calls.map(|calls| format!("{calls:.1} calls")), "execution_calls")
}

pub(super) fn cpu(row: &Row) -> Value {
    time(row, row.cpu_ns(), "client_cpu_ns + host_cpu_ns")
}

/// What the hypervisor gave to others of the machine's time while the row was measured.
pub(super) fn stolen(row: &Row) -> Value {
    number(row, row.steal.map(|share| format!("{:.1} %", share * 100.0)), "steal")
}

pub(super) fn rate(row: &Row) -> Value {
    number(row, row.calls_per_s.map(|rate| format!("{}/s", count(rate))), "calls_per_s")
}

pub(super) fn to_floor(row: &Row) -> Value {
    let ratios = [row.ratio_floor, row.ratio_floor_low, row.ratio_floor_high];
    interval(row, |ratio| format!("{} ×", ratio_text(ratio)), ratios, "ratio_floor")
}

pub(super) fn to_copy_floor(row: &Row) -> Value {
    number(row, row.ratio_copy_floor.map(|ratio| format!("{} ×", ratio_text(ratio))), "ratio_copy_floor")
}

pub(super) fn to_uds(row: &Row) -> Value {
    let ratios = [row.ratio_uds, row.ratio_uds_low, row.ratio_uds_high];
    interval(row, |ratio| format!("{} ×", ratio_text(ratio)), ratios, "ratio_uds")
}

/// A time that was chosen, not measured: all of its digits and no more.
pub(super) fn exactly(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns} ns"),
        ns if ns < 1e6 => format!("{} µs", ns / 1e3),
        ns if ns < 1e8 => format!("{} ms", ns / 1e6),
        ns => format!("{} s", ns / 1e9),
    }
}

fn time(row: &Row, ns: Option<f64>, column: &'static str) -> Value {
    number(row, ns.map(nanos), column)
}

fn number(row: &Row, text: Option<String>, column: &'static str) -> Value {
    if row.is_empty() {
        return Value::new(if row.errors > 0 { "failed" } else { "not measured" }, row, "error");
    }
    text.map_or_else(|| Value::word(DASH), |text| Value::new(text, row, column))
}

/// A number and, if the row has them, the ends of its interval: `391 ns (385–397)`.
fn interval(row: &Row, text: fn(f64) -> String, [at, low, high]: [Option<f64>; 3], column: &'static str) -> Value {
    let value = number(row, at.map(text), column);
    let (Some(low), Some(high)) = (low, high) else { return value };
    let (low, high) = (text(low), text(high));
    let unit = |text: &str| text.rsplit_once(' ').map(|(_, unit)| unit.to_owned());
    let (ours, theirs) = (unit(&value.text), [unit(&low), unit(&high)]);
    let bare = |text: &str| text.rsplit_once(' ').map_or_else(|| text.to_owned(), |(number, _)| number.to_owned());
    let ends = if theirs.iter().all(|unit| *unit == ours) { [bare(&low), bare(&high)] } else { [low, high] };
    match value.sources.is_empty() || row.is_empty() {
        true => value,
        false => Value { text: format!("{} ({}–{})", value.text, ends[0], ends[1]), ..value },
    }
}

pub(super) const DASH: &str = "–";
