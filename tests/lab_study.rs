//! `transport-lab study`: each study runs to its end and its table is complete. No time is judged.
#![cfg(feature = "lab")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use support::{directory, watchdog};

#[test]
fn every_bell_is_measured_in_every_way() {
    let _watchdog = watchdog("every_bell_is_measured_in_every_way");
    let directory = directory();
    let csv = directory.path().join("bells.csv");
    let output = Command::new(env!("CARGO_BIN_EXE_transport-lab"))
        .args(["study", "doorbell", "--rounds", "1", "--time", "1", "--seed", "7", "--csv"])
        .arg(&csv)
        .output()
        .expect("transport-lab");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("seed 7"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");

    let text = std::fs::read_to_string(&csv).expect("CSV");
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    let rows: Vec<BTreeMap<_, _>> = lines
        .map(|fields| {
            assert_eq!(fields.len(), header.len(), "{fields:?}");
            header.iter().copied().zip(fields).collect()
        })
        .collect();
    let bells = ["socket", "socket poll", "eventfd", "eventfd poll", "futex", "raw_sync"];
    let split = std::thread::available_parallelism().expect("cores").get() > 1;
    let mut ways = vec![("ping-pong", "same"), ("parked", "same"), ("armed", "same"), ("unheard", "")];
    if split {
        ways.extend([("ping-pong", "split"), ("parked", "split"), ("armed", "split"), ("polled", "split")]);
    }
    let cells: BTreeSet<_> = rows.iter().map(|row| (row["bell"], row["pattern"], row["placement"])).collect();
    let want = bells.iter().flat_map(|bell| ways.iter().map(move |(pattern, placement)| (*bell, *pattern, *placement)));
    assert_eq!(cells, want.collect());
    assert_eq!(rows.len(), cells.len());
    for row in &rows {
        let number = |name: &str| row[name].parse::<f64>().unwrap_or_else(|_| panic!("{name} of {row:?}"));
        assert!(number("count") >= 1.0 && number("errors") == 0.0 && row["error"] == "\"\"", "{row:?}");
        let rings = ["ring_p50_ns", "ring_p99_ns", "ring_max_ns"].map(number);
        assert!(rings[0] > 0.0 && rings.is_sorted() && number("ratio") > 0.0, "{row:?}");
        if row["pattern"] != "unheard" {
            let trips = ["p50_ns", "p99_ns", "max_ns"].map(number);
            assert!(trips.is_sorted() && trips[0] >= rings[0], "{row:?}");
            assert!(number("far_cpu_ns") > 0.0 && number("far_switches") >= 0.0, "{row:?}");
        }
        assert_eq!(row["floor_ns"].is_empty(), row["placement"] != "split", "{row:?}");
        // Tried out by killing a peer; what raw_sync does then depends on the C library.
        let told = row["bell"].starts_with("socket") || row["bell"] == "eventfd poll";
        assert_eq!(row["wait_on_killed"], if told { "error" } else { "hangs" }, "{row:?}");
        match row["bell"] {
            "socket" | "socket poll" => assert_eq!(row["ring_killed"], "error"),
            "raw_sync" => assert!(["nothing", "hangs"].contains(&row["ring_killed"]), "{row:?}"),
            _ => assert_eq!(row["ring_killed"], "nothing"),
        }
    }
}

#[test]
fn a_table_that_cannot_be_written_is_said_before_anything_is_measured() {
    let _watchdog = watchdog("a_table_that_cannot_be_written_is_said_before_anything_is_measured");
    let output = Command::new(env!("CARGO_BIN_EXE_transport-lab"))
        .args(["study", "doorbell", "--csv", "/dev/null/rows.csv"])
        .output()
        .expect("transport-lab");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.starts_with("transport-lab: cannot write /dev/null/rows.csv"), "{err}");
}

/// Runs `transport-lab`, which has to succeed and say nothing on its standard error, and returns what it prints.
fn lab(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_transport-lab")).args(arguments).output().expect("transport-lab");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    out
}

#[test]
fn an_idle_connection_is_measured_over_every_transport() {
    let _watchdog = watchdog("an_idle_connection_is_measured_over_every_transport");
    let out = lab(&["study", "idle", "--time", "1", "--ring-kib", "64"]);
    let rows: Vec<Vec<&str>> = out.lines().take_while(|line| !line.is_empty()).skip(1).map(fields).collect();
    let ways: BTreeSet<_> = rows.iter().map(|row| (row[0], row[1], row[2])).collect();
    assert_eq!((ways.len(), rows.len()), (12, 12), "{out}");
    for row in rows {
        let kib: u64 = row[row.len() - 2].parse().expect("KiB");
        // Both rings were used; what else there is depends on the allocator.
        assert!(row[0] == "uds" || kib >= 128, "{out}");
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn lines_are_walked_with_and_without_work() {
    let _watchdog = watchdog("lines_are_walked_with_and_without_work");
    if std::thread::available_parallelism().expect("cores").get() < 2 {
        return; // lines are passed between two cores
    }
    let out = lab(&["study", "walk", "--rounds", "20", "--work", "0,1000"]);
    let trips = out.lines().filter_map(|line| line.split_once(" a ring each ")).map(|(_, row)| fields(row));
    let mut worked = 0;
    for row in trips.filter(|row| (row[1], row[2]) == ("1.00", "µs")) {
        // Both ends have worked for a microsecond each.
        assert!(row[7] == "ms" || row[7] == "µs" && row[6].parse::<f64>().expect("a time") > 1.0, "{out}");
        worked += 1;
    }
    assert!(worked > 0, "{out}");
    for way in ["one place ", "one ring ", "a place each "] {
        assert!(out.lines().any(|line| line.trim_start().starts_with(way)), "{out}");
    }
}

#[test]
fn a_record_is_a_directory_that_is_made_once() {
    let _watchdog = watchdog("a_record_is_a_directory_that_is_made_once");
    let directory = directory();
    let record = |into: &str| {
        let into = directory.path().join(into);
        Command::new(env!("CARGO_BIN_EXE_transport-lab")).args(["record", "--only", "idle"]).arg(into).output()
    };
    let listed = lab(&["record", "--list"]);
    assert!(listed.lines().filter(|line| line.contains("cargo lab ")).count() >= 10, "{listed}");
    std::fs::create_dir(directory.path().join("old")).expect("a directory");
    let output = record("old").expect("transport-lab");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("old is there"), "{said}");
}
