//! The lab's cases as criterion's benchmarks.

use std::path::Path;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use genvm_transport::lab::bench::Case;

use super::group;

pub const TRANSPORTS: [&str; 4] = ["uds", "shm", "shm-named", "tcp"];
pub const WAITS: [&str; 3] = ["park", "adaptive", "spin"];

pub fn case(transport: &str, wait: &str, workload: &str) -> Case {
    Case::new(transport, wait, workload).expect("a case of the lab")
}

/// One benchmark: `case` between two processes, which are started once, if the filter lets them, and prove that the right bytes come
/// back before they are timed; where `close` can, afterwards too.
pub fn measure(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, case: &Case) {
    let mut started = None;
    group.bench_function(id, |bencher| {
        let program = Path::new(env!("CARGO_BIN_EXE_transport-lab"));
        let peers = started.get_or_insert_with(|| case.start(program).expect("two processes and the right bytes"));
        bencher.iter_custom(|rounds| peers.time(rounds).expect("calls that succeed"));
    });
    if let Some(peers) = started {
        peers.close().expect("the right bytes");
    }
}

/// `NAME/TRANSPORT/WAIT/BYTES`: the call `workload:BYTES` over every transport, with every wait strategy.
pub fn sizes(criterion: &mut Criterion, name: &str, workload: &str) {
    for transport in TRANSPORTS {
        for wait in WAITS {
            let mut group = group(criterion, format!("{name}/{transport}/{wait}"));
            for size in [1_u32, 32, 1024, 4096, 65_536] {
                group.throughput(Throughput::Bytes(size.into()));
                let case = case(transport, wait, &format!("{workload}:{size}"));
                measure(&mut group, BenchmarkId::from_parameter(size), &case);
            }
            group.finish();
        }
    }
}
