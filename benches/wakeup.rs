//! A read of 32 bytes while the host waits for it since so many microseconds, in which GenVM has computed and which are not timed.
//! A host that parks sleeps after each of them, one that adapts after the longer only, one that spins after none.
//! `cargo bench --features lab --bench wakeup -- park/200`

mod support;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn wakeup(criterion: &mut Criterion) {
    for transport in ["uds", "shm", "tcp"] {
        for wait in support::WAITS {
            let mut group = support::group(criterion, format!("wakeup/{transport}/{wait}"));
            for us in [20, 200] {
                let case = support::case(transport, wait, "read:32").thinking(us);
                support::measure(&mut group, BenchmarkId::from_parameter(us), &case);
            }
            group.finish();
        }
    }
}

criterion_group!(benches, wakeup);
criterion_main!(benches);
