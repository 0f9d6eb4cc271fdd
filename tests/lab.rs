//! `transport-lab` as its users meet it: separate processes, their output and their exit codes.
#![cfg(feature = "lab")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use genvm_transport::protocol::{Environment, HostState, Protocol, ServeError, serve_blocking};
use support::{directory, watchdog};

fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_transport-lab"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = lab(arguments).output().expect("transport-lab");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A running `lab host`; killed with the value.
struct Host {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Host {
    fn start(arguments: &[&str]) -> Self {
        let mut child = lab(&["host"]).args(arguments).stdout(Stdio::piped()).spawn().expect("transport-lab host");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        assert!(line.starts_with("listening on "), "{line:?}");
        Self { child, output }
    }

    fn signal(&mut self, signal: rustix::process::Signal) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("kill");
        self.child.wait().expect("wait").code()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("read_dir");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn executions_replay_and_verify_over_every_transport() {
    let _watchdog = watchdog("executions_replay_and_verify_over_every_transport");
    for scheme in ["unix", "shm", "shm-named"] {
        for kind in ["thread", "tokio"] {
            let directory = directory();
            let address = format!("{scheme}://{}/host.sock", directory.path().display());
            let mut host = Host::start(&["--listen", &address, "--seed-trace", "llm_erc20", "--host", kind]);
            let replay = ["replay", "--connect", &address, "--trace", "llm_erc20", "--verify", "--seeded"];
            let (code, out, err) = run(&replay);
            assert_eq!((code, err.as_str()), (0, ""), "{scheme} {kind}");
            assert!(out.contains("66 executions, 9350 calls"), "{out}");
            assert!(out.contains("verified: 8525 reads"), "{out}");
            // The state has moved on: the same model does not fit any more, and the place is named.
            let (code, _, err) = run(&replay);
            assert_eq!(code, 1);
            assert!(err.starts_with("transport-lab: execution 0, call "), "{err}");
            assert_eq!(host.signal(rustix::process::Signal::INT), Some(0));
            assert_eq!(entries(directory.path()), Vec::<String>::new());
        }
    }
}

#[test]
fn an_unseeded_host_reads_zeros_and_keeps_or_drops_failures() {
    let _watchdog = watchdog("an_unseeded_host_reads_zeros_and_keeps_or_drops_failures");
    for failed in ["drop", "keep"] {
        let directory = directory();
        let address = format!("unix://{}/host.sock", directory.path().display());
        let _host = Host::start(&["--listen", &address, "--failed", failed]);
        let replay = ["replay", "--connect", &address, "--trace", "upgradable_storage", "--verify", "--failed", failed];
        let (code, out, err) = run(&replay);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
    }
}

#[test]
fn a_range_of_executions_and_a_file_play_alike() {
    let _watchdog = watchdog("a_range_of_executions_and_a_file_play_alike");
    let directory = directory();
    let address = format!("unix://{}/host.sock", directory.path().display());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/traces/storage.csv.gz");
    for source in [["--trace", "storage"], ["--trace-file", file]] {
        let _host = Host::start(&["--listen", &address, "--seed-trace", "storage", "--first-execution", "10"]);
        let (code, out, err) =
            run(&[&["replay", "--connect", &address, "--executions", "10..14", "--verify", "--seeded"], &source[..]]
                .concat());
        assert_eq!((code, err.as_str()), (0, ""), "{source:?}");
        assert!(out.contains("4 executions"), "{out}");
    }
}

#[test]
fn executions_replay_at_revision_2() {
    let _watchdog = watchdog("executions_replay_at_revision_2");
    let verified = ["--executions", "0..20", "--verify", "--seeded", "--revision", "2"];
    for (scheme, cache) in [("unix", &[][..]), ("shm", &["--cache", "32", "--cache-writes", "deferred"])] {
        let directory = directory();
        let address = format!("{scheme}://{}/host.sock", directory.path().display());
        let _host = Host::start(&["--listen", &address, "--seed-trace", "erc20", "--revision", "2"]);
        let replay = ["replay", "--connect", &address, "--trace", "erc20"];
        let (code, out, err) = run(&[&replay, &verified[..], cache].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.contains("verified: ") && out.contains("calls that GenVM does not make at revision 2"), "{out}");
        // Who speaks another revision than the host is found out.
        let (code, out, err) = run(&[&replay[..], &["--executions", "0..1"]].concat());
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("get_calldata") || err.contains("storage_read"), "{err}");
    }
    let address = ["replay", "--connect", "unix:///nowhere", "--trace", "erc20", "--revision", "2", "--cache", "32"];
    let (code, _, err) = run(&address);
    assert!(code == 1 && err.contains("--cache-writes deferred"), "{err}");
}

#[test]
fn nobody_has_to_read_what_it_prints() {
    let _watchdog = watchdog("nobody_has_to_read_what_it_prints");
    let directory = directory();
    let address = format!("unix://{}/host.sock", directory.path().display());
    let _host = Host::start(&["--listen", &address, "--seed-trace", "storage"]);
    let mut replay = lab(&["replay", "--connect", &address, "--trace", "storage", "--executions", "0..3"]);
    let mut replay = replay.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("transport-lab replay");
    drop(replay.stdout.take());
    let output = replay.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn a_cache_saves_the_calls_that_the_trace_says_and_changes_no_byte() {
    let _watchdog = watchdog("a_cache_saves_the_calls_that_the_trace_says_and_changes_no_byte");
    // Counted in the CSV file by another program.
    for (writes, saved) in [
        ("through", "32.7 calls instead of 141.7; 20.2 reads instead of 129.2, 8.7 writes instead of 8.7;"),
        ("deferred", "30.3 calls instead of 141.7; 19.9 reads instead of 129.2, 6.6 writes instead of 8.7;"),
    ] {
        let directory = directory();
        let address = format!("shm://{}/host.sock", directory.path().display());
        let _host = Host::start(&["--listen", &address, "--seed-trace", "llm_erc20"]);
        let replay = ["replay", "--connect", &address, "--trace", "llm_erc20", "--verify", "--seeded"];
        let (code, out, err) = run(&[&replay[..], &["--cache", "32", "--cache-writes", writes]].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.contains("verified: 8525 reads"), "{out}");
        assert!(out.contains(&format!("an execution with the cache: {saved}")), "{out}");
    }
    let (code, _, err) = run(&["replay", "--connect", "unix:///x", "--trace", "storage", "--cache", "48"]);
    assert_eq!((code, err.contains("neither 0 nor a power of two from 32 to 4096")), (1, true), "{err}");
}

#[test]
fn a_lie_is_found_and_its_place_named() {
    let _watchdog = watchdog("a_lie_is_found_and_its_place_named");
    let directory = directory();
    let path = directory.path().join("host.sock");
    let listener = UnixListener::bind(&path).expect("bind");
    let host = std::thread::spawn(move || {
        let state = HostState::new();
        let mut executions = 0;
        while executions < 3 {
            let (stream, _) = listener.accept().expect("accept");
            let environment = Environment { account_from_first_read: true, ..Environment::default() };
            // Execution 2 gets its 30th byte of an answer wrong: beyond the first calls, which are a few bytes each.
            let mut stream = Lying { stream, left: if executions == 2 { 30 } else { usize::MAX } };
            let served = serve_blocking(&mut stream, &mut state.begin(environment), &Protocol::ONE);
            // A client that prefers shared memory asks for it first, in vain.
            if !matches!(served, Err(ServeError::Protocol(_))) {
                executions += 1;
            }
        }
    });
    let address = format!("unix://{}", path.display());
    let (code, _, err) = run(&["replay", "--connect", &address, "--trace", "erc20", "--verify"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("transport-lab: execution 2, call "), "{err}");
    host.join().expect("no panic");
}

/// Flips a bit of one byte that it sends.
struct Lying {
    stream: std::os::unix::net::UnixStream,
    left: usize,
}

impl Read for Lying {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(out)
    }
}

impl Write for Lying {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut bytes = bytes.to_vec();
        if let Some(byte) = bytes.get_mut(self.left) {
            *byte ^= 1;
        }
        self.left = self.left.checked_sub(bytes.len()).unwrap_or(usize::MAX);
        self.stream.write_all(&bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_killed_host_fails_the_replay_and_leaves_nothing() {
    let _watchdog = watchdog("a_killed_host_fails_the_replay_and_leaves_nothing");
    for scheme in ["unix", "shm", "shm-named"] {
        let directory = directory();
        let address = format!("{scheme}://{}/host.sock", directory.path().display());
        let mut host = Host::start(&["--listen", &address]);
        let names = || support::shm_names().into_iter().filter(|name| name.contains(&format!("-{}-", host.child.id())));
        // The same trace over and over, until the host is gone.
        let replay = ["replay", "--connect", &address, "--trace", "treemap_1k"];
        let mut replaying = lab(&replay).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("transport-lab");
        // Once the host has burnt a little time serving, the replay is under way.
        let busy = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", replaying.id())).expect("stat");
            let fields: Vec<_> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
            fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
        };
        while busy() < 3 {
            std::thread::yield_now();
        }
        assert_eq!(names().count(), 0);
        host.signal(rustix::process::Signal::KILL);
        let mut err = String::new();
        replaying.stderr.take().expect("piped").read_to_string(&mut err).expect("read");
        assert_eq!(replaying.wait().expect("wait").code(), Some(1), "{scheme}: {err}");
        assert!(err.starts_with("transport-lab: execution "), "{err}");
        // The guard removes the file as soon as it hears of the end.
        while !entries(directory.path()).is_empty() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_killed_replay_is_a_line_and_the_host_goes_on() {
    let _watchdog = watchdog("a_killed_replay_is_a_line_and_the_host_goes_on");
    let directory = directory();
    let address = format!("shm://{}/host.sock", directory.path().display());
    let mut host = Host::start(&["--listen", &address]);
    let replay = ["replay", "--connect", &address, "--trace", "treemap_1k"];
    let mut replaying = lab(&replay).stdout(Stdio::null()).spawn().expect("transport-lab");
    replaying.kill().expect("kill");
    replaying.wait().expect("wait");
    let (code, out, err) = run(&["replay", "--connect", &address, "--trace", "storage", "--executions", "0..3"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(host.signal(rustix::process::Signal::TERM), Some(0));
    let mut rest = String::new();
    host.output.read_to_string(&mut rest).expect("read");
    assert_eq!(rest, "", "one line on standard output, no more");
}

#[test]
fn compare_fills_every_cell_and_writes_every_field() {
    let _watchdog = watchdog("compare_fills_every_cell_and_writes_every_field");
    let directory = directory();
    let json = directory.path().join("rows.json");
    let (code, out, err) = run(&[
        "compare",
        "--time",
        "4",
        "--rounds",
        "1",
        "--transports",
        "uds,shm,shm-named,tcp",
        "--hosts",
        "thread,tokio",
        "--workloads",
        "read:32,trace:wizard_of_coin",
        "--placements",
        "same",
        "--think",
        "5",
        "--json",
        json.to_str().expect("UTF-8"),
    ]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("read:32, both on one core, 5 µs of thinking") && out.contains("× floor"), "{out}");
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).expect("JSON")).expect("JSON");
    assert!(report["machine"]["kernel"].is_string() && report["command"].is_array());
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 4 * 3 * 2 * 2);
    for row in rows {
        for text in ["transport", "wait", "host", "workload", "placement"] {
            assert!(row[text].is_string(), "{text} of {row}");
        }
        let numbers = "think_us in_flight connections slices moved calls p50_ns p90_ns p99_ns p999_ns max_ns mean_ns \
                       calls_per_s client_cpu_ns host_cpu_ns client_switches host_switches errors ratio_uds";
        for number in numbers.split_whitespace() {
            assert!(row[number].is_number(), "{number} of {row}");
        }
        let floor = std::thread::available_parallelism().expect("cores").get() > 1;
        assert!(row["floor_ns"].is_number() == floor && row["ratio_floor"].is_number() == floor, "{row}");
        assert!(row["calls"].as_u64() > Some(0) && row["errors"] == 0, "{row}");
        let percentiles = ["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"].map(|name| row[name].as_u64());
        assert!(percentiles.is_sorted(), "{row}");
    }
}

/// Rows of `compare --format csv`, each with its fields by name.
fn csv(arguments: &[&str]) -> Vec<std::collections::HashMap<String, String>> {
    let (code, out, err) = run(&[&["compare", "--rounds", "1", "--format", "csv"], arguments].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let mut lines = out.lines().map(|line| line.split(',').map(str::to_owned));
    let names: Vec<String> = lines.next().expect("a header").collect();
    lines.map(|fields| names.iter().cloned().zip(fields).collect()).collect()
}

#[test]
fn slices_are_filed_by_distance_or_counted_as_moved() {
    let _watchdog = watchdog("slices_are_filed_by_distance_or_counted_as_moved");
    if std::thread::available_parallelism().expect("cores").get() < 2 {
        return; // nothing can be split
    }
    let workloads = ["--workloads", "read:65536,write:4096", "--placements", "split,free"];
    let rows = csv(&[&workloads[..], &["--transports", "uds,shm", "--waits", "park", "--time", "4"]].concat());
    for (transport, workload) in [("uds", "read:65536"), ("uds", "write:4096"), ("shm", "read:65536")] {
        for placement in ["split", "free"] {
            let mine = |row: &&std::collections::HashMap<String, String>| {
                (&*row["transport"], &*row["workload"], &*row["placement"]) == (transport, workload, placement)
            };
            let cell: Vec<_> = rows.iter().filter(mine).collect();
            let slices: usize = cell.iter().map(|row| row["slices"].parse::<usize>().expect("a number")).sum();
            assert!(slices + cell[0]["moved"].parse::<usize>().expect("a number") > 0, "{cell:?}");
            for row in cell.into_iter().filter(|row| row["slices"] != "0") {
                let known = ["siblings", "near", "far"].contains(&&*row["distance"]);
                assert_eq!(known, placement == "split", "{row:?}");
                let floors = ["floor_ns", "copy_floor_ns", "ratio_floor", "ratio_copy_floor"];
                let floors = floors.map(|name| row[name].parse::<f64>().expect(name));
                assert!(floors[0] < floors[1] && floors[2] > floors[3], "{row:?}");
            }
        }
    }
}

#[test]
fn every_kind_of_work_is_measured() {
    let _watchdog = watchdog("every_kind_of_work_is_measured");
    let same = ["--placements", "same", "--hosts", "thread,tokio", "--time", "2"];
    let all = ["--transports", "uds,shm", "--waits", "park,adaptive"];
    let rows = csv(&[&same[..], &all, &["--workloads", "ping:32,ping:300000,connect"]].concat());
    let in_flight = ["--workloads", "read:32,trace:wizard_of_coin", "--in-flight", "1,256", "--ring-kib", "32"];
    let piped = csv(&[&same[..], &all, &in_flight].concat());
    assert_eq!((rows.len(), piped.len()), (2 * 2 * 2 * 3, 2 * 2 * 2 * 4));
    let several = csv(&[&same[..], &all, &["--workloads", "write:32,trace:storage", "--connections", "1,5"]].concat());
    let busy = csv(&[&same[..], &all, &["--workloads", "read:32", "--beside", "2"]].concat());
    assert_eq!((several.len(), busy.len()), (2 * 2 * 2 * 4, 2 * 2 * 2));
    assert!(piped.iter().all(|row| row["ring_kib"] == if row["transport"] == "shm" { "32" } else { "" }));
    for row in rows.iter().chain(&piped).chain(&several).chain(&busy) {
        let number = |name: &str| row[name].parse::<f64>().unwrap_or_else(|_| panic!("{name} of {row:?}"));
        assert!(number("errors") == 0.0 && number("calls") > 0.0 && number("calls_per_s") > 0.0, "{row:?}");
        assert!(number("p50_ns") <= number("max_ns") && number("mean_ns") > 0.0, "{row:?}");
    }
}

#[test]
fn rivals_are_rows_like_the_rest() {
    let _watchdog = watchdog("rivals_are_rows_like_the_rest");
    let rivals = ["--transports", "tcp,genvm,http-uds,http-tcp", "--placements", "same", "--time", "2"];
    let works = ["--workloads", "read:32,write:32,read:70000,connect,trace:wizard_of_coin", "--waits", "park,spin"];
    let rows = csv(&[&rivals[..], &works].concat());
    // HTTP sleeps, whatever else is asked for.
    assert_eq!(rows.len(), 5 * (2 * 2 + 2));
    for row in &rows {
        let number = |name: &str| row[name].parse::<f64>().unwrap_or_else(|_| panic!("{name} of {row:?}"));
        assert!(number("errors") == 0.0 && number("calls") > 0.0 && number("p50_ns") > 0.0, "{row:?}");
    }
    let (code, _, err) = run(&["compare", "--transports", "http-uds", "--waits", "spin"]);
    assert!(code == 1 && err.contains("does not wait like that"), "{err}");
    let (code, _, err) = run(&["compare", "--transports", "http-tcp", "--workloads", "ping:32"]);
    assert!(code == 1 && err.contains("no ping"), "{err}");
}

#[cfg(feature = "peers")]
#[test]
fn what_others_reach_for_are_rows_like_the_rest_and_leave_nothing_behind() {
    let _watchdog = watchdog("what_others_reach_for_are_rows_like_the_rest_and_leave_nothing_behind");
    let peers = ["--transports", "iceoryx2,ipc-channel,interprocess,tarpc", "--placements", "same", "--time", "3"];
    let works = ["--workloads", "read:32,write:32,read:70000,connect,trace:wizard_of_coin", "--waits", "park"];
    let rows = csv(&[&peers[..], &works].concat());
    assert_eq!(rows.len(), 5 * 4);
    // Two ends that poll for ever do badly on one core, so this is about the bytes only.
    let polled = csv(&[&peers[..], &["--workloads", "read:32", "--waits", "spin,park"]].concat());
    assert_eq!(polled.len(), 3 * 2 + 1, "tarpc sleeps, whatever else is asked for");
    for row in rows.iter().chain(&polled) {
        let number = |name: &str| row[name].parse::<f64>().unwrap_or_else(|_| panic!("{name} of {row:?}"));
        assert!(number("errors") == 0.0 && number("calls") > 0.0 && number("p50_ns") > 0.0, "{row:?}");
    }
    let left = std::fs::read_dir("/dev/shm").expect("shared memory").flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("transport-lab-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn executions_are_compared_with_and_without_a_cache() {
    let _watchdog = watchdog("executions_are_compared_with_and_without_a_cache");
    let works = ["--workloads", "trace:erc20,read:32", "--placements", "same", "--waits", "park", "--time", "2"];
    let rows = csv(&[&works[..], &["--cache", "0,32,4096"]].concat());
    let mut caches: Vec<_> = rows.iter().map(|row| (row["workload"].as_str(), row["cache"].as_str())).collect();
    caches.sort_unstable();
    caches.dedup();
    let expected = [("read:32", ""), ("trace:erc20", ""), ("trace:erc20", "32"), ("trace:erc20", "4096")];
    assert_eq!(caches, expected);
    let works = ["--workloads", "trace:storage", "--placements", "same", "--waits", "park", "--time", "2"];
    let rows = csv(&[&works[..], &["--cache", "0,4096"]].concat());
    let calls = |cache: &str| {
        let row = rows.iter().find(|row| row["transport"] == "uds" && row["cache"] == cache).expect("a row");
        row["execution_calls"].parse::<f64>().expect("each execution was played")
    };
    assert!(calls("4096") < calls(""), "{rows:?}");
    let (code, _, err) = run(&["compare", "--workloads", "read:32", "--cache", "32"]);
    assert!(code == 1 && err.contains("a cache changes executions"), "{err}");
}

#[test]
fn budgets_and_rings_are_swept_where_they_matter() {
    let _watchdog = watchdog("budgets_and_rings_are_swept_where_they_matter");
    let swept = ["--spin-us", "0.5,2", "--yield-us", "0,20,50", "--ring-kib", "4,64"];
    let rows = csv(&[&["--workloads", "read:1", "--placements", "same", "--time", "1"], &swept[..]].concat());
    let mut ways: Vec<_> = rows
        .iter()
        .map(|row| ["transport", "wait", "spin_us", "yield_us", "ring_kib"].map(|name| row[name].clone()))
        .collect();
    ways.sort_unstable();
    ways.dedup();
    // uds: park, spin, six budgets; shm: the same with each of two rings.
    assert_eq!((rows.len(), ways.len()), (8 + 2 * 8, 8 + 2 * 8));
    assert!(ways.contains(&["shm", "adaptive", "0.5", "20.0", "4"].map(str::to_owned)), "{ways:?}");
    assert!(ways.contains(&["uds", "park", "", "", ""].map(str::to_owned)), "{ways:?}");
}

#[test]
fn an_interrupted_comparison_shows_what_it_has_and_leaves_nothing() {
    let _watchdog = watchdog("an_interrupted_comparison_shows_what_it_has_and_leaves_nothing");
    let directory = directory();
    let until_measured = [1, 4, 16].into_iter().any(|seconds| {
        let mut command = lab(&["compare", "--placements", "same", "--workloads", "read:32", "--time", "60"]);
        command.env("TMPDIR", directory.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut comparing = command.spawn().expect("transport-lab");
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        let pid = rustix::process::Pid::from_child(&comparing);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("kill");
        let (mut out, mut err) = (String::new(), String::new());
        comparing.stdout.take().expect("piped").read_to_string(&mut out).expect("read");
        comparing.stderr.take().expect("piped").read_to_string(&mut err).expect("read");
        assert_eq!(comparing.wait().expect("wait").code(), Some(130), "{err}");
        assert!(err.starts_with("interrupted in round 1 of 5: "), "{err}");
        assert_eq!(entries(directory.path()), Vec::<String>::new());
        // On a busy machine nothing may have been finished yet.
        out.contains("read:32, both on one core (") && out.contains("uds park")
    });
    assert!(until_measured);
}

#[test]
fn unknown_names_list_the_known_ones() {
    let _watchdog = watchdog("unknown_names_list_the_known_ones");
    for (arguments, code, known) in [
        (&["compare", "--transports", "smoke"][..], 2, "uds, shm, shm-named, tcp"),
        (&["compare", "--waits", "doze"], 2, "park, adaptive, spin"),
        (&["compare", "--hosts", "cat"], 2, "thread, tokio"),
        (&["compare", "--placements", "left"], 2, "split, same, free"),
        (&["compare", "--workloads", "jump:3"], 2, "read:BYTES, write:BYTES, ping:BYTES, connect, trace:dynarray_read"),
        (&["compare", "--formats", "x"], 2, "--format"),
        (&["compare", "--format", "xml"], 2, "table, wide, markdown, csv, json"),
        (&["compare", "--ring-kib", "5"], 2, "a power of two from 4"),
        (&["compare", "--placements", "same", "--workloads", "write:1", "--in-flight", "2"], 1, "read:BYTES"),
        (&["compare", "--placements", "same", "--in-flight", "256", "--ring-kib", "16"], 1, "a ring of 32 KiB"),
        (&["compare", "--workloads", "trace:none", "--placements", "same"], 1, "dynarray_read, erc20"),
        (&["replay", "--connect", "unix:///x", "--trace", "none"], 1, "dynarray_read, erc20"),
        (&["host", "--listen", "/run/x"], 1, "unix:///path"),
        (&["host", "--listen", "quic://x"], 1, "unix, fd"),
    ] {
        let (got, _, err) = run(arguments);
        assert_eq!(got, code, "{arguments:?}: {err}");
        assert!(err.contains(known), "{arguments:?}: {err}");
    }
}
