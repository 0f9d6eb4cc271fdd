//! [`Advice`] in words and numbers, in 80 columns, and as a chart of where each choice begins to pay.

use std::fmt::{Display, Formatter, Result};

use super::advice::{Advice, Asked, CARRYING, Confidence, Judged, LONGEST_THINK, MOST_PARALLEL, STAY, break_even};
use super::costs::{Costs, Way};
use super::model::{Choice, Fewer, OTHERS, TODAY};
use super::profile::Profile;
use crate::lab::report::{Axis, Chart, Drawing, Look, Point, Scale, Series, Source};
use crate::lab::table::nanos;

impl Display for Advice {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let today = &self.choices[0];
        writeln!(f, "{}: {:.0} calls an execution, {} of its own time", self.of, self.calls, nanos(self.own_ns))?;
        if let Some((waiting, over)) = &self.seen {
            let share = waiting / (waiting + self.own_ns) * 100.0;
            writeln!(f, "seen: {} of waiting for the host, {share:.1} % of all, over {over}", nanos(*waiting))?;
        }
        let share = today.waiting_ns / today.execution_ns * 100.0;
        writeln!(f, "today it would wait {} for its host, {share:.1} % of all\n", nanos(today.waiting_ns))?;
        writeln!(f, "{:<26} {:>8} {:>8} {:>9} {:>7}", "would be", "waiting", "CPU", "execution", "saves")?;
        for Judged { choice, name, waiting_ns, cpu_ns, execution_ns, saves, .. } in &self.choices {
            let name = if *choice == TODAY { &format!("{name} (today)") } else { name };
            let (waiting, cpu, execution) = (nanos(*waiting_ns), nanos(*cpu_ns), nanos(*execution_ns));
            write!(f, "{name:<26} {waiting:>8} {cpu:>8} {execution:>9}")?;
            if *choice == TODAY { writeln!(f, "{:>8}", "–")? } else { writeln!(f, " {:>5.1} %", saves * 100.0)? }
        }
        self.thresholds(f)?;
        self.by_own_time(f)?;
        match &self.recommended[..] {
            STAY => writeln!(f, "\nAdvice: stay with what there is; nothing saves {:.0} %.", self.share * 100.0)?,
            name => writeln!(f, "\nAdvice: {name}. It saves {:.0} % of an execution.", self.saves * 100.0)?,
        }
        let confidence = match self.confidence {
            Confidence::Good => "good",
            Confidence::Fair => "fair",
            Confidence::Low => "low",
        };
        let because = if self.because.is_empty() { String::new() } else { format!(": {}", self.because.join("; ")) };
        writeln!(f, "Confidence: {confidence}{because}.")?;
        for change in &self.would_change {
            writeln!(f, "It would change with {change}.")?;
        }
        if !self.unknown.is_empty() {
            writeln!(f, "Not known: {}.", self.unknown.join("; "))?;
        }
        writeln!(
            f,
            "\nCosts are medians with {} cores; CPU is that of both processes beside computing;\n{} executions share a core.",
            self.distance, self.parallel
        )
    }
}

impl Advice {
    fn thresholds(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "\nsaves {:.0} % or more", self.share * 100.0)?;
        writeln!(f, "{:<26} {:>10} {:>12} {:>14}", "all else as it is", "from calls", "up to think", "up to parallel")?;
        for judged in &self.choices[1..] {
            let dash = || "–".to_owned();
            let calls = judged.calls.map_or_else(dash, |calls| calls.to_string());
            let think = judged.think_us.map_or_else(dash, |us| match us {
                0.0 => "0".to_owned(),
                us if us >= LONGEST_THINK => "any".to_owned(),
                us => nanos(us * 1e3),
            });
            let parallel = judged.parallel.map_or_else(dash, |most| match most {
                most if most >= MOST_PARALLEL => "any".to_owned(),
                most => most.to_string(),
            });
            writeln!(f, "{:<26} {calls:>10} {think:>12} {parallel:>14}", judged.name)?;
        }
        Ok(())
    }

    fn by_own_time(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "\nfrom how many calls on, by an execution's own time")?;
        write!(f, "{:<26}", "")?;
        self.break_even.iter().try_for_each(|at| write!(f, " {:>8}", nanos(at.own_ns)))?;
        writeln!(f)?;
        for (number, choice) in OTHERS.iter().enumerate() {
            if self.break_even.iter().all(|at| at.calls[number].is_none()) {
                continue;
            }
            write!(f, "{:<26}", choice.name())?;
            for at in &self.break_even {
                write!(f, " {:>8}", at.calls[number].map_or_else(|| "–".to_owned(), |calls| calls.to_string()))?;
            }
            writeln!(f)?;
        }
        write!(f, "{:<26}", "shm instead, both adaptive")?;
        for at in &self.break_even {
            write!(f, " {:>8}", at.carrying.map_or_else(|| "–".to_owned(), |calls| calls.to_string()))?;
        }
        writeln!(f)
    }
}

/// From how many calls on a few choices pay, over the time that an execution takes by itself: 6.3 ms and an interpreter's start-up of
/// up to 5 s.
pub(super) fn chart(profile: &Profile, costs: &Costs, asked: Asked) -> Chart {
    let series = DRAWN.into_iter().filter_map(|(label, pair, look)| {
        let points = (0..=STEPS).filter_map(|step| {
            let own_ns = LEAST_NS * (MOST_NS / LEAST_NS).powf(f64::from(step) / f64::from(STEPS));
            let calls = break_even(pair, profile, costs, Asked { own_ns, ..asked })?;
            let source = Source { part: "model".to_owned(), row: 0, column: "calls" };
            Some(Point { x: own_ns, y: calls.max(1) as f64, ends: None, source })
        });
        let points: Vec<_> = points.collect();
        (!points.is_empty()).then(|| Series { label: label.to_owned(), look: Look::Way(look), points })
    });
    Chart {
        name: "break-even",
        title: format!("Calls from which on a choice saves {:.0} % of an execution", asked.share * 100.0),
        caption: "Below a line the choice does not pay. The last is shared memory where the socket polls already."
            .to_owned(),
        drawing: Drawing::Lines {
            x: Axis { label: "own time of an execution, S included".to_owned(), column: "own_ns", scale: Scale::Time },
            y: Axis { label: "calls an execution".to_owned(), column: "calls", scale: Scale::Count },
            series: series.collect(),
        },
    }
}

/// What is done instead of what, drawn as in other plots.
const DRAWN: [(&str, (Choice, Choice), usize); 4] = [
    ("socket, adaptive", (CARRYING.1, TODAY), 1),
    ("shm, adaptive", (CARRYING.0, TODAY), 3),
    ("today + cache", (Choice::new(Way::SocketSleeping, Fewer::Cache), TODAY), 0),
    ("shm over socket", CARRYING, 5),
];
const LEAST_NS: f64 = 6.3e6;
const MOST_NS: f64 = 5.0063e9;
const STEPS: u32 = 24;
