//! Cores: how many there are to use, which of them are threads of one, how far the two are apart that the lab measures between.
//!
//! In a virtual machine the topology is what the hypervisor says, and cores may move meanwhile; the time that a line takes between
//! them is what they are.

use rustix::thread::CpuSet;

use super::{Finding, read};
use crate::lab::matrix::Distance;
use crate::lab::rows::MOVED;
use crate::lab::stats::median;

/// What is said of the cores that this process may use, the first and the last of which took `lines` nanoseconds for a line and back.
pub(super) fn look(cores: &[usize], lines: &[f64]) -> Vec<Finding> {
    let mut found = vec![count(cores)];
    if let [first, .., last] = cores[..] {
        let lists: Vec<_> = cores
            .iter()
            .map(|core| read(&format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")))
            .map(|text| numbers(&text?))
            .collect();
        let told = lists[0].as_ref().map(|siblings| siblings.contains(&last));
        found.push(siblings(cores, &lists));
        found.push(distance([first, last], lines, told));
    }
    found
}

fn count(cores: &[usize]) -> Finding {
    let list = list(cores);
    match cores {
        [] | [_] => Finding::problem(
            "cores",
            format!("this process may use one core only ({list}); both ends of a connection take turns on it"),
            "allow two (taskset, cpuset, --cpuset-cpus of a container, virtual CPUs); until then only `--placements same` means \
             something, and ends that spin wait for the scheduler",
        ),
        [_, _] => Finding::note(
            "cores",
            format!("two ({list}), a measured process on each; whatever else runs takes their time"),
            "stop other programs while measuring, or use a machine with four cores",
        ),
        more => Finding::ok("cores", format!("{} ({list})", more.len())),
    }
}

/// Of each usable core, the threads of the same one.
fn siblings(cores: &[usize], lists: &[Option<Vec<usize>>]) -> Finding {
    let (first, last) = (cores[0], cores[cores.len() - 1]);
    let of = |at: usize| lists.get(at).and_then(Option::as_ref);
    let (Some(of_first), Some(of_last)) = (of(0), of(cores.len() - 1)) else {
        return Finding::ok("siblings", "the system does not say which cores are threads of one; see distance");
    };
    if of_first.contains(&last) {
        let advice = match cores.iter().rfind(|core| !of_first.contains(core)) {
            Some(other) => format!("measure between cores of their own: taskset -c {first},{other} transport-lab …"),
            None => "allow a core beside these; until then say \"sibling threads\" with every number".to_owned(),
        };
        let seen = format!("{first} and {last}, which the lab measures between, are threads of one core");
        return Finding::note("siblings", seen, advice);
    }
    let beside: Vec<usize> =
        of_first.iter().chain(of_last).copied().filter(|&core| core != first && core != last).collect();
    let seen = format!("{first} and {last}, which the lab measures between, are cores of their own");
    match beside[..] {
        [] => Finding::ok("siblings", seen),
        _ => Finding::note(
            "siblings",
            format!("{seen}; threads of the same cores: {}", list(&beside)),
            "keep those idle: what runs there slows the measured ones",
        ),
    }
}

/// What probes of a line's way between two cores say; `told`: whether the topology has them as siblings.
fn distance([first, last]: [usize; 2], lines: &[f64], told: Option<bool>) -> Finding {
    let lines: Vec<f64> = lines.iter().copied().filter(|ns| ns.is_finite()).collect();
    let mut sorted = lines.clone();
    let middle = median(&mut sorted);
    let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else {
        return Finding::note("distance", "no probe came to its end", "run the doctor again");
    };
    let moves = lines.windows(2).filter(|pair| pair[0].max(pair[1]) > pair[0].min(pair[1]) * MOVED).count();
    let places: Vec<String> = [Distance::Siblings, Distance::Near, Distance::Far]
        .into_iter()
        .map(|distance| (distance, lines.iter().filter(|&&ns| Distance::of(ns) == distance).count()))
        .filter(|(_, count)| *count > 0)
        .map(
            |(distance, count)| {
                if count == lines.len() { distance.to_string() } else { format!("{distance} {count}×") }
            },
        )
        .collect();
    let seen = format!(
        "{first} and {last} look like {}: a cache line there and back takes {middle:.0} ns ({low:.0} to {high:.0} in {} probes \
         within a second)",
        places.join(", "),
        lines.len(),
    );
    let distance = Distance::of(middle);
    let contradicts = match told {
        Some(true) if distance != Distance::Siblings => "; the topology says siblings",
        Some(false) if distance == Distance::Siblings => "; the topology hides that they are threads of one core",
        _ => "",
    };
    if moves > 0 {
        return Finding::note(
            "distance",
            format!("{seen}; it changed {moves}×{contradicts}"),
            "the cores move, or something else runs on them: take more rounds, compare ratios to the floor, and only numbers that \
             the lab filed under the same distance",
        );
    }
    if contradicts.is_empty() {
        Finding::ok("distance", seen)
    } else {
        Finding::note("distance", format!("{seen}{contradicts}"), "believe the probes, and look again before each run")
    }
}

/// `0-3,8`, as the kernel writes lists of cores. `None` if this is not one.
fn numbers(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// The inverse of [`numbers`].
fn list(cores: &[usize]) -> String {
    let runs = cores.chunk_by(|a, b| a + 1 == *b);
    let runs = runs.map(|run| match run {
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn lists_of_cores() {
        assert_eq!(numbers("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(numbers("5"), Some(vec![5]));
        for broken in ["", "a", "3-1", "0-", "1,,2", "-1", "0-99999999999", "0-18446744073709551615"] {
            assert_eq!(numbers(broken), None, "{broken}");
        }
        assert_eq!(list(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(list(&[]), "");
    }

    #[test]
    fn one_core_is_a_problem_and_two_are_worth_a_note() {
        let levels = [&[][..], &[3], &[0, 1], &[0, 1, 2]].map(|cores| count(cores).level);
        assert_eq!(levels, [Level::Problem, Level::Problem, Level::Note, Level::Ok]);
    }

    #[test]
    fn siblings_are_named_with_a_way_round_them() {
        let lists = |lists: &[&[usize]]| lists.iter().map(|list| Some(list.to_vec())).collect::<Vec<_>>();
        assert_eq!(siblings(&[0, 1], &lists(&[&[0], &[1]])).level, Level::Ok);

        let twins = siblings(&[0, 1], &lists(&[&[0, 1], &[0, 1]]));
        assert!(twins.level == Level::Note && twins.advice.unwrap().starts_with("allow a core"));

        let split = siblings(&[0, 1, 2, 3], &lists(&[&[0, 3], &[1, 2], &[1, 2], &[0, 3]]));
        assert!(split.advice.unwrap().contains("taskset -c 0,2 "));

        let beside = siblings(&[0, 1, 2, 3], &lists(&[&[0, 1], &[0, 1], &[2, 3], &[2, 3]]));
        assert!(beside.level == Level::Note && beside.seen.ends_with("same cores: 1-2"), "{beside:?}");

        assert_eq!(siblings(&[0, 1], &[None, None]).level, Level::Ok);
    }

    #[test]
    fn probes_are_believed_and_moves_are_told() {
        let of = |lines: &[f64], told| distance([0, 1], lines, told);
        let near = of(&[70.0, 72.0, 75.0, f64::NAN], Some(false));
        assert_eq!((near.level, near.seen.contains("near cores: ")), (Level::Ok, true));
        assert!(near.seen.contains("72 ns (70 to 75 in 3 probes"), "{near:?}");

        let moved = of(&[70.0, 70.0, 410.0, 70.0], None);
        assert!(moved.level == Level::Note && moved.seen.contains("near cores 3×, far cores 1×"), "{moved:?}");
        assert!(moved.seen.ends_with("it changed 2×"), "{moved:?}");

        assert!(of(&[30.0, 31.0], Some(false)).seen.ends_with("hides that they are threads of one core"));
        assert!(of(&[70.0, 71.0], Some(true)).seen.ends_with("the topology says siblings"));
        assert_eq!(of(&[30.0, 31.0], Some(true)).level, Level::Ok);
        assert_eq!(of(&[f64::NAN], None).level, Level::Note);
        assert_eq!(of(&[], None).level, Level::Note);
    }
}
