//! Frequency, idle cores, and what reading the clock costs.

use std::collections::BTreeSet;
use std::fs;

use super::{Finding, read};
use crate::lab::stats::clock_cost;

const CPU: &str = "/sys/devices/system/cpu";

pub(super) fn look(cores: &[usize], virtualised: bool) -> Vec<Finding> {
    let governors = cores.iter().filter_map(|core| read(&format!("{CPU}/cpu{core}/cpufreq/scaling_governor")));
    let mut found = vec![governor(&governors.collect())];
    let (no_turbo, boost) = (read(&format!("{CPU}/intel_pstate/no_turbo")), read(&format!("{CPU}/cpufreq/boost")));
    found.extend(turbo(no_turbo.as_deref(), boost.as_deref()));
    let (driver, polls) =
        (read(&format!("{CPU}/cpuidle/current_driver")), read("/sys/module/haltpoll/parameters/guest_halt_poll_ns"));
    let deepest = cores.first().and_then(|core| deepest(&states(*core)));
    found.push(if virtualised {
        halting(driver.as_deref(), polls.as_deref())
    } else {
        sleeping(driver.as_deref(), deepest)
    });
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    found.push(clock(clock_cost(), source.as_deref().unwrap_or("unknown")));
    found
}

fn governor(governors: &BTreeSet<String>) -> Finding {
    let names = governors.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    match &names[..] {
        "" => Finding::ok("governor", "none: this system does not choose the frequency"),
        "performance" => Finding::ok("governor", names),
        _ => Finding::note(
            "governor",
            format!("{names}: the frequency follows the load, and ends that sleep look slower than they are"),
            "cpupower frequency-set -g performance",
        ),
    }
}

/// What the switches of Intel's driver (1: off) and of the others (1: on) say.
fn turbo(no_turbo: Option<&str>, boost: Option<&str>) -> Option<Finding> {
    let (on, switch) = match (no_turbo, boost) {
        (Some(off @ ("0" | "1")), _) => (off == "0", "echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo"),
        (_, Some(on @ ("0" | "1"))) => (on == "1", "echo 0 > /sys/devices/system/cpu/cpufreq/boost"),
        _ => return None,
    };
    Some(if on {
        let seen = "on: the frequency depends on how many cores work and on how warm they are";
        Finding::note("turbo", seen, format!("to compare runs with each other: {switch}"))
    } else {
        Finding::ok("turbo", "off")
    })
}

/// Idle cores of a virtual machine, with the kernel's own polling before it halts one.
fn halting(driver: Option<&str>, polls_ns: Option<&str>) -> Finding {
    let polls_us = polls_ns.and_then(|text| text.parse::<u64>().ok()).map_or(0, |ns| ns / 1000);
    if driver == Some("haltpoll") && polls_us > 0 {
        Finding::note(
            "idle cores",
            format!(
                "haltpoll: a core without work polls for up to {polls_us} µs, then halts and has to be started again"
            ),
            format!(
                "waking costs something else before and after {polls_us} µs of sleep: say with numbers of sleeping ends how \
                     long they slept (--think)"
            ),
        )
    } else {
        let polling = if driver == Some("haltpoll") {
            "echo 200000 > /sys/module/haltpoll/parameters/guest_halt_poll_ns has it poll first"
        } else {
            "idle=poll on the kernel's command line keeps cores awake"
        };
        Finding::note(
            "idle cores",
            "a core without work halts at once, and the hypervisor has to start it again",
            format!("numbers of sleeping ends are numbers of this hypervisor; {polling}"),
        )
    }
}

/// Idle cores of real hardware.
fn sleeping(driver: Option<&str>, deepest: Option<(String, u64)>) -> Finding {
    let driver = driver.unwrap_or("no driver");
    match deepest {
        Some((name, latency)) if latency > QUICK_WAKE_US => Finding::note(
            "idle cores",
            format!("{driver}: a core without work sleeps as deep as {name}, out of which it takes {latency} µs"),
            format!("for quick waking: cpupower idle-set -D {QUICK_WAKE_US}; say so with numbers of sleeping ends"),
        ),
        Some((name, latency)) => Finding::ok("idle cores", format!("{driver}, no deeper than {name} ({latency} µs)")),
        None => Finding::ok("idle cores", format!("{driver}; it names no states")),
    }
}

/// Name, microseconds to leave it, and whether it is switched off, of each idle state that the system has for a core.
fn states(core: usize) -> Vec<(String, Option<u64>, bool)> {
    let Ok(entries) = fs::read_dir(format!("{CPU}/cpu{core}/cpuidle")) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .map(|path| {
            let field = |name: &str| read(&path.join(name).to_string_lossy()).unwrap_or_default();
            (field("name"), field("latency").parse().ok(), field("disable") == "1")
        })
        .collect()
}

fn deepest(states: &[(String, Option<u64>, bool)]) -> Option<(String, u64)> {
    let usable = states.iter().filter(|(.., disabled)| !disabled);
    usable.filter_map(|(name, latency, _)| Some((name.clone(), (*latency)?))).max_by_key(|(_, latency)| *latency)
}

fn clock(cost_ns: f64, source: &str) -> Finding {
    let seen = format!("{source}: a reading costs {cost_ns:.0} ns, which is in every call that is timed by itself");
    if cost_ns < CHEAP_CLOCK_NS {
        Finding::ok("clock", seen)
    } else {
        let advice = "look why it is not tsc (dmesg | grep -i clocksource), and whether this is a release build; trust means, \
                      which are timed in batches, more than percentiles";
        Finding::note("clock", seen, advice)
    }
}

const QUICK_WAKE_US: u64 = 10;
/// Through the vDSO; a system call or an emulated timer takes longer.
const CHEAP_CLOCK_NS: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn frequencies() {
        let of = |names: &[&str]| governor(&names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(of(&[]).level, Level::Ok);
        assert_eq!(of(&["performance"]).level, Level::Ok);
        assert!(of(&["performance", "schedutil"]).seen.starts_with("performance, schedutil: "));

        let of = |no_turbo, boost| turbo(no_turbo, boost).map(|finding| finding.level);
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some("yes"), Some("")), None);
        assert_eq!([of(Some("0"), None), of(None, Some("1"))], [Some(Level::Note); 2]);
        assert_eq!([of(Some("1"), Some("1")), of(None, Some("0"))], [Some(Level::Ok); 2]);
    }

    #[test]
    fn idle_cores() {
        assert!(halting(Some("haltpoll"), Some("200000")).seen.contains("up to 200 µs"));
        for broken in [None, Some("0"), Some("many"), Some("-1")] {
            assert!(halting(Some("haltpoll"), broken).seen.contains("halts at once"), "{broken:?}");
        }
        assert!(halting(None, Some("200000")).seen.contains("halts at once"));
        let advice = |driver| halting(driver, Some("0")).advice.unwrap();
        assert!(advice(Some("haltpoll")).contains("guest_halt_poll_ns") && advice(None).contains("idle=poll"));

        let state = |name: &str, latency, disabled| (name.to_owned(), latency, disabled);
        let states = [state("POLL", Some(0), false), state("C6", Some(133), true), state("C1", Some(2), false)];
        assert_eq!(deepest(&states), Some(("C1".to_owned(), 2)));
        assert_eq!(deepest(&[state("?", None, false)]), None);
        assert_eq!(sleeping(Some("intel_idle"), deepest(&states)).level, Level::Ok);
        assert_eq!(sleeping(Some("intel_idle"), Some(("C6".to_owned(), 133))).level, Level::Note);
        assert_eq!(sleeping(None, None).level, Level::Ok);
    }

    #[test]
    fn clocks() {
        assert_eq!(clock(25.0, "tsc").level, Level::Ok);
        assert_eq!(clock(1200.0, "hpet").level, Level::Note);
    }
}
