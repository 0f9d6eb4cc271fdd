//! What the feature `metrics` adds to a call: a client whose host answers at once, out of memory, so that nothing hides the cost. Two
//! runs make the comparison, and the clock alone is beside them:
//! `cargo bench --bench metering; cargo bench --bench metering --features metrics`

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use genvm_transport::protocol::{Account, HostClient, SlotId, StorageMode};

/// Swallows requests, and answers each with status 0 and zeros.
struct Zeros;

impl Read for Zeros {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(33);
        out[..n].fill(0);
        Ok(n)
    }
}

impl Write for Zeros {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn metering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metering");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(50);
    let mut client = HostClient::new(Zeros);
    let mut out = [0; 32];
    let name = if cfg!(feature = "metrics") { "call counted" } else { "call" };
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let slot = black_box(SlotId([1; 32]));
            client.storage_read(StorageMode::Default, &Account([1; 20]), &slot, 0, &mut out).expect("zeros");
        });
    });
    group.bench_function("two looks at the system's clock", |bencher| {
        bencher.iter(|| black_box(Instant::now()).elapsed());
    });
    #[cfg(target_arch = "x86_64")]
    group.bench_function("two looks at the processor's counter", |bencher| {
        // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
        #[allow(unsafe_code)]
        let ticks = || unsafe { std::arch::x86_64::_rdtsc() };
        bencher.iter(|| ticks() - black_box(ticks()));
    });
    group.finish();
}

criterion_group!(benches, metering);
criterion_main!(benches);
