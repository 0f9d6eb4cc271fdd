//! `transport-lab` as its users meet it: separate processes, their output and their exit codes.
#![cfg(feature = "lab")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use genvm_transport::protocol::{Environment, HostState, Limits, ServeError, serve_blocking};
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
            let served = serve_blocking(&mut stream, &mut state.begin(environment), &Limits::default());
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
        let numbers = "think_us in_flight calls p50_ns p90_ns p99_ns p999_ns max_ns mean_ns client_cpu_ns host_cpu_ns \
                       client_switches host_switches errors ratio_uds";
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

#[test]
fn unknown_names_list_the_known_ones() {
    let _watchdog = watchdog("unknown_names_list_the_known_ones");
    for (arguments, code, known) in [
        (&["compare", "--transports", "smoke"][..], 2, "uds, shm, shm-named, tcp"),
        (&["compare", "--waits", "doze"], 2, "park, adaptive, spin"),
        (&["compare", "--hosts", "cat"], 2, "thread, tokio"),
        (&["compare", "--placements", "left"], 2, "split, same, free"),
        (&["compare", "--workloads", "jump:3"], 2, "read:BYTES, write:BYTES, ping:BYTES, connect, trace:dynarray_read"),
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
