//! `lab study idle`: what a connection costs while nobody uses it: wake-ups and CPU time of the host that waits for the next request,
//! and memory of both processes.
//!
//! All connections are idle side by side, each between two processes of its own; nothing is timed.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::RingCapacity;
use crate::lab::machine::Machine;
use crate::lab::matrix::{HostKind, Placement, Situation, Transport, Wait, Way, Workload};
use crate::lab::process::{Usage, Worker};
use crate::lab::show::say;
use crate::lab::worker::Job;

/// Connections over which every page of their rings has been used, and nothing happens any more.
#[derive(Debug, Args)]
pub(in crate::lab) struct IdleArgs {
    /// Seconds to be idle for
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    time: u64,
    /// KiB of each ring of shared memory [default: the library's]
    #[arg(long, value_name = "KIB", value_parser = crate::lab::compare::ring_kib)]
    ring_kib: Option<u32>,
}

struct Idle {
    way: Way,
    host: Worker,
    client: Worker,
    /// Of both processes, before and after the connection was made.
    memory_kib: [u64; 2],
    before: Usage,
}

/// The verb.
pub(super) fn run(args: IdleArgs) -> Result<ExitCode> {
    let directory = tempfile::Builder::new().prefix("transport-lab-").tempdir()?;
    let ring_kib = args.ring_kib.unwrap_or(RingCapacity::DEFAULT.bytes() / 1024);
    let mut ways = Vec::new();
    for transport in [Transport::Uds, Transport::Shm, Transport::ShmNamed] {
        for wait in [Wait::Park, Wait::Adaptive] {
            for host in [HostKind::Thread, HostKind::Tokio] {
                let ring_kib = transport.has_rings().then_some(ring_kib);
                ways.push(Way { transport, wait, host, ring_kib, spin_us: None, yield_us: None, cache: None });
            }
        }
    }
    let mut idle = Vec::new();
    for (number, way) in ways.into_iter().enumerate() {
        let address = way.transport.address(&directory.path().join(format!("{number}.sock")));
        idle.push(Idle::start(way, address, directory.path()).with_context(|| way.to_string())?);
    }
    for connection in &mut idle {
        connection.before = connection.host.ask("usage")?;
    }
    // The one thing here that takes its time by design.
    std::thread::sleep(Duration::from_secs(args.time));
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["way", "host", "wake-ups", "cpu of a core", "memory"]);
    for connection in &mut idle {
        let used = connection.host.ask::<Usage>("usage")?.since(connection.before);
        let [before, after] = connection.memory_kib;
        table.add_row([
            format!("{} {}", connection.way.transport, connection.way.wait),
            connection.way.host.to_string(),
            used.switches.to_string(),
            format!("{:.4} %", used.cpu_ns as f64 / args.time as f64 / 1e7),
            format!("{} KiB", after.saturating_sub(before)),
        ]);
    }
    (2..5)
        .filter_map(|column| table.column_mut(column).map(|column| column.set_cell_alignment(CellAlignment::Right)))
        .count();
    let table: String = table.to_string().lines().flat_map(|line| [line.trim_end(), "\n"]).map(str::to_owned).collect();
    let text = format!(
        "{table}\nOne connection each, idle for {} s after its whole rings ({ring_kib} KiB each way) had been used.\n\
         wake-ups: context switches of the host's threads in that time. cpu: their CPU time.\n\
         memory: what the streams at both ends took, once every page of their rings had been used; shared\n\
         pages counted once; code and other files are left out.\n\
         {}.\n",
        args.time,
        Machine::look(),
    );
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

impl Idle {
    fn start(way: Way, address: String, directory: &std::path::Path) -> Result<Self> {
        let situation = Situation {
            workload: Workload::Ping(32), // the streams alone: large messages leave large buffers behind in a client and a host
            placement: Placement::Free,
            think_us: 0,
            in_flight: 1,
            connections: 1,
        };
        let job = Job { address, way, situation, core: None, round: 0, trace: None, directory: directory.to_owned() };
        let mut host = Worker::start("worker-host", &job)?;
        let job = Job { address: host.hear()?, ..job };
        let mut client = Worker::start("worker-client", &job)?;
        client.hear::<()>()?;
        client.ask::<()>("check")?;
        // A first connection has come and gone: what a process allocates once is there.
        client.ask::<()>("open")?;
        client.ask::<()>("run")?;
        client.ask::<()>("close")?;
        let pids = [host.pid(), client.pid()];
        let memory = || pids.iter().map(|&pid| pss_kib(pid)).sum::<Result<u64>>();
        // The host may still be busy ending that one.
        let mut before = memory()?;
        loop {
            std::thread::sleep(Duration::from_millis(20));
            match memory()? {
                same if same == before => break,
                other => before = other,
            }
        }
        client.ask::<()>("open")?;
        let memory_kib = [before, memory()?];
        Ok(Self { way, host, client, memory_kib, before: Usage::default() })
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.client.ask::<()>("close");
    }
}

/// Memory of a process, each shared page divided among those who have it; without the program's own, which is no connection's.
fn pss_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name: &str| {
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in {path}"))?;
        Ok::<u64, anyhow::Error>(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok(field("Pss_Anon:")? + field("Pss_Shmem:")?)
}
