//! A second of this machine: what else runs, what a hypervisor takes away, and probes of the distance between two cores.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use super::{Finding, read};
use crate::lab::floor;
use crate::lab::process::Ticks;

/// What was seen meanwhile.
#[derive(Debug)]
pub(super) struct Watched {
    /// Nanoseconds that a line took from the first core to the last and back, one after another.
    pub(super) lines: Vec<f64>,
    ticks: Ticks,
    /// Tasks that ran or could have run beside this one, each time that it was looked.
    beside: Vec<u64>,
    /// Programs and the part of a core that they used, the busiest first.
    busy: Vec<(String, f64)>,
    load: Option<Load>,
}

/// What `/proc/loadavg` says.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Load {
    /// Average of the last minute.
    minute: f64,
    /// Tasks of the whole machine that run or can, the reading one included.
    running: u64,
}

/// A process: its program and the clock ticks that it has used.
type Process = (String, u64);

impl Watched {
    /// Takes that long.
    pub(super) fn a_second(cores: &[usize]) -> Self {
        let load = load(); // before the probes, which are load themselves
        let (before, started) = (processes(), Ticks::now());
        let (mut lines, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..PROBES {
            thread::sleep(BETWEEN);
            beside.extend(self::load().map(|load| load.running.saturating_sub(1)));
            if let [first, .., last] = cores[..] {
                lines.extend(floor::measure(first, last, None).map(|floor| floor.line));
            }
        }
        let ticks = Ticks::now().since(started);
        let cores = thread_count(&read("/proc/stat").unwrap_or_default()).max(1);
        let busy = busiest(&before, &processes(), (ticks.all as f64 / cores as f64).max(1.0));
        Self { lines, ticks, beside, busy, load }
    }

    pub(super) fn findings(&self) -> [Finding; 2] {
        let beside = self.beside.iter().sum::<u64>() as f64 / self.beside.len().max(1) as f64;
        [others(self.load, beside, &self.busy), stolen(self.ticks)]
    }
}

fn others(load: Option<Load>, beside: f64, busy: &[(String, f64)]) -> Finding {
    let Some(load) = load else {
        return Finding::note("other programs", "/proc/loadavg cannot be read", "see yourself: top");
    };
    let programs: Vec<String> = busy
        .iter()
        .filter(|(_, share)| *share >= WORTH_NAMING)
        .take(3)
        .map(|(name, share)| format!("{name} {:.0} %", share * 100.0))
        .collect();
    let seen =
        format!("{beside:.1} tasks beside this one could run, on average; load {:.2} in the last minute", load.minute);
    let seen = if programs.is_empty() { seen } else { format!("{seen}; of a core: {}", programs.join(", ")) };
    if beside >= QUIET_TASKS || busy.iter().map(|(_, share)| share).sum::<f64>() >= QUIET_SHARE {
        Finding::note(
            "other programs",
            seen,
            "stop them, or wait until they are done: each takes turns with a measured process",
        )
    } else {
        Finding::ok("other programs", seen)
    }
}

fn stolen(ticks: Ticks) -> Finding {
    let share = ticks.stolen as f64 / ticks.all.max(1) as f64;
    let seen = format!("{:.1} % of the time of all cores within a second", share * 100.0);
    if share >= QUIET_STEAL {
        let advice =
            "the hypervisor gives this machine's cores to others: measure at another time, or on a dedicated host";
        Finding::note("stolen time", seen, advice)
    } else {
        Finding::ok("stolen time", seen)
    }
}

fn load() -> Option<Load> {
    parse_load(&read("/proc/loadavg")?)
}

/// `0.52 0.58 0.59 3/467 12345`
fn parse_load(text: &str) -> Option<Load> {
    let mut fields = text.split_whitespace();
    let minute: f64 = fields.next()?.parse().ok().filter(|load: &f64| load.is_finite())?;
    let running = fields.nth(2)?.split_once('/')?.0.parse().ok()?;
    Some(Load { minute, running })
}

/// All that we may see, but for this one.
fn processes() -> BTreeMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| Some((pid, parse_process(&read(&format!("/proc/{pid}/stat"))?)?)))
        .collect()
}

/// `12 (name) S …`: a name may have blanks and brackets in it.
fn parse_process(stat: &str) -> Option<Process> {
    let (start, rest) = stat.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let mut times = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    Some((name.to_owned(), times.next()?.ok()?.checked_add(times.next()?.ok()?)?))
}

/// The programs that used most of `core` ticks, each with all its processes.
fn busiest(before: &BTreeMap<u32, Process>, after: &BTreeMap<u32, Process>, core: f64) -> Vec<(String, f64)> {
    let mut programs = BTreeMap::<&str, u64>::new();
    for (pid, (name, ticks)) in after {
        let earlier = before.get(pid).map_or(0, |(_, ticks)| *ticks);
        *programs.entry(name).or_default() += ticks.saturating_sub(earlier);
    }
    let mut programs: Vec<_> =
        programs.into_iter().map(|(name, ticks)| (name.to_owned(), ticks as f64 / core)).collect();
    programs.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    programs
}

/// The cores that `/proc/stat` has lines for.
fn thread_count(stat: &str) -> usize {
    let names = stat.lines().filter_map(|line| line.split_whitespace().next()?.strip_prefix("cpu"));
    names.filter(|number| number.parse::<u32>().is_ok()).count()
}

const PROBES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(50);
/// Daemons wake up now and then.
const QUIET_TASKS: f64 = 0.2;
const QUIET_SHARE: f64 = 0.1;
const WORTH_NAMING: f64 = 0.03;
const QUIET_STEAL: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn loads() {
        assert_eq!(parse_load("5.72 5.08 4.42 8/166 21529\n"), Some(Load { minute: 5.72, running: 8 }));
        for broken in
            ["", "0.1", "0.1 0.2 0.3", "0.1 0.2 0.3 8", "x 0.2 0.3 1/2 3", "NaN 0 0 1/2 3", "0.1 0.2 0.3 -1/2 3"]
        {
            assert_eq!(parse_load(broken), None, "{broken}");
        }
    }

    #[test]
    fn processes_are_read_whatever_their_name() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 5 6 7 8 30 12 0 0 20 0 1 0 9 1 1";
        assert_eq!(parse_process(stat), Some(("a) b (c".to_owned(), 42)));
        for broken in ["", "12", "12 (a)", "12 (a) S 1 2", "12 a S 1 12 12 0 -1 4194560 5 6 7 8 30 12"] {
            assert_eq!(parse_process(broken), None, "{broken}");
        }
    }

    #[test]
    fn programs_are_put_together_and_sorted() {
        let process = |name: &str, ticks| (name.to_owned(), ticks);
        let before = BTreeMap::from([(1, process("init", 500)), (2, process("rustc", 100))]);
        let after = BTreeMap::from([(1, process("init", 501)), (2, process("rustc", 150)), (3, process("rustc", 40))]);
        assert_eq!(busiest(&before, &after, 100.0), [("rustc".to_owned(), 0.9), ("init".to_owned(), 0.01)]);
        assert_eq!(thread_count("cpu  1 2\ncpu0 1 2\ncpu1 1 2\nintr 5\n"), 2);
    }

    #[test]
    fn quiet_and_busy_machines() {
        let load = |minute| Some(Load { minute, running: 1 });
        // A build that has just ended is no reason to wait.
        assert_eq!(others(load(3.0), 0.05, &[("sshd".to_owned(), 0.01)]).level, Level::Ok);
        let busy = others(load(0.0), 0.0, &[("rustc".to_owned(), 0.84), ("sshd".to_owned(), 0.01)]);
        assert!(busy.level == Level::Note && busy.seen.ends_with("of a core: rustc 84 %"), "{busy:?}");
        assert_eq!(others(load(0.0), 1.5, &[]).level, Level::Note);
        assert_eq!(others(None, 0.0, &[]).level, Level::Note);
        assert_eq!(stolen(Ticks { stolen: 1, all: 200 }).level, Level::Ok);
        assert_eq!(stolen(Ticks { stolen: 9, all: 200 }).level, Level::Note);
        assert_eq!(stolen(Ticks::default()).level, Level::Ok);
    }
}
