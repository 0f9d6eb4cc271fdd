//! `transport-lab doctor`: in both formats, on a machine where everything works and where a limit keeps mechanisms from working.
#![cfg(feature = "lab")]

mod support;

use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use support::watchdog;

const MECHANISMS: [&str; 11] = [
    "sealed memfd",
    "seals hold",
    "futex",
    "eventfd",
    "SCM_RIGHTS",
    "peer credentials",
    "pidfd",
    "unix://",
    "shm://",
    "shm-named://",
    "tcp://",
];

/// Exit code and what it prints; it says nothing on its standard error.
fn doctor(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("transport-lab");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

fn lab() -> Command {
    Command::new(env!("CARGO_BIN_EXE_transport-lab"))
}

fn levels(findings: &Value) -> Vec<(&str, &str)> {
    let findings = findings.as_array().expect("findings").iter();
    let text = |value: &'_ Value| value.as_str().is_some_and(|text| !text.is_empty());
    findings
        .map(|finding| {
            assert!(text(&finding["seen"]), "{finding}");
            assert_eq!(
                text(&finding["advice"]),
                finding["level"] != "ok",
                "advice where there is something to do: {finding}"
            );
            (finding["what"].as_str().expect("what"), finding["level"].as_str().expect("level"))
        })
        .collect()
}

#[test]
fn a_table_for_people_and_every_field_for_programs() {
    let _watchdog = watchdog("a_table_for_people_and_every_field_for_programs");
    let (code, table) = doctor(lab().arg("doctor"));
    assert_eq!(code, Some(0), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80 && !line.contains('\x1b')), "{table}");
    assert!(table.contains("\nEvery mechanism works here; "), "{table}");

    let (code, json) = doctor(lab().args(["doctor", "--format", "json"]));
    assert_eq!(code, Some(0), "{json}");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["machine"]["debug_build"], cfg!(debug_assertions));
    assert_eq!(levels(&json["mechanisms"]), MECHANISMS.map(|name| (name, "ok")));
    let disturbances = levels(&json["disturbances"]);
    assert_eq!(disturbances[0], ("build", if cfg!(debug_assertions) { "problem" } else { "ok" }));
    for what in ["cores", "other programs", "stolen time", "clock", "mitigations", "/dev/shm", "CPU quota", "file size"]
    {
        assert!(disturbances.iter().any(|(named, _)| *named == what), "{what}: {disturbances:?}");
    }
    for (what, _) in disturbances.iter().chain(&MECHANISMS.map(|name| (name, ""))) {
        assert!(table.contains(&format!("  {what} ")), "{what}: {table}");
    }
}

#[test]
fn what_does_not_work_is_an_exit_code() {
    let _watchdog = watchdog("what_does_not_work_is_an_exit_code");
    // A segment is larger than a file of one block, which is all that is left to it; what makes none still works.
    let limited = format!("ulimit -f 1 && exec '{}' doctor --format json", env!("CARGO_BIN_EXE_transport-lab"));
    let (code, json) = doctor(Command::new("sh").args(["-c", &limited]));
    assert_eq!(code, Some(1), "{json}");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let failed = ["sealed memfd", "seals hold", "futex", "SCM_RIGHTS", "shm://", "shm-named://"];
    let expected = MECHANISMS.map(|name| (name, if failed.contains(&name) { "problem" } else { "ok" }));
    assert_eq!(levels(&json["mechanisms"]), expected);
    assert!(levels(&json["disturbances"]).contains(&("file size", "note")));
}

#[test]
fn one_core_is_said_to_be_one() {
    let _watchdog = watchdog("one_core_is_said_to_be_one");
    // The program inherits the affinity of the thread that starts it.
    let (code, json) = std::thread::scope(|scope| {
        let starting = scope.spawn(|| {
            let mut one = CpuSet::new();
            let allowed = sched_getaffinity(None).expect("an affinity");
            one.set((0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core)).expect("a core"));
            sched_setaffinity(None, &one).expect("one of those allowed");
            doctor(lab().args(["doctor", "--format", "json"]))
        });
        starting.join().expect("no panic")
    });
    assert_eq!(code, Some(0), "{json}");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let disturbances = levels(&json["disturbances"]);
    assert!(disturbances.contains(&("cores", "problem")), "{disturbances:?}");
    assert!(disturbances.iter().all(|(what, _)| !["siblings", "distance"].contains(what)), "{disturbances:?}");
}
