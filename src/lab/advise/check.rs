//! The model against what was measured: every recorded trace, each way, with a cache, in batches; and whether both recommend the same.

use std::fmt::{self, Display, Formatter};

use anyhow::{Result, ensure};

use super::costs::{Costs, FEWEST, Way};
use super::model::{Choice, Fewer, OTHERS, TODAY, choose};
use super::profile::{PAGE, Profile, TOGETHER};
use crate::lab::report::{Record, Row};
use crate::lab::stats::median;
use crate::lab::table::nanos;
use crate::lab::trace::Trace;

#[derive(Debug)]
pub(super) struct Checked {
    executions: Vec<Compared>,
    decisions: Vec<Decided>,
    /// Those that were measured too rarely, or lost too much of their time, to be counted.
    unclear: Vec<Compared>,
    share: f64,
}

/// An execution each way: nanoseconds, connecting included.
#[derive(Debug)]
struct Compared {
    trace: String,
    choice: Choice,
    predicted: f64,
    measured: f64,
}

/// What would be chosen for executions that compute for so long.
#[derive(Debug)]
struct Decided {
    trace: String,
    calls: f64,
    own_ns: f64,
    predicted: Choice,
    measured: Choice,
    /// What following the model costs, as a share of today's execution; less than nothing if it asks for more than has to be.
    regret: f64,
}

/// Predicts what the parts `savings` and `batches` have measured; few slices say nothing, and stolen time says it wrongly.
pub(super) fn check(record: &Record, costs: &Costs, share: f64) -> Result<Checked> {
    let parts = ["savings", "batches"].into_iter().flat_map(|part| record.rows(part));
    let rows: Vec<&Row> = parts.filter(|row| at(row, costs)).collect();
    let mut traces: Vec<&str> = rows.iter().filter_map(|row| row.trace()).collect();
    traces.sort_unstable();
    traces.dedup();
    let (mut executions, mut decisions, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
    for trace in traces {
        let profile = Profile::of_trace(&Trace::built_in(trace)?.only(&record.played(trace)?)?)?.merged();
        let of_trace =
            |choice: Choice| rows.iter().find(|row| row.trace() == Some(trace) && self::choice(row) == Some(choice));
        let from = executions.len();
        for choice in [TODAY].into_iter().chain(OTHERS) {
            let Some(row) = of_trace(choice) else { continue };
            let times = row.execution_ns.zip(choice.execution(&profile, costs, 0.0, 0.0));
            let Some((measured, predicted)) = times else { continue };
            let clear = row.slices >= FEWEST && row.steal.is_none_or(|stolen| stolen <= STOLEN);
            let one = Compared { trace: trace.to_owned(), choice, predicted, measured };
            if clear { &mut executions } else { &mut unclear }.push(one);
        }
        decisions.extend(OWN_NS.into_iter().filter_map(|own_ns| decide(&executions[from..], &profile, own_ns, share)));
    }
    ensure!(!executions.is_empty(), "no execution was measured with {} cores", costs.distance);
    Ok(Checked { executions, decisions, unclear, share })
}

fn at(row: &Row, costs: &Costs) -> bool {
    row.slices > 0 && row.distance.as_deref() == Some(&costs.distance)
}

/// The choice that a row has measured.
fn choice(row: &Row) -> Option<Choice> {
    let way = Way::ALL.into_iter().find(|way| way.is(row))?;
    let fewer = match (row.cache, row.in_flight) {
        (None, 1) => Fewer::Nothing,
        (Some(PAGE), 1) => Fewer::Cache,
        (None, many) if f64::from(many) == TOGETHER => Fewer::Batches,
        _ => return None,
    };
    Some(Choice { way, fewer }).filter(|choice| *choice == TODAY || OTHERS.contains(choice))
}

fn decide(executions: &[Compared], profile: &Profile, own_ns: f64, share: f64) -> Option<Decided> {
    let times = |time: fn(&Compared) -> f64| -> Vec<_> {
        let order = [TODAY].into_iter().chain(OTHERS);
        let known = order.filter_map(|choice| executions.iter().find(|one| one.choice == choice));
        known.map(|one| (one.choice, own_ns + time(one))).collect()
    };
    // Without today's way there is nothing that staying could be compared with.
    executions.iter().find(|one| one.choice == TODAY)?;
    let measured_times = times(|one| one.measured);
    let (predicted, _) = choose(&times(|one| one.predicted), share)?;
    let (measured, best) = choose(&measured_times, share)?;
    let its = measured_times.iter().find(|(choice, _)| *choice == predicted)?.1;
    Some(Decided {
        trace: profile.name.trim_start_matches("trace ").to_owned(),
        calls: profile.calls(),
        own_ns,
        predicted,
        measured,
        regret: (its - best) / measured_times[0].1,
    })
}

impl Compared {
    fn off(&self) -> f64 {
        self.predicted / self.measured - 1.0
    }
}

impl Display for Compared {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (name, off) = (self.choice.name(), self.off() * 100.0);
        let (predicted, measured) = (nanos(self.predicted), nanos(self.measured));
        write!(f, "{:<27} {name:<26} {predicted:>9} {measured:>9} {off:>+4.0}%", self.trace)
    }
}

impl Checked {
    fn errors(&self) -> (f64, f64) {
        let mut errors: Vec<f64> = self.executions.iter().map(|one| one.off().abs()).collect();
        (median(&mut errors), errors.iter().copied().fold(0.0, f64::max))
    }

    /// Whether it is as near as it has to be, and no advice costs more than it is meant to gain.
    pub(super) fn holds(&self) -> bool {
        let (median, worst) = self.errors();
        median <= MEDIAN && worst <= WORST && self.decisions.iter().all(|one| one.regret < TOSS_UP * self.share)
    }
}

impl Display for Checked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<27} {:<26} {:>9} {:>9} {:>5}", "trace", "way", "predicted", "measured", "off")?;
        self.executions.iter().try_for_each(|one| writeln!(f, "{one}"))?;
        let (median, worst) = self.errors();
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        writeln!(
            f,
            "\n{} executions: off by {} at the median, {} at worst (allowed: {:.0} and {:.0} %)",
            self.executions.len(),
            percent(median),
            percent(worst),
            MEDIAN * 100.0,
            WORST * 100.0
        )?;
        writeln!(f)?;
        if !self.unclear.is_empty() {
            let stolen = percent(STOLEN);
            writeln!(f, "Not counted, of fewer than {FEWEST} slices or with more than {stolen} stolen:")?;
            self.unclear.iter().try_for_each(|one| writeln!(f, "{one}"))?;
            writeln!(f)?;
        }
        writeln!(f, "{:<27} {:>5} {:>8} {:<26} by what was measured", "trace", "calls", "own", "advice")?;
        let name = |choice| if choice == TODAY { "stay".to_owned() } else { Choice::name(choice) };
        for one in &self.decisions {
            let measured = match one.predicted == one.measured {
                true => "the same".to_owned(),
                false => format!("{} ({:+.1} %)", name(one.measured), one.regret * -100.0),
            };
            let (own, predicted) = (nanos(one.own_ns), name(one.predicted));
            writeln!(f, "{:<27} {:>5.0} {own:>8} {predicted:<26} {measured}", one.trace, one.calls)?;
        }
        let same = self.decisions.iter().filter(|one| one.predicted == one.measured).count();
        let worst = self.decisions.iter().map(|one| one.regret).fold(0.0, f64::max);
        writeln!(
            f,
            "\n{} decisions: {same} the same, the others cost {} of today's execution at worst (allowed: {:.0} %)",
            self.decisions.len(),
            percent(worst),
            self.share * 100.0 * TOSS_UP
        )
    }
}

/// As the predictions were asked to be.
const MEDIAN: f64 = 0.10;
const WORST: f64 = 0.25;
/// Of the time of a row: twice what `record` tries a part again for.
const STOLEN: f64 = 0.2;
/// Where a step saves about as much as it has to, a little decides whether it is made; to be wrong then costs about that.
const TOSS_UP: f64 = 2.0;
/// Of executions that decisions are made for: a WebAssembly contract's, and with an interpreter's start-up of 0.2 s and of 2 s.
const OWN_NS: [f64; 3] = [6.3e6, 2.063e8, 2.0063e9];
