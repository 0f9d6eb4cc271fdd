//! What every fault is run by: counted trials under a watchdog, what is left behind, and one line of figures.
//!
//! ```text
//! fault name=… on=… trials=N failures=N measured=N p50_us=N p99_us=N max_us=N allowed_us=P99/MAX|- left=none|… seconds=N seed=N seen=…|-
//! ```
//!
//! `measured` trials had a time worth measuring; what it is the time of, the fault's documentation says, and what else was `seen`.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use crate::body::{runtime, scramble};
use crate::support;

/// One test at a time, from before it makes anything until after it has removed it: what is open is counted for the whole
/// process.
pub struct Alone(#[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

pub fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    Alone(ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// A fault on something, before it is run.
pub struct Fault<'a> {
    name: &'static str,
    on: String,
    allowed: Option<(Duration, Duration)>,
    seen: Option<Box<dyn Fn() -> String + 'a>>,
    _alone: &'a Alone,
}

impl Alone {
    pub fn fault(&self, name: &'static str, on: String) -> Fault<'_> {
        Fault { name, on, allowed: None, seen: None, _alone: self }
    }
}

impl<'a> Fault<'a> {
    /// What a full run may take: the 99th percentile and the longest.
    pub fn allowing(mut self, p99: Duration, max: Duration) -> Self {
        self.allowed = Some((p99, max));
        self
    }

    /// What is said of all the trials besides times, without spaces.
    pub fn seeing(mut self, seen: impl Fn() -> String + 'a) -> Self {
        self.seen = Some(Box::new(seen));
        self
    }

    /// Runs `trial` so often, in a world made by `setup`, a new one after each failure, of which ten are enough. A trial fails by panicking; it returns
    /// how long what it waited for took, if there is something to be measured. Afterwards everything has to be as before.
    /// Returns whether it was run at all: another row may be the one that is wanted.
    pub fn run<W>(
        self,
        Trials { now: trials, full }: Trials,
        setup: impl Fn() -> W,
        mut trial: impl FnMut(&mut W, &mut Random) -> Option<Duration>,
    ) -> bool {
        if is_list() {
            let _ = writeln!(std::io::stdout(), "fault name={} on={} trials={trials} full={full}", self.name, self.on);
            return false;
        }
        if !is_wanted(self.name, &self.on) {
            return false;
        }
        runtime(); // stays for good
        let seed = seed();
        let done = Arc::new(AtomicUsize::new(0));
        let _watchdog = watchdog(format!("{} on {}, seed {seed}", self.name, self.on), done.clone());
        // Written to, so that what the times take does not look like a leak.
        let mut times = vec![(Duration::MAX, usize::MAX); trials];
        times.clear();
        let (begun, before) = (Instant::now(), Belongings::now());
        let (mut failures, mut tried) = (0, 0);
        let mut world = None;
        while tried < trials && failures < ENOUGH {
            let number = tried;
            tried += 1;
            let mut random = Random(scramble(seed ^ number as u64));
            let mut once = || trial(world.get_or_insert_with(&setup), &mut random);
            match catch_unwind(AssertUnwindSafe(&mut once)) {
                Ok(time) => times.extend(time.map(|time| (time, number))),
                Err(_) => {
                    eprintln!("{} on {}: trial {number} of GENVM_FAULTS_SEED={seed} failed", self.name, self.on);
                    failures += 1;
                    world = None;
                }
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        drop(world);
        let left = Belongings::now().besides(&before);
        times.sort_unstable();
        self.report(tried, failures, &times, &left, begun.elapsed(), seed);
        true
    }

    fn report(
        &self,
        trials: usize,
        failures: usize,
        times: &[(Duration, usize)],
        left: &str,
        all: Duration,
        seed: u64,
    ) {
        let (p50, p99, max) = (percentile(times, 50), percentile(times, 99), percentile(times, 100));
        let micros = |time: Option<Duration>| time.map_or("-".into(), |time| time.as_micros().to_string());
        let allowed = self.allowed.map_or("-".into(), |(p99, max)| format!("{}/{}", p99.as_micros(), max.as_micros()));
        // Not `println!`: the figures of a test that passed are worth seeing, too.
        let _ = writeln!(
            std::io::stdout(),
            "fault name={} on={} trials={trials} failures={failures} measured={} p50_us={} p99_us={} max_us={} \
             allowed_us={allowed} left={left} seconds={:.1} seed={seed} seen={}",
            self.name,
            self.on,
            times.len(),
            micros(p50),
            micros(p99),
            micros(max),
            all.as_secs_f64(),
            self.seen.as_ref().map_or("-".into(), |seen| seen()),
        );
        assert_eq!(failures, 0, "{} on {}: trials failed", self.name, self.on);
        assert_eq!(left, "none", "{} on {}: something is left", self.name, self.on);
        if let (true, Some((allowed_p99, allowed_max))) = (is_full(), self.allowed) {
            let kept = p99.is_none_or(|p99| p99 <= allowed_p99) && max.is_none_or(|max| max <= allowed_max);
            let slowest = times.last().map(|(_, number)| number);
            assert!(kept, "{} on {}: took longer than allowed, trial {slowest:?} longest", self.name, self.on);
        }
    }
}

/// Says that a fault could not be tried here.
pub fn skipped(name: &str, on: &str, why: &str) {
    if is_list() || is_wanted(name, on) {
        let _ = writeln!(std::io::stdout(), "fault name={name} on={on} skipped={}", why.replace(' ', "_"));
    }
}

/// Whether rows are to be named and not run.
fn is_list() -> bool {
    std::env::var_os("GENVM_FAULTS_LIST").is_some()
}

/// Whether this is the row that the environment names, as `name@on`; every one is if it names none.
fn is_wanted(name: &str, on: &str) -> bool {
    std::env::var("GENVM_FAULTS_ROW").map_or(true, |row| row.split_once('@') == Some((name, on)))
}

/// How many trials of a fault.
#[derive(Clone, Copy)]
pub struct Trials {
    pub now: usize,
    /// In a full run.
    pub full: usize,
}

/// How many trials: `short`, unless the environment asks for `full`, a part of it or another number.
pub fn count(short: usize, full: usize) -> Trials {
    let now = match asked().as_str() {
        "short" => short,
        "full" => full,
        other => match other.strip_prefix("full/") {
            Some(parts) => full.div_ceil(parts.parse().expect("the 4 of full/4")),
            None => other.parse().expect("GENVM_FAULTS is `short`, `full`, `full/4` or a number"),
        },
    };
    Trials { now, full }
}

/// How much of something each trial takes: as in a short run, unless it is a full one or a part of one.
pub fn amount(short: usize, full: usize) -> usize {
    if is_full() { full } else { short }
}

fn is_full() -> bool {
    asked().starts_with("full")
}

fn asked() -> String {
    std::env::var("GENVM_FAULTS").unwrap_or_else(|_| "short".into())
}

fn seed() -> u64 {
    match std::env::var("GENVM_FAULTS_SEED") {
        Ok(seed) => seed.parse().expect("GENVM_FAULTS_SEED is a number"),
        Err(_) => fresh_seed(),
    }
}

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// The smallest time that so many percent do not exceed.
fn percentile(sorted: &[(Duration, usize)], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).map(|(time, _)| *time)
}

/// Numbers that depend on the seed alone.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Mostly at once, sometimes about as long as ends poll, now and then long after they sleep.
    pub fn any_pace(&mut self) {
        match self.below(256) {
            0 => self.pause(Duration::from_millis(1)),
            1..32 => self.pause(Duration::from_micros(80)),
            _ => {}
        }
    }

    /// Waits for less than `most`, sleeping where that is exact enough.
    pub fn pause(&mut self, most: Duration) {
        let until = Instant::now() + Duration::from_nanos(self.below(most.as_nanos() as u64));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match left {
                Duration::ZERO => return,
                left if left > Duration::from_micros(300) => std::thread::sleep(left - Duration::from_micros(200)),
                _ => std::hint::spin_loop(),
            }
        }
    }
}

/// What this process could leave behind.
#[derive(PartialEq, Eq)]
struct Belongings {
    descriptors: usize,
    mappings: usize,
    children: usize,
    names: usize,
}

impl Belongings {
    fn now() -> Self {
        let (descriptors, mappings) = support::descriptors_and_mappings();
        let ours = format!("genvm-{}-", std::process::id());
        Self {
            descriptors,
            mappings,
            children: children(),
            names: support::shm_names().iter().filter(|name| name.starts_with(&ours)).count(),
        }
    }

    /// What there is more, or less, than `before`; `none` if it is the same.
    fn besides(&self, before: &Self) -> String {
        let what = [
            ("descriptors", before.descriptors, self.descriptors),
            ("mappings", before.mappings, self.mappings),
            ("children", before.children, self.children),
            ("names", before.names, self.names),
        ];
        let changed: Vec<_> = what
            .iter()
            .filter(|(_, before, now)| before != now)
            .map(|(what, before, now)| format!("{what}:{before}->{now}"))
            .collect();
        if changed.is_empty() { "none".into() } else { changed.join(",") }
    }
}

/// Child processes of ours, those that nobody waited for included.
fn children() -> usize {
    let us = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let parent = |stat: String| stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
    let stats = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    stats.filter_map(parent).filter(|parent| *parent == us).count()
}

/// Ends the program with a message when no trial has ended for a while: a hang becomes a failure.
fn watchdog(what: String, done: Arc<AtomicUsize>) -> mpsc::Sender<()> {
    let (alive, gone) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let (mut seen, mut since) = (0, Instant::now());
        while gone.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let now = done.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > LONGEST_TRIAL {
                eprintln!("watchdog: trial {now} of {what} did not end");
                std::process::abort();
            }
        }
    });
    alive
}

/// Failures that say enough.
const ENOUGH: usize = 10;
const LONGEST_TRIAL: Duration = Duration::from_secs(60);
