//! `lab report` on a small record of real rows: its pages are the ones that are committed, and whatever is changed by hand is found.
#![cfg(feature = "lab")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/report/record");
const FOLLOW_UP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/report/ADR-follow-up.md");
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/report/source.csv");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/report/README.md");

fn report(arguments: &[&str]) -> (Option<i32>, String, String) {
    let lab =
        Command::new(env!("CARGO_BIN_EXE_transport-lab")).arg("report").args(arguments).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (lab.status.code(), text(lab.stdout), text(lab.stderr))
}

/// A copy of the record and its README that a test may spoil.
struct Copy(TempDir);

impl Copy {
    fn new() -> Self {
        let copy = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir_all(copy.path("plots")).expect("mkdir");
        for folder in ["", "plots"] {
            for entry in
                fs::read_dir(Path::new(RECORD).join(folder)).expect("the record").map(|entry| entry.expect("a file"))
            {
                if entry.path().is_file() {
                    fs::copy(entry.path(), copy.path(folder).join(entry.file_name())).expect("a copy");
                }
            }
        }
        fs::copy(README, copy.readme()).expect("a copy");
        fs::copy(FOLLOW_UP, copy.follow_up()).expect("a copy");
        fs::copy(SOURCE, copy.0.path().join("source.csv")).expect("a copy");
        copy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("record").join(name)
    }

    fn readme(&self) -> PathBuf {
        self.0.path().join("README.md")
    }

    fn follow_up(&self) -> PathBuf {
        self.0.path().join("ADR-follow-up.md")
    }

    fn report(&self, options: &[&str]) -> (Option<i32>, String, String) {
        report(&[options, &[self.path("").to_str().expect("UTF-8")]].concat())
    }

    /// Renders, and reads the summary.
    fn summary(&self) -> String {
        let (code, out, err) = self.report(&[]);
        assert_eq!((code, &out[..]), (Some(0), ""), "{err}");
        fs::read_to_string(self.path("summary.md")).expect("a summary")
    }
}

fn edit(path: &Path, edit: impl FnOnce(String) -> String) {
    let old = fs::read_to_string(path).expect("a file");
    let new = edit(old.clone());
    assert_ne!(old, new, "nothing to edit in {}", path.display());
    fs::write(path, new).expect("written");
}

#[test]
fn the_committed_pages_are_what_the_data_give() {
    assert_eq!(report(&["--check", RECORD]), (Some(0), String::new(), String::new()));
    // A second rendering writes nothing, because it gives the same bytes.
    let copy = Copy::new();
    assert_eq!(copy.report(&[]), (Some(0), String::new(), String::new()));
}

#[test]
fn whatever_is_changed_by_hand_is_found() {
    let digit = |text: String| text.replacen("µs", "ms", 1);
    for file in ["summary.md", "index.html", "plots/think.svg", "plots/executions.svg"] {
        let copy = Copy::new();
        edit(&copy.path(file), digit);
        let (code, out, _) = copy.report(&["--check"]);
        assert!(code == Some(1) && out.starts_with("--- ") && out.contains(file), "{file}: {code:?} {out}");
        assert!(out.contains("\n-") && out.contains("\n+"), "{out}");
    }

    let copy = Copy::new();
    edit(&copy.readme(), digit);
    let (code, out, _) = copy.report(&["--check"]);
    assert!(code == Some(1) && out.contains("README.md\n"), "{code:?} {out}");

    // A number of the data alone makes every page that prints it differ.
    let copy = Copy::new();
    let shm = &rows(&copy.path("tails.csv"))
        .into_iter()
        .find(|row| (&row["transport"][..], &row["wait"][..]) == ("shm", "adaptive"));
    let p50 = shm.as_ref().expect("the row of the headline")["p50_ns"].clone();
    edit(&copy.path("tails.csv"), |text| text.replacen(&format!(",{p50},"), &format!(",{}1,", p50), 1));
    let (code, out, _) = copy.report(&["--check"]);
    assert_eq!(code, Some(1));
    for page in ["README.md\n", "summary.md\n", "index.html\n"] {
        assert!(out.contains(page), "{page}: {out}");
    }

    let copy = Copy::new();
    fs::remove_file(copy.path("plots/think.svg")).expect("removed");
    fs::write(copy.path("plots/mine.svg"), "").expect("written");
    let (code, out, _) = copy.report(&["--check"]);
    assert!(code == Some(1) && out.contains("missing: ") && out.contains("left over: "), "{out}");
}

#[test]
fn the_follow_up_has_no_number_that_the_data_do_not_give() {
    // In a part that is made.
    let copy = Copy::new();
    edit(&copy.follow_up(), |text| text.replacen("48.4 µs", "48.5 µs", 1));
    let (code, out, _) = copy.report(&["--check"]);
    assert!(code == Some(1) && out.contains("ADR-follow-up.md\n"), "{code:?} {out}");

    // In what people wrote, whether it is checked or written.
    for options in [&["--check"][..], &[]] {
        for number in ["takes 5 µs", "**5 %**", "a tenth, 0.1 ×", "after 300 calls"] {
            let copy = Copy::new();
            edit(&copy.follow_up(), |text| format!("{text}It {number} of it.\n"));
            let (code, out, err) = copy.report(options);
            assert!(code == Some(1) && out.is_empty() && err.contains(number), "{number}: {code:?} {out} {err}");
        }
    }

    // A part that was left out, and one that nobody makes.
    for spoil in [("begin verdicts -->", "begin share -->"), ("begin stages -->", "begin opinions -->")] {
        let copy = Copy::new();
        edit(&copy.follow_up(), |text| text.replacen(spoil.0, spoil.1, 1));
        let (code, _, err) = copy.report(&[]);
        assert!(code == Some(1) && err.contains("ADR-follow-up.md"), "{spoil:?}: {err}");
    }
}

#[test]
fn a_verdict_of_the_follow_up_turns_with_the_data() {
    let verdict = |copy: &Copy| {
        assert_eq!(copy.report(&[]).0, Some(0));
        let page = fs::read_to_string(copy.follow_up()).expect("a page");
        let line = page.lines().find(|line| line.contains("(#shared-memory)")).expect("its line").to_owned();
        (line, page)
    };
    let copy = Copy::new();
    let (line, page) = verdict(&copy);
    assert!(line.contains("**supported in part**"), "{line}");
    assert!(page.contains("Missing: this needs rows of the part `connections`."), "{page}");
    // Shared memory as slow as what it is compared with, and then some.
    edit(&copy.path("think.csv"), |text| {
        let mut lines = text.lines();
        let header = lines.next().expect("a header");
        let at = |name: &str| header.split(',').position(|column| column == name).expect("a column");
        let times = ["p50_ns", "p50_low_ns", "p50_high_ns"].map(at);
        let slower = lines.map(|line| {
            let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
            if cells[0] == "shm" {
                times.iter().for_each(|at| cells[*at] = "1e9".to_owned());
            }
            cells.join(",") + "\n"
        });
        format!("{header}\n{}", slower.collect::<String>())
    });
    let (line, page) = verdict(&copy);
    assert!(line.contains("**not supported**") && page.contains("**slower**"), "{line}");
}

#[test]
fn a_contract_that_was_written_for_the_set_is_told_apart() {
    let copy = Copy::new();
    edit(&copy.path("savings.csv"), |text| text.replace("trace:storage", "trace:treemap_1k"));
    assert_eq!(copy.report(&[]).0, Some(0));
    let page = fs::read_to_string(copy.follow_up()).expect("a page");
    assert!(page.contains("\n| treemap_1k † |") && page.contains("\n| erc20 |"), "{page}");
    for counts in
        ["faster in 2 of 2, slower in 0; without treemap_1k faster in 1 of 1", "; without treemap_1k, of 1: 0 at"]
    {
        assert!(page.contains(counts), "{counts}: {page}");
    }
}

/// What shared memory saves where the ends of the socket are adaptive already is said of calls: without connecting.
#[test]
fn what_is_left_for_shared_memory_is_without_connecting() {
    let copy = Copy::new();
    let think = fs::read_to_string(copy.path("think.csv")).expect("a table");
    let names: Vec<_> = think.lines().next().expect("a header").split(',').collect();
    let row = |transport: &'static str, p50: &'static str| {
        let cell = |name: &&str| match *name {
            "transport" => transport,
            "wait" => "adaptive",
            "host" => "thread",
            "workload" => "connect",
            "placement" => "split",
            "distance" => "near",
            "in_flight" | "connections" | "slices" => "1",
            "think_us" | "moved" | "errors" => "0",
            "p50_ns" => p50,
            _ => "",
        };
        names.iter().map(cell).collect::<Vec<_>>().join(",")
    };
    let connect = [&names.join(","), &row("uds", "100000"), &row("shm", "200000")].map(String::as_str).join("\n");
    fs::write(copy.path("connect.csv"), connect).expect("written");
    assert_eq!(copy.report(&[]).0, Some(0));
    let page = fs::read_to_string(copy.follow_up()).expect("a page");
    let line = page.lines().find(|line| line.starts_with("| erc20, both cached by 256 |")).expect("its line");
    let saved = number(line.split('|').nth(3).expect("a cell").trim());

    let cached = |transport: &str| {
        let rows = rows(&copy.path("savings.csv")).into_iter();
        let mut rows = rows.filter(|row| {
            (&row["transport"][..], &row["wait"][..], &row["cache"][..], &row["workload"][..])
                == (transport, "adaptive", "256", "trace:erc20")
        });
        let row = rows.next().expect("a row");
        ["execution_ns", "execution_calls"].map(|name| row[name].parse::<f64>().expect(name))
    };
    let ([socket, calls], [shm, _]) = (cached("uds"), cached("shm"));
    let expected = (socket - 100e3 - (shm - 200e3)) / calls;
    assert!((saved / expected - 1.0).abs() < 0.05, "{saved} for {expected} in {line}");
}

/// Every number of the headline's table stands in the row that its line names.
#[test]
fn a_number_is_in_the_row_that_is_named_behind_it() {
    let data = rows(&Path::new(RECORD).join("tails.csv"));
    let summary = fs::read_to_string(Path::new(RECORD).join("summary.md")).expect("a summary");
    let mut lines = summary
        .lines()
        .skip_while(|line| !line.contains("tails.csv, rows"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut seen = 0;
    for line in lines.by_ref() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let row = &data[cells[8].parse::<usize>().expect("one row")];
        let transport = if row["transport"] == "shm" { "shared memory" } else { "Unix socket" };
        assert!(cells[0].starts_with(transport), "{line}");
        let value = |name: &str| row[name].parse::<f64>().expect(name);
        let cpu = value("client_cpu_ns") + value("host_cpu_ns");
        assert_eq!(cells[5], format!("{:.1} %", value("steal") * 100.0), "{line}");
        let printed = [cells[1], cells[2], cells[3], cells[4], cells[6], cells[7]].map(number);
        let recorded =
            [value("p50_ns"), value("p99_ns"), value("p999_ns"), cpu, value("ratio_floor"), value("ratio_uds")];
        for (printed, recorded) in printed.iter().zip(recorded) {
            assert!((printed / recorded - 1.0).abs() < 0.05, "{printed} for {recorded} in {line}");
        }
        seen += 1;
    }
    assert_eq!(seen, 6, "{summary}");
}

#[test]
fn a_part_that_is_missing_is_said_to_be() {
    let copy = Copy::new();
    let summary = copy.summary();
    assert!(
        summary.contains("- Missing: the plot of latency by size of the value, which needs rows of the part `sizes`."),
        "{summary}"
    );
    assert!(summary.contains("- Missing: “How to wake a peer”, which needs rows of the part `doorbell`."), "{summary}");
    assert!(!summary.contains("the headline"), "{summary}");

    fs::remove_file(copy.path("tails.csv")).expect("removed");
    fs::remove_file(copy.path("tails.histograms.csv")).expect("removed");
    let summary = copy.summary();
    assert!(summary.contains("- Missing: the headline, which needs rows of the part `tails`."), "{summary}");
    assert!(summary.contains("plots/think.svg") && !summary.contains("plots/percentiles.svg"), "{summary}");
}

#[test]
fn a_row_that_failed_is_shown_as_failed() {
    let copy = Copy::new();
    edit(&copy.path("think.csv"), |text| {
        let names: Vec<_> = text.lines().next().expect("a header").split(',').collect();
        let failed = names.iter().map(|name| match *name {
            "transport" => "tcp",
            "wait" => "park",
            "host" => "thread",
            "workload" => "read:32",
            "placement" => "split",
            "think_us" => "50",
            "in_flight" | "connections" => "1",
            "slices" | "moved" | "calls" => "0",
            "errors" => "3",
            "error" => "\"refused, \"\"thrice\"\"\"",
            _ => "",
        });
        format!("{text}{}\n", failed.collect::<Vec<_>>().join(","))
    });
    let number = rows(&copy.path("think.csv")).len() - 1;
    let summary = copy.summary();
    assert!(summary.lines().any(|line| line.starts_with("| TCP, sleeping | – | failed |")), "{summary}");
    let said = format!(
        "- **Failed**: TCP, sleeping: read:32, split, 50 µs of thinking: 3 errors, the first [think:{number}]: `refused, \"thrice\"`."
    );
    for page in [summary, fs::read_to_string(copy.readme()).expect("a page")] {
        assert!(page.contains(&said), "{page}");
    }
}

#[test]
fn what_is_no_record_is_refused_with_its_reason() {
    let copy = Copy::new();
    edit(&copy.path("think.csv"), |text| text.replacen(",think_us,", ",thought,", 1));
    let (code, _, err) = copy.report(&[]);
    assert!(code == Some(1) && err.contains("think.csv") && err.contains("think_us"), "{err}");
    let (code, _, err) = report(&[copy.0.path().join("nothing").to_str().expect("UTF-8")]);
    assert!(code == Some(1) && err.contains("cannot read"), "{err}");
    let readme = copy.0.path().join("other.md");
    fs::write(&readme, "no markers").expect("written");
    let copy = Copy::new();
    let (code, _, err) = copy.report(&["--readme", readme.to_str().expect("UTF-8")]);
    assert!(code == Some(1), "{err}");
}

/// The rows of a table without quotes, by the names of its columns.
fn rows(path: &Path) -> Vec<HashMap<String, String>> {
    let text = fs::read_to_string(path).expect("a table");
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned));
    let names: Vec<_> = lines.next().expect("a header").collect();
    lines.map(|line| names.iter().cloned().zip(line).collect()).collect()
}

/// `5.32 µs (5.1–5.5)` in nanoseconds, `4.69 × (4.5–4.8)` as it is.
fn number(text: &str) -> f64 {
    let mut words = text.split(' ');
    let number: f64 = words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number: {text}"));
    number
        * match words.next() {
            Some("ns" | "×") => 1.0,
            Some("µs") => 1e3,
            Some("ms") => 1e6,
            unit => panic!("{unit:?} in {text}"),
        }
}
