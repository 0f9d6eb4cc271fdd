//! `lab study walk`: what passing whole cache lines along a ring costs, with nothing else on the way: the least that any ring can take.
//!
//! The floor of every table is one line that two cores throw at each other, and both write. Each end of `shm://` writes lines of its own,
//! goes on to the next ones with every message, needs two of them for a request of GenVM's, and has something to do in between. This study
//! adds those one by one. There is no transport in it: no checks, no doorbell, no copies beyond the lines themselves.
#![allow(unsafe_code, reason = "lines are written and read as plain memory, several words in one go")]

use std::cell::UnsafeCell;
use std::hint::{black_box, spin_loop};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::lab::floor::{self, between};
use crate::lab::machine::Machine;
use crate::lab::matrix::Distance;
use crate::lab::process::cores;
use crate::lab::replay::progress;
use crate::lab::rows::MOVED;
use crate::lab::show::say;
use crate::lab::stats::{median, shuffled};
use crate::lab::table::nanos;

/// Two threads, a core each, pass lines along a ring and do nothing, or a fixed amount of work, with them.
#[derive(Debug, Args)]
pub(in crate::lab) struct WalkArgs {
    /// Rounds; every case is measured in each, between two floors
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Nanoseconds of work at each end between reading a message and writing the next
    #[arg(long, value_delimiter = ',', default_values_t = [0, 20, 40, 80], value_parser = clap::value_parser!(u64).range(..=100_000))]
    work: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    way: Way,
    /// Lines of a request and of its answer.
    lines: [usize; 2],
    work_ns: u64,
}

/// Who writes which lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Both ends the same ones again and again: the floor, with something in it.
    OnePlace,
    /// Both ends one ring: an answer lies where its request lay.
    OneRing,
    /// Each end its own, the same ones again and again.
    PlaceEach,
    /// Each end its own ring, as `shm://` does.
    RingEach,
}

impl Way {
    const ALL: [Self; 4] = [Self::OnePlace, Self::OneRing, Self::PlaceEach, Self::RingEach];

    fn name(self) -> &'static str {
        match self {
            Self::OnePlace => "one place",
            Self::OneRing => "one ring",
            Self::PlaceEach => "a place each",
            Self::RingEach => "a ring each",
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    case: usize,
    distance: Distance,
    floor: f64,
    trip: f64,
}

/// The verb.
pub(super) fn run(args: WalkArgs) -> Result<ExitCode> {
    let cores = cores();
    let [first, .., last] = cores[..] else {
        bail!("this process may use one core only; lines are passed between two")
    };
    let started = Instant::now();
    let sizes = [[1, 1], [2, 1]];
    let idle = Way::ALL.iter().flat_map(|&way| sizes.map(|lines| Case { way, lines, work_ns: 0 }));
    let busy = sizes.iter().flat_map(|&lines| {
        args.work.iter().filter(|&&work_ns| work_ns > 0).map(move |&work_ns| Case {
            way: Way::RingEach,
            lines,
            work_ns,
        })
    });
    let cases: Vec<Case> = idle.chain(busy).collect();
    let progress = progress(u64::from(args.rounds) * cases.len() as u64, "cases");
    let (mut samples, mut moved) = (Vec::new(), 0);
    for round in 0..args.rounds {
        for case in shuffled(cases.len(), round.into()) {
            let floor = || floor::measure(first, last, None).map_or(f64::NAN, |floor| floor.line);
            let before = floor();
            let trip = walk(first, last, cases[case]);
            let after = floor();
            if before.max(after) > before.min(after) * MOVED {
                moved += 1;
            } else {
                let floor = (before + after) / 2.0;
                samples.push(Sample { case, distance: Distance::of(floor), floor, trip });
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let mut out = String::new();
    for distance in [Distance::Siblings, Distance::Near, Distance::Far] {
        let here: Vec<_> = samples.iter().filter(|sample| sample.distance == distance).copied().collect();
        if !here.is_empty() {
            out += &table(distance, &cases, &here);
        }
    }
    let all = samples.len() + moved;
    out += &format!(
        "A round trip of messages of so many lines, out + back. Who writes what: both ends one place, again and again, as the\n\
         floor does, or one ring, an answer where its request lay; or each end its own place or ring, as shm:// does, for a peer\n\
         that cannot be trusted with more. Rings have {RING} lines. Work is done at each end, of every message, in a chain of\n\
         multiplications. × floor: against one line bounced between the same two cores, right before and after. Beyond: what\n\
         the round trip takes beyond that floor and the work of both ends.\n\
         Of {all} measurements {moved} are left out because the cores moved meanwhile.\n{}; {:.0} s.\n",
        Machine::look(),
        started.elapsed().as_secs_f64(),
    );
    say(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn table(distance: Distance, cases: &[Case], samples: &[Sample]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["written", "lines", "work", "measured", "floor", "round trip", "× floor", "beyond"]);
    for (number, case) in cases.iter().enumerate() {
        let of = |value: fn(&Sample) -> f64| {
            let mut values: Vec<f64> = samples.iter().filter(|sample| sample.case == number).map(value).collect();
            (values.len(), median(&mut values))
        };
        let ((count, floor), (_, trip), (_, ratio)) =
            (of(|s| s.floor), of(|s| s.trip), of(|sample| sample.trip / sample.floor));
        if count > 0 {
            let [out, back] = case.lines;
            table.add_row([
                case.way.name().to_owned(),
                format!("{out}+{back}"),
                nanos(case.work_ns as f64),
                count.to_string(),
                nanos(floor),
                nanos(trip),
                format!("{ratio:.2}"),
                format!("{:.0} ns", trip - floor - 2.0 * case.work_ns as f64),
            ]);
        }
    }
    (2..8)
        .filter_map(|column| table.column_mut(column).map(|column| column.set_cell_alignment(CellAlignment::Right)))
        .count();
    let table: String = table.to_string().lines().flat_map(|line| [line.trim_end(), "\n"]).map(str::to_owned).collect();
    format!("{distance}\n{table}\n")
}

/// Nanoseconds of a round trip between cores `a` and `b`.
fn walk(a: usize, b: usize, case: Case) -> f64 {
    let [out, back] = case.lines;
    let place = |lines| if matches!(case.way, Way::OneRing | Way::RingEach) { RING } else { lines };
    let (ours, theirs) = (&Ring::new(place(out)), &Ring::new(place(back)));
    let (answers, step) = if matches!(case.way, Way::OnePlace | Way::OneRing) { (ours, out) } else { (theirs, back) };
    let steps = (case.work_ns as f64 / step_ns()) as u64;
    let (mut asked, mut answered) = (0, 0);
    let answer = move || {
        if !ours.take(answered * out, request(answered), out) {
            return spin_loop();
        }
        work(steps);
        answers.put(answered * step, request(answered) + 1, back);
        answered += 1;
    };
    let ask = move || {
        work(steps);
        ours.put(asked * out, request(asked), out);
        while !answers.take(asked * step, request(asked) + 1, back) {
            spin_loop();
        }
        asked += 1;
    };
    between(a, b, TRIPS, ask, answer)
}

/// What stands in the lines of a request; its answer has the next number.
fn request(number: usize) -> u64 {
    2 * number as u64 + 1
}

/// Which message it is, stored last, and the rest of the line.
#[repr(C, align(64))]
struct Line {
    header: AtomicU64,
    rest: UnsafeCell<[u64; 7]>,
}

/// Messages of whole lines.
struct Ring {
    lines: Vec<Line>,
    /// One less than how many of them are used, a power of two.
    mask: usize,
}

// SAFETY: whoever puts a message writes its lines before it stores the header (Release), and whoever takes it reads them after it
// has seen that (Acquire). They are written again only by who has taken it, or has taken a message that was put after it was taken.
unsafe impl Sync for Ring {}

impl Ring {
    fn new(used: usize) -> Self {
        let line = || Line { header: AtomicU64::new(0), rest: UnsafeCell::new([0; 7]) };
        assert!(used.is_power_of_two() && used <= RING);
        Self { lines: (0..RING).map(|_| line()).collect(), mask: used - 1 }
    }

    fn line(&self, at: usize) -> &Line {
        &self.lines[at & self.mask]
    }

    fn put(&self, at: usize, message: u64, lines: usize) {
        for at in (at..at + lines).rev() {
            // In one go: while the other end polls, every store to the line may have to fetch it anew.
            // SAFETY: see `Sync`.
            unsafe { self.line(at).rest.get().write([message; 7]) };
        }
        self.line(at).header.store(message, Ordering::Release);
    }

    fn take(&self, at: usize, message: u64, lines: usize) -> bool {
        if lines > 1 {
            prefetch(self.line(at + 1));
        }
        if self.line(at).header.load(Ordering::Acquire) != message {
            return false;
        }
        for at in at..at + lines {
            // SAFETY: see `Sync`.
            let rest = unsafe { self.line(at).rest.get().read() };
            assert!(rest == [message; 7], "a message that is not whole");
        }
        true
    }
}

/// Has a line on its way that will be read next, as `shm://` does.
fn prefetch(_line: &Line) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it reads nothing that the program could observe.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(_line).cast());
    }
}

/// A chain in which every step waits for the last.
#[inline]
fn work(steps: u64) {
    let mut value = 1u64;
    for _ in 0..steps {
        value = black_box(value.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    black_box(value);
}

/// What a step of it takes now.
fn step_ns() -> f64 {
    let mut timed = [0.0; 5].map(|_: f64| {
        let started = Instant::now();
        work(STEPS_TIMED);
        started.elapsed().max(Duration::from_nanos(1)).as_nanos() as f64 / STEPS_TIMED as f64
    });
    median(&mut timed)
}

/// 64 KiB: the half of what the rings of shared memory have by default.
const RING: usize = 1024;
const TRIPS: usize = 50;
const STEPS_TIMED: u64 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_once_it_is_whole() {
        let ring = Ring::new(RING);
        let mut at = 0;
        for (number, lines) in (0..3 * RING).map(|number| (number, 1 + number % 2)) {
            assert!(!ring.take(at, request(number), lines));
            ring.put(at, request(number), lines);
            assert!(ring.take(at, request(number), lines));
            at += lines;
        }
    }

    #[test]
    fn every_way_brings_every_message_back() {
        if let [a, b, ..] = cores()[..] {
            for way in Way::ALL {
                assert!(walk(a, b, Case { way, lines: [2, 1], work_ns: 0 }) > 0.0, "{way:?}");
            }
        }
    }
}
