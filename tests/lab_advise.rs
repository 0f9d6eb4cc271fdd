//! `lab advise` on recorded results: it advises what was measured to be best, on what a real replay has counted, and refuses what it
//! cannot know.
#![cfg(feature = "lab")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

fn lab(arguments: &[&str]) -> (Option<i32>, String, String) {
    let lab = Command::new(env!("CARGO_BIN_EXE_transport-lab")).args(arguments).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (lab.status.code(), text(lab.stdout), text(lab.stderr))
}

/// The newest recorded directory.
fn results() -> PathBuf {
    let folders = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/results")).expect("results/");
    let folders = folders.map(|entry| entry.expect("an entry").path());
    folders.filter(|folder| folder.join("savings.csv").exists()).max().expect("a record")
}

/// Advice, by whatever machine.
fn advise(arguments: &[&str]) -> (Option<i32>, Value, String) {
    let results = results();
    let always = ["advise", "--json", "--other-machine", "--results", results.to_str().expect("UTF-8")];
    let (code, out, err) = lab(&[&always, arguments].concat());
    (code, serde_json::from_str(&out).unwrap_or_default(), err)
}

fn recommended(arguments: &[&str]) -> String {
    let (code, advice, err) = advise(arguments);
    assert_eq!(code, Some(0), "{err}");
    advice["recommended"].as_str().expect("a recommendation").to_owned()
}

#[test]
fn the_model_is_as_near_to_what_was_measured_as_it_has_to_be() {
    let results = results();
    let (code, out, err) = lab(&["advise", "--check", "--results", results.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(0), "{out}\n{err}");
    assert!(out.contains("off by") && out.contains("decisions:"), "{out}");
}

#[test]
fn advice_follows_the_calls_and_the_execution_s_own_time() {
    // Hundreds of calls in a short execution: something pays. The same in one of five seconds: nothing does.
    assert_ne!(recommended(&["--trace", "llm_erc20", "--own-ms", "6.3"]), "stay");
    assert_eq!(recommended(&["--trace", "llm_erc20", "--own-ms", "5000"]), "stay");
    assert_eq!(recommended(&["--trace", "storage", "--own-ms", "200"]), "stay");
    // A larger share is harder to save: it takes more calls.
    let from = |share| {
        let (_, advice, err) = advise(&["--trace", "llm_erc20", "--own-ms", "6.3", "--share", share]);
        advice["choices"][1]["calls"].as_u64().unwrap_or_else(|| panic!("polling pays at some number: {advice} {err}"))
    };
    assert!(from("20") > from("5"));
    // At the break-even it saves the share, and a call before that it does not.
    let (_, advice, _) = advise(&["--trace", "llm_erc20", "--own-ms", "6.3"]);
    let (calls, all) =
        (advice["choices"][1]["calls"].as_f64().expect("a number"), advice["calls"].as_f64().expect("a number"));
    let today = advice["choices"][0]["waiting_ns"].as_f64().expect("a number") * calls / all;
    assert!((0.02..0.12).contains(&(today / (6.3e6 + today))), "{calls} calls are {today} ns of waiting");
}

/// One who computes for the whole core's time has nothing from polling, and what polls costs somebody who is waiting for the core.
#[test]
fn advice_minds_the_cores() {
    let saves = |parallel: &str| {
        let arguments = ["--trace", "llm_erc20", "--own-ms", "6.3", "--think-us", "1000", "--parallel", parallel];
        let (_, advice, err) = advise(&arguments);
        let choices = advice["choices"].as_array().unwrap_or_else(|| panic!("{err}"));
        let adaptive = choices.iter().find(|choice| choice["name"] == "socket, adaptive").expect("it is known");
        adaptive["saves"].as_f64().expect("a number")
    };
    assert!(saves("8") < saves("0.5"), "{} and {}", saves("8"), saves("0.5"));
}

#[test]
fn what_cannot_be_known_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("snapshots.jsonl");
    let path = file.to_str().expect("UTF-8");
    let snapshot = r#"{"transport":"unix","revision":"1","elapsed_ns":20000000,"waiting_ns":12000000,"methods":{"storage_read":{"calls":200,"sent_bytes":12400,"received_bytes":6600}}}"#;
    fs::write(&file, format!("{snapshot}\n").repeat(3)).expect("written");
    let (code, _, err) = advise(&[path]);
    assert!(code == Some(1) && err.contains("3 executions are too few"), "{err}");
    let (code, advice, err) = advise(&[path, "--few", "--cached", "80"]);
    assert_eq!(code, Some(0), "{err}");
    let number = |name: &str| advice[name].as_f64().expect("a number");
    for (name, expected) in [("calls", 200.0), ("own_ns", 8e6), ("think_us", 40.0), ("executions", 3.0)] {
        assert!((number(name) / expected - 1.0).abs() < 1e-9, "{name}: {}", number(name));
    }
    // A folder of such files is the same.
    let folder = directory.path().to_str().expect("UTF-8");
    assert_eq!(advise(&[folder, "--few", "--cached", "80"]).1, advice);
    fs::write(&file, "nonsense\n").expect("written");
    for (code, arguments, said) in [
        (1, &[path][..], "line 1: no snapshot"),
        (2, &["--trace", "erc20"], "--own-ms"),
        (2, &[], "SNAPSHOTS"),
        (1, &["--trace", "none", "--own-ms", "1"], "known: "),
        (1, &["/nowhere"], "cannot read"),
        (2, &["--trace", "erc20", "--own-ms", "1", "--share", "101"], "no share"),
    ] {
        let (got, _, err) = advise(arguments);
        assert!(got == Some(code) && err.contains(said), "{arguments:?}: {got:?}, {err}");
    }
    let empty = tempfile::tempdir().expect("a directory");
    let arguments =
        ["advise", "--trace", "storage", "--own-ms", "6", "--results", empty.path().to_str().expect("UTF-8")];
    let (code, _, err) = lab(&arguments);
    assert!(code == Some(1) && err.contains("commands.txt"), "{err}");
}

#[test]
fn results_of_another_machine_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["machine.txt", "commands.txt", "sizes.csv", "think.csv", "connect.csv"] {
        let text = fs::read_to_string(results().join(name)).expect("a file of the record");
        let text = if name == "machine.txt" { text.replace("\"cores\": 2", "\"cores\": 96") } else { text };
        fs::write(directory.path().join(name), text).expect("written");
    }
    let arguments =
        ["advise", "--trace", "storage", "--own-ms", "6", "--results", directory.path().to_str().expect("UTF-8")];
    let (code, _, err) = lab(&arguments);
    assert!(code == Some(1) && err.contains("96 cores") && err.contains("--other-machine"), "{err}");
    assert_eq!(lab(&[&arguments[..], &["--other-machine"]].concat()).0, Some(0));
}

#[test]
fn the_chart_of_break_evens_is_drawn() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("break-even.svg");
    recommended(&["--trace", "llm_erc20", "--own-ms", "6.3", "--plot", file.to_str().expect("UTF-8")]);
    let svg = fs::read_to_string(&file).expect("a picture");
    for word in ["<svg", "own time of an execution", "calls an execution", "shm, adaptive", "1 s"] {
        assert!(svg.contains(word), "{word}");
    }
}

/// What a real replay has counted gets the advice that the measured executions give.
#[cfg(feature = "metrics")]
#[test]
fn snapshots_of_replays_get_the_advice_that_was_measured() {
    // Of each trace five executions with as many calls, together, as those that were measured; none is a close decision.
    const ASKED: [(&str, &str, [f64; 2]); 8] = [
        ("erc20", "430..435", [0.5, 20.0]),
        ("llm_erc20", "41..46", [0.5, 1000.0]),
        ("treemap_1k", "18..23", [6.3, 1000.0]),
        ("dynarray_read", "3..8", [0.1, 20.0]),
        ("storage", "2..7", [0.1, 200.0]),
        ("user_storage", "115..120", [0.1, 1.0]),
        ("prediction_market", "13..18", [0.3, 200.0]),
        ("wizard_of_coin", "0..5", [0.1, 200.0]),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let mut advice = Vec::new();
    for (trace, executions, own) in ASKED {
        let file = directory.path().join(format!("{trace}.jsonl"));
        replay(trace, executions, directory.path(), &file);
        for own_ms in own {
            let (file, own) = (file.to_str().expect("UTF-8"), own_ms.to_string());
            let advised = recommended(&[file, "--own-ms", &own, "--think-us", "0", "--share", "10"]);
            assert_eq!(advised, measured(trace, own_ms * 1e6), "{trace}, {own} ms");
            advice.push(advised);
        }
    }
    let stays = advice.iter().filter(|advised| *advised == "stay").count();
    assert!(stays >= 3 && advice.len() - stays >= 3, "{advice:?}");
}

/// Plays a few executions against a host of its own, each counted.
#[cfg(feature = "metrics")]
fn replay(trace: &str, executions: &str, directory: &std::path::Path, snapshots: &std::path::Path) {
    let address = format!("unix://{}", directory.join("host.sock").display());
    let mut host = Command::new(env!("CARGO_BIN_EXE_transport-lab"))
        .args(["host", "--listen", &address, "--seed-trace", trace])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a host");
    let mut ready = String::new();
    let out = host.stdout.take().expect("its output");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut ready).expect("a line");
    let snapshots = snapshots.to_str().expect("UTF-8");
    let arguments =
        ["replay", "--connect", &address, "--trace", trace, "--executions", executions, "--snapshots", snapshots];
    let (code, _, err) = lab(&arguments);
    host.kill().and_then(|()| host.wait()).expect("it ends");
    assert_eq!(code, Some(0), "{err}");
}

/// The rule of the advice on what was measured: of the ways that make every call, in the order of what they ask for, each further one
/// has to save 10 % of today's execution more.
#[cfg(feature = "metrics")]
fn measured(trace: &str, own_ns: f64) -> String {
    const ORDER: [(&str, &str, &str); 6] = [
        ("uds", "park", "stay"),
        ("uds", "adaptive", "socket, adaptive"),
        ("uds", "spin", "socket, polled"),
        ("shm", "park", "shm, sleeping"),
        ("shm", "adaptive", "shm, adaptive"),
        ("shm", "spin", "shm, polled"),
    ];
    let mut table = csv::Reader::from_path(results().join("savings.csv")).expect("savings.csv");
    let rows: Vec<std::collections::HashMap<String, String>> =
        table.deserialize().map(|row| row.expect("a row")).collect();
    let mut best: Option<(&str, f64, f64)> = None;
    for (transport, wait, name) in ORDER {
        let row = rows.iter().find(|row| {
            let is = |column: &str, value: &str| row[column] == value;
            let cells = is("transport", transport) && is("wait", wait) && is("cache", "") && is("distance", "near");
            cells && is("workload", &format!("trace:{trace}")) && !is("execution_ns", "")
        });
        let Some(row) = row else { continue };
        let time = own_ns + row["execution_ns"].parse::<f64>().expect("a time");
        best = match best {
            None => Some((name, time, time)),
            Some((_, chosen, today)) if chosen - time >= 0.10 * today => Some((name, time, today)),
            other => other,
        };
    }
    best.expect("today's way was measured").0.to_owned()
}
