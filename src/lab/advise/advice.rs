//! [`Advice`]: what each choice would save, from where on it pays, and which one to make.

use anyhow::{Context, Result};
use serde::Serialize;

use super::costs::{Costs, Way};
use super::model::{Choice, Fewer, OTHERS, TODAY, choose};
use super::profile::Profile;
use crate::lab::table::nanos;

/// All that is said, for people (see `show`) and for programs.
#[derive(Debug, Serialize)]
pub(super) struct Advice {
    /// What it is about.
    pub(super) of: String,
    pub(super) executions: usize,
    pub(super) calls: f64,
    pub(super) own_ns: f64,
    pub(super) think_us: f64,
    /// Executions on each core at once.
    pub(super) parallel: f64,
    /// Least share of an execution that counts.
    pub(super) share: f64,
    /// Waiting for the host as it was seen, in nanoseconds, and over what; of snapshots only.
    pub(super) seen: Option<(f64, String)>,
    /// Today first.
    pub(super) choices: Vec<Judged>,
    /// Those that nothing is known of.
    pub(super) unknown: Vec<String>,
    /// By own time, from how many calls of this mix on each choice pays.
    pub(super) break_even: Vec<BreakEven>,
    pub(super) recommended: String,
    pub(super) saves: f64,
    pub(super) confidence: Confidence,
    pub(super) because: Vec<String>,
    pub(super) would_change: Vec<String>,
    /// How far apart the cores were that the costs are of.
    pub(super) distance: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Confidence {
    Good,
    Fair,
    Low,
}

/// A choice, and from where on it is worth making.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    pub(super) choice: Choice,
    pub(super) name: String,
    pub(super) waiting_ns: f64,
    /// Of both processes, beside computing.
    pub(super) cpu_ns: f64,
    pub(super) execution_ns: f64,
    /// Share of today's execution that it saves; negative if it takes longer.
    pub(super) saves: f64,
    /// It saves the share from so many calls of this mix on; none if no number is enough.
    pub(super) calls: Option<u64>,
    /// It does up to so many microseconds of computing between calls, all else being as it is.
    pub(super) think_us: Option<f64>,
    /// It does up to so many executions on each core.
    pub(super) parallel: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct BreakEven {
    pub(super) own_ns: f64,
    /// Instead of today's way, in the order of [`OTHERS`]; none if no number is enough, or nothing is known.
    pub(super) calls: Vec<Option<u64>>,
    /// Shared memory instead of a socket, both adaptive.
    pub(super) carrying: Option<u64>,
}

/// What an answer depends on beside profile and costs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) own_ns: f64,
    pub(super) parallel: f64,
    pub(super) share: f64,
}

impl Advice {
    pub(super) fn of(profile: &Profile, costs: &Costs, asked: Asked) -> Result<Self> {
        let Asked { own_ns, parallel, share } = asked;
        let judge = |choice: Choice| {
            let waiting = choice.waiting(profile, costs)?;
            Some(Judged {
                choice,
                name: choice.name(),
                waiting_ns: waiting.wall,
                cpu_ns: waiting.cpu,
                execution_ns: choice.execution(profile, costs, own_ns, parallel)?,
                saves: choice.saves(TODAY, profile, costs, own_ns, parallel)?,
                calls: break_even((choice, TODAY), profile, costs, asked).filter(|_| choice != TODAY),
                think_us: longest_think(choice, profile, costs, asked),
                parallel: most_parallel(choice, profile, costs, asked),
            })
        };
        let choices: Vec<Judged> = [TODAY].into_iter().chain(OTHERS).filter_map(judge).collect();
        let unknown = OTHERS.iter().filter(|other| choices.iter().all(|known| known.choice != **other));
        let unknown = unknown.map(|choice| choice.name()).collect();
        let times: Vec<_> = choices.iter().map(|judged| (judged.choice, judged.execution_ns)).collect();
        let (recommended, time) = choose(&times, share).context("nothing is known of today's way")?;
        let break_even = OWN_NS.into_iter().map(|own_ns| {
            let calls =
                OTHERS.iter().map(|choice| break_even((*choice, TODAY), profile, costs, Asked { own_ns, ..asked }));
            let carrying = break_even(CARRYING, profile, costs, Asked { own_ns, ..asked });
            BreakEven { own_ns, calls: calls.collect(), carrying }
        });
        let saves = 1.0 - time / times[0].1;
        let (confidence, because) = confidence(profile, &choices, (recommended, saves), share);
        Ok(Self {
            of: profile.name.clone(),
            executions: profile.executions,
            calls: profile.calls(),
            own_ns,
            think_us: profile.think_us,
            parallel,
            share,
            seen: profile.seen.clone(),
            unknown,
            break_even: break_even.collect(),
            recommended: if recommended == TODAY { STAY.to_owned() } else { recommended.name() },
            saves,
            confidence,
            because,
            would_change: changes(profile, costs, &choices, recommended, asked),
            choices,
            distance: costs.distance.clone(),
        })
    }
}

/// How sure the recommendation is, and why.
fn confidence(
    profile: &Profile,
    choices: &[Judged],
    (recommended, saved): (Choice, f64),
    share: f64,
) -> (Confidence, Vec<String>) {
    let (mut confidence, mut because) = (Confidence::Good, Vec::new());
    let mut lower = |to, reason: &str| {
        if confidence == Confidence::Good || to == Confidence::Low {
            confidence = to;
        }
        because.push(reason.to_owned());
    };
    // A choice whose gain is that near to what counts would tip with the model's usual error: a further one that would nearly be worth
    // making, or a cheaper one beyond which it is barely worth going.
    let at = choices.iter().position(|known| known.choice == recommended).unwrap_or(0);
    let gain = |(place, other): (usize, &Judged)| if place < at { saved - other.saves } else { other.saves - saved };
    if choices.iter().enumerate().any(|other| (gain(other) - share).abs() < share * NEAR) {
        lower(Confidence::Fair, "another choice is nearly as good");
    }
    if profile.executions < MANY {
        lower(Confidence::Fair, "it is about few executions");
    }
    if profile.cached.is_none() {
        lower(Confidence::Fair, "what a cache would save is not known");
    }
    if let Some((seen, _)) = &profile.seen {
        let modelled = choices.iter().map(|known| known.waiting_ns);
        let (least, most) = modelled.fold((f64::MAX, 0.0_f64), |(least, most), ns| (least.min(ns), most.max(ns)));
        if *seen < least / 2.0 || *seen > most * 2.0 {
            lower(Confidence::Low, "the waiting that was seen is not what these costs make of it");
        }
    }
    (confidence, because)
}

/// What would make it another recommendation.
fn changes(profile: &Profile, costs: &Costs, choices: &[Judged], recommended: Choice, asked: Asked) -> Vec<String> {
    let mut changes = Vec::new();
    if recommended == TODAY {
        let first = choices.iter().filter_map(|judged| Some((judged.calls?, &judged.name))).min();
        if let Some((calls, name)) = first {
            changes.push(format!("{calls} calls an execution instead of {:.0}: {name}", profile.calls()));
        }
    } else {
        if let Some(own) = longest_own(recommended, profile, costs, asked) {
            changes.push(format!("executions that compute for more than {} by themselves", nanos(own)));
        }
        let judged = choices.iter().find(|judged| judged.choice == recommended);
        if let Some(us) = judged.and_then(|judged| judged.think_us).filter(|us| *us < LONGEST_THINK) {
            changes.push(format!("more than {} of computing between calls", nanos(us * 1e3)));
        }
        if let Some(most) = judged.and_then(|judged| judged.parallel).filter(|most| *most < MOST_PARALLEL) {
            changes.push(format!("more than {most} executions on each core"));
        }
    }
    if profile.cached.is_none() {
        changes.push("knowing what a cache would save: --cached PERCENT".to_owned());
    }
    if profile.batched.is_none() {
        changes.push("knowing which reads could go out together: --batched PERCENT".to_owned());
    }
    changes
}

/// From how many calls of this mix on a choice saves the share of an execution with another. What it saves grows with the calls, so the
/// place is found by halving.
pub(super) fn break_even(
    (choice, other): (Choice, Choice),
    profile: &Profile,
    costs: &Costs,
    asked: Asked,
) -> Option<u64> {
    let pays = |calls: f64| {
        let profile = profile.scaled(calls / profile.calls());
        Some(choice.saves(other, &profile, costs, asked.own_ns, asked.parallel)? >= asked.share)
    };
    if !pays(MOST_CALLS)? {
        return None;
    }
    let (mut low, mut high) = (0.0, MOST_CALLS);
    while high - low > 0.5 {
        let middle = (low + high) / 2.0;
        if pays(middle)? { high = middle } else { low = middle }
    }
    Some(high.ceil() as u64)
}

/// The longest computing between calls up to which a choice saves the share; the execution's own time grows with it.
fn longest_think(choice: Choice, profile: &Profile, costs: &Costs, asked: Asked) -> Option<f64> {
    let pays = |us: &f64| {
        let own_ns = (asked.own_ns - profile.think_us * 1e3 * profile.calls()).max(0.0) + us * 1e3 * profile.calls();
        let profile = Profile { think_us: *us, ..profile.clone() };
        choice.saves(TODAY, &profile, costs, own_ns, asked.parallel).is_some_and(|saves| saves >= asked.share)
    };
    steps(1.0, LONGEST_THINK).chain([0.0]).find(pays)
}

/// The most executions on each core up to which a choice saves the share.
fn most_parallel(choice: Choice, profile: &Profile, costs: &Costs, asked: Asked) -> Option<f64> {
    let pays = |parallel: &f64| {
        choice.saves(TODAY, profile, costs, asked.own_ns, *parallel).is_some_and(|saves| saves >= asked.share)
    };
    steps(0.25, MOST_PARALLEL).find(pays)
}

/// How long executions may compute by themselves before a choice no longer saves the share.
fn longest_own(choice: Choice, profile: &Profile, costs: &Costs, asked: Asked) -> Option<f64> {
    let pays = |own_ns: &f64| {
        choice.saves(TODAY, profile, costs, *own_ns, asked.parallel).is_some_and(|saves| saves >= asked.share)
    };
    steps(1e5, LONGEST_OWN).find(pays).filter(|own| *own < LONGEST_OWN)
}

/// From the highest down to the lowest, by quarters of a decade, rounded to a digit and a half.
fn steps(lowest: f64, highest: f64) -> impl Iterator<Item = f64> {
    let count = ((highest / lowest).log10() * 4.0).round() as i32;
    (0..=count).rev().map(move |step| {
        let at = lowest * 10_f64.powf(f64::from(step) / 4.0);
        let unit = 10_f64.powf(at.log10().floor()) / 4.0;
        (at / unit).round() * unit
    })
}

/// What is left to gain by carrying the calls another way, once both ends poll.
pub(super) const CARRYING: (Choice, Choice) =
    (Choice::new(Way::ShmAdaptive, Fewer::Nothing), Choice::new(Way::SocketAdaptive, Fewer::Nothing));
/// The recommendation to change nothing.
pub(super) const STAY: &str = "stay";
/// Own times in the table of break-evens: the start-up of a WebAssembly contract, and that of an interpreter, up to 5 s, on top.
pub(super) const OWN_NS: [f64; 6] = [6.3e6, 5.63e7, 2.063e8, 5.063e8, 1.0063e9, 5.0063e9];
/// Beyond any execution that was recorded.
const MOST_CALLS: f64 = 1e7;
/// Microseconds.
pub(super) const LONGEST_THINK: f64 = 1e5;
pub(super) const MOST_PARALLEL: f64 = 25.0;
/// Nanoseconds.
const LONGEST_OWN: f64 = 1e11;
/// Of the share that counts, how near is near.
const NEAR: f64 = 0.4;
/// Executions that say what is usual.
const MANY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tips_with_the_usual_error_is_no_good_advice() {
        let profile = Profile {
            name: String::new(),
            executions: MANY,
            loads: Vec::new(),
            cached: Some(Vec::new()),
            batched: None,
            own_ns: None,
            think_us: 0.0,
            seen: None,
        };
        let sure = |saves: [f64; 3], recommended: usize| {
            let choices = [TODAY, OTHERS[0], OTHERS[1]].into_iter().zip(saves).map(|(choice, saves)| Judged {
                choice,
                name: choice.name(),
                waiting_ns: 0.0,
                cpu_ns: 0.0,
                execution_ns: 0.0,
                saves,
                calls: None,
                think_us: None,
                parallel: None,
            });
            let choices: Vec<_> = choices.collect();
            confidence(&profile, &choices, (choices[recommended].choice, saves[recommended]), 0.05).0
        };
        assert_eq!(sure([0.0, 0.5, 0.6], 2), Confidence::Good);
        assert_eq!(sure([0.0, 0.5, 0.51], 1), Confidence::Good);
        // A further step that is nearly worth it, and one that barely was.
        assert_eq!(sure([0.0, 0.5, 0.545], 1), Confidence::Fair);
        assert_eq!(sure([0.0, 0.5, 0.555], 2), Confidence::Fair);
    }

    #[test]
    fn steps_fall_from_the_highest_to_the_lowest() {
        let steps: Vec<_> = steps(1.0, 100.0).collect();
        assert_eq!(steps, [100.0, 55.0, 32.5, 17.5, 10.0, 5.5, 3.25, 1.75, 1.0]);
    }
}
