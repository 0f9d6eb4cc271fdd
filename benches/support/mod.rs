//! What the suites share: the host as another process, on a core of its own where there are two.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use genvm_transport::protocol::{HostClient, SlotId};
use genvm_transport::{BlockingStream, ConnectOptions, WaitStrategy, connect};

pub type Client = HostClient<Box<dyn BlockingStream>>;

pub const SIZES: [usize; 4] = [1, 32, 4096, 65_536];
pub const SLOT: SlotId = SlotId([7; 32]);

const TRANSPORTS: [&str; 4] = ["unix", "shm", "shm-named", "tcp"];
const WAITS: [(&str, WaitStrategy); 3] =
    [("park", WaitStrategy::Park), ("adaptive", WaitStrategy::ADAPTIVE), ("spin", WaitStrategy::Spin)];

/// `transport-lab host` in a process of its own; ends with the value.
struct Host {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Host {
    fn start(transport: &str, wait: &str, core: Option<usize>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let address = match transport {
            "tcp" => "tcp://127.0.0.1:0".to_owned(),
            scheme => format!("{scheme}://{}/host.sock", directory.path().display()),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_transport-lab"));
        command.args(["host", "--listen", &address, "--wait", wait]).stdout(Stdio::piped());
        if let Some(core) = core {
            command.args(["--core", &core.to_string()]);
        }
        let mut child = command.spawn().expect("transport-lab host");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ").expect("a host that listens").to_owned();
        Self { child, address, _directory: directory }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One benchmark for each transport, wait strategy and size: `check` proves on a fresh connection that the right bytes come
/// back, then `call` is timed.
pub fn suite(
    criterion: &mut Criterion,
    name: &str,
    check: impl Fn(&mut Client, &mut [u8]),
    call: impl Fn(&mut Client, &mut [u8]),
) {
    let cores = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    if cores > 1 {
        // This end on the first core, the host on the second.
        let mut first = rustix::thread::CpuSet::new();
        first.set(0);
        let _ = rustix::thread::sched_setaffinity(None, &first);
    }
    for transport in TRANSPORTS {
        for (wait, strategy) in WAITS {
            let mut group: BenchmarkGroup<'_, WallTime> =
                criterion.benchmark_group(format!("{name}/{transport}/{wait}"));
            group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500)).sample_size(20);
            let mut line: Option<(Host, Client)> = None;
            for size in SIZES {
                group.throughput(Throughput::Bytes(size as u64));
                let mut buffer = vec![0; size];
                group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                    // Started by the first benchmark that the filter lets through.
                    let (_, client) = line.get_or_insert_with(|| {
                        let host = Host::start(transport, wait, (cores > 1).then_some(1));
                        let options = ConnectOptions::default().with_wait(strategy);
                        let client = HostClient::new(connect(&host.address, &options).expect("connect"));
                        (host, client)
                    });
                    check(client, &mut buffer);
                    bencher.iter_custom(|calls| {
                        let started = Instant::now();
                        for _ in 0..calls {
                            call(client, &mut buffer);
                        }
                        started.elapsed()
                    });
                });
            }
            group.finish();
        }
    }
}
