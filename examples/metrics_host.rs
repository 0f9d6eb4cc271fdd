//! A host with metrics on an HTTP port: `cargo run --features metrics --example metrics_host -- unix:///run/host.sock 127.0.0.1:9184
//! snapshots.jsonl`.
//!
//! GenVM is a process an execution and has no port to be asked at, so each appends what its calls cost to the file (`batch_client`
//! does). The host lives longer: when it is asked, it publishes what came in since, beside what it counts itself. Prometheus' own
//! exporter has a server for this; the one here is as small as the protocol allows. It serves until SIGINT or SIGTERM.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use genvm_transport::metrics::Snapshot;
use genvm_transport::protocol::{Environment, HostState, Protocol, serve_blocking};
use genvm_transport::{BlockingStream, ListenOptions, Listener, listen};
use metrics::{counter, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds, from a call over shared memory that polls to one that asks a model.
const BUCKETS: [f64; 24] = [
    2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2,
    0.5, 1.0, 2.0, 5.0, 10.0,
];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, http, snapshots] = &args[..] else { return Err("usage: metrics_host ADDRESS HTTP SNAPSHOTS".into()) };
    // Without buckets the exporter computes quantiles itself, which cannot be put together over labels and hosts.
    let calls = Matcher::Full("genvm_host_call_seconds".to_owned());
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(calls, &BUCKETS)?.install_recorder()?;
    let http = TcpListener::bind(http)?;
    let (end, ended) = mpsc::channel();
    let interrupted = end.clone();
    ctrlc::set_handler(move || {
        let _ = interrupted.send(());
    })?;
    let listener = listen(address, &ListenOptions::default())?;
    println!("listening on {}", listener.address());
    println!("metrics at http://{}/metrics", http.local_addr()?);

    let file = snapshots.clone();
    thread::spawn(move || {
        let mut published = 0;
        for connection in http.incoming() {
            let answered = connection.and_then(|stream| answer(stream, || page(&recorder, &file, &mut published)));
            if let Err(error) = answered {
                eprintln!("http: {error}");
            }
        }
    });

    thread::scope(|scope| {
        scope.spawn(|| {
            accept_all(&*listener, &HostState::new());
            let _ = end.send(());
        });
        let _ = ended.recv();
        listener.close();
    });
    Ok(())
}

fn accept_all(listener: &dyn Listener, state: &HostState) {
    loop {
        match listener.accept() {
            Ok(stream) => {
                let state = state.clone();
                thread::spawn(move || execute(&state, stream));
            }
            Err(error) if error.is_fatal() => break,
            Err(error) => eprintln!("{error}"),
        }
    }
}

fn execute(state: &HostState, mut stream: Box<dyn BlockingStream>) {
    gauge!("host_executions_running").increment(1);
    let environment = Environment { account_from_first_read: true, ..Environment::default() };
    let ended = match serve_blocking(&mut stream, &mut state.begin(environment), &Protocol::ONE) {
        Ok(served) => format!("{served:?}").to_lowercase(),
        Err(error) => {
            eprintln!("{}: {error}", stream.peer());
            "failed".to_owned()
        }
    };
    gauge!("host_executions_running").decrement(1);
    counter!("host_executions_total", "ended" => ended, "transport" => stream.kind().to_string()).increment(1);
}

/// Publishes what came into the file since the last time, and gives everything that was ever counted.
fn page(recorder: &PrometheusHandle, file: &str, published: &mut usize) -> io::Result<String> {
    match Snapshot::read_from(file) {
        Ok(snapshots) => {
            snapshots.iter().skip(*published).for_each(Snapshot::publish);
            *published = snapshots.len();
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {} // nobody has ended yet
        Err(error) => return Err(error),
    }
    Ok(recorder.render())
}

/// One HTTP request, one answer. Who dawdles over the request is hung up on: there is one thread for all.
fn answer(mut stream: TcpStream, page: impl FnOnce() -> io::Result<String>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut head = BufReader::new(stream.try_clone()?).lines();
    let request = head.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
    for line in head {
        if line?.is_empty() {
            break;
        }
    }
    let (status, body) = match request.strip_prefix("GET /metrics ") {
        Some(_) => match page() {
            Ok(page) => ("200 OK", page),
            Err(error) => ("500 Internal Server Error", format!("{error}\n")),
        },
        None => ("404 Not Found", "only /metrics is here\n".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
