//! What an execution would take each way: its own time, connecting, and its calls one after another. The model is a sum, and `check`
//! says how far it is off.

use serde::Serialize;

use super::costs::{Cost, Costs, Way};
use super::profile::{Load, Profile, bytes, calls};

/// Something that could be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Choice {
    pub(super) way: Way,
    pub(super) fewer: Fewer,
}

/// What makes fewer round trips of the same calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fewer {
    Nothing,
    /// A cache of pages in front of the client.
    Cache,
    /// Reads that follow each other go out together.
    Batches,
}

/// What it is today.
pub(super) const TODAY: Choice = Choice::new(Way::SocketSleeping, Fewer::Nothing);

/// All others, in the order of what they ask of those who run and write GenVM and its hosts: an option at both ends; a change in
/// GenVM; both; the upgrade at both ends; that and a change in GenVM.
pub(super) const OTHERS: [Choice; 11] = [
    Choice::new(Way::SocketAdaptive, Fewer::Nothing),
    Choice::new(Way::SocketPolled, Fewer::Nothing),
    Choice::new(Way::SocketSleeping, Fewer::Cache),
    Choice::new(Way::SocketAdaptive, Fewer::Cache),
    Choice::new(Way::SocketSleeping, Fewer::Batches),
    Choice::new(Way::SocketAdaptive, Fewer::Batches),
    Choice::new(Way::ShmSleeping, Fewer::Nothing),
    Choice::new(Way::ShmAdaptive, Fewer::Nothing),
    Choice::new(Way::ShmPolled, Fewer::Nothing),
    Choice::new(Way::ShmAdaptive, Fewer::Cache),
    Choice::new(Way::ShmAdaptive, Fewer::Batches),
];

impl Choice {
    pub(super) const fn new(way: Way, fewer: Fewer) -> Self {
        Self { way, fewer }
    }

    pub(super) fn name(self) -> String {
        let way = match self.way {
            Way::SocketSleeping => "socket, sleeping",
            Way::SocketAdaptive => "socket, adaptive",
            Way::SocketPolled => "socket, polled",
            Way::ShmSleeping => "shm, sleeping",
            Way::ShmAdaptive => "shm, adaptive",
            Way::ShmPolled => "shm, polled",
        };
        match self.fewer {
            Fewer::Nothing => way.to_owned(),
            Fewer::Cache => format!("{way} + cache"),
            Fewer::Batches => format!("{way} + batches"),
        }
    }

    /// Connecting and all calls; `None` if the record or the profile does not say.
    pub(super) fn waiting(self, profile: &Profile, costs: &Costs) -> Option<Cost> {
        let loads: &[Load] = match self.fewer {
            Fewer::Nothing => &profile.loads,
            Fewer::Cache => profile.cached.as_ref()?,
            Fewer::Batches => profile.batched.as_ref()?,
        };
        let trips: f64 = loads.iter().map(|load| load.calls / load.together).sum();
        // GenVM computes as much as before, in fewer pauses.
        let think_us = profile.think_us * profile.calls() / trips.max(1.0);
        let hits = if self.fewer == Fewer::Cache { (profile.calls() - calls(loads)).max(0.0) * costs.hit } else { 0.0 };
        let mut sum = costs.connect(self.way)?;
        for load in loads {
            let call = costs.call(self.way, load.bytes, think_us, load.together)?;
            sum.wall += load.calls * call.wall;
            sum.cpu += load.calls * call.cpu;
        }
        let beside = hits + costs.lap(self.way, bytes(loads), calls(loads)) + costs.stalls(self.way, trips);
        Some(Cost { wall: sum.wall + beside, cpu: sum.cpu + beside })
    }

    /// A whole execution that computes for `own` nanoseconds, with `parallel` of them on each core: as long as it takes alone, unless
    /// the cores are busy; then as long as they are busy with it, both ends together.
    pub(super) fn execution(self, profile: &Profile, costs: &Costs, own: f64, parallel: f64) -> Option<f64> {
        let waiting = self.waiting(profile, costs)?;
        Some((own + waiting.wall).max(parallel * (own + waiting.cpu)))
    }

    /// The share of an execution with `other` that it saves; negative if it takes longer.
    pub(super) fn saves(self, other: Self, profile: &Profile, costs: &Costs, own: f64, parallel: f64) -> Option<f64> {
        let before = other.execution(profile, costs, own, parallel)?;
        Some(1.0 - self.execution(profile, costs, own, parallel)? / before)
    }
}

/// The choice to make, of choices in the order of what they ask for and the time that each takes: each further step has to save
/// `share` of the first one's time by itself.
pub(super) fn choose(times: &[(Choice, f64)], share: f64) -> Option<(Choice, f64)> {
    let &(first, today) = times.first()?;
    let step = |(chosen, time): (Choice, f64), &(other, its): &(Choice, f64)| {
        if time - its >= share * today { (other, its) } else { (chosen, time) }
    };
    Some(times.iter().fold((first, today), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_to_pay_by_itself() {
        let times = |times: [f64; 3]| [TODAY, OTHERS[0], OTHERS[2]].into_iter().zip(times).collect::<Vec<_>>();
        assert_eq!(choose(&times([100.0, 96.0, 94.0]), 0.05), Some((OTHERS[2], 94.0)));
        assert_eq!(choose(&times([100.0, 95.0, 91.0]), 0.05), Some((OTHERS[0], 95.0)));
        assert_eq!(choose(&times([100.0, 97.0, 96.0]), 0.05), Some((TODAY, 100.0)));
        assert_eq!(choose(&[], 0.05), None);
    }
}
