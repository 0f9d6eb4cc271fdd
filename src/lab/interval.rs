//! [`Interval`]: between what bounds a median lies, by the bootstrap: what was measured is drawn from again and again, with
//! replacement, and the bounds are those of 95 of 100 medians.
//!
//! Slices of one round have the machine of that round in common, so drawing only among slices would promise too much: rounds are
//! drawn first, then slices of each.

use serde::{Deserialize, Serialize};

use super::stats::median;

/// 95 % of it is between these.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Interval {
    /// Of the median of all values, which are given round by round. `None` for fewer than three: they say nothing about others.
    pub(super) fn of_median(rounds: &[Vec<f64>]) -> Option<Self> {
        (rounds.iter().map(Vec::len).sum::<usize>() >= LEAST).then(|| {
            let mut drawn = Vec::new();
            Self::drawn(|random| {
                drawn.clear();
                for _ in rounds {
                    let round = &rounds[random.usize(..rounds.len())];
                    drawn.extend(round.iter().map(|_| round[random.usize(..round.len())]));
                }
                median(&mut drawn)
            })
        })
    }

    /// Of the median over rounds of the ratio of two medians, which are of one round each. `None` as above.
    pub(super) fn of_ratio(rounds: &[(Vec<f64>, Vec<f64>)]) -> Option<Self> {
        let least = rounds.iter().map(|(above, below)| above.len().min(below.len())).sum::<usize>();
        (least >= LEAST).then(|| {
            let mut drawn = Vec::new();
            let mut ratios = Vec::new();
            Self::drawn(|random| {
                ratios.clear();
                for _ in rounds {
                    let (above, below) = &rounds[random.usize(..rounds.len())];
                    let mut draw = |values: &[f64]| {
                        drawn.clear();
                        drawn.extend(values.iter().map(|_| values[random.usize(..values.len())]));
                        median(&mut drawn)
                    };
                    ratios.push(draw(above) / draw(below));
                }
                median(&mut ratios)
            })
        })
    }

    /// Where a statistic lies that is computed from what is drawn.
    fn drawn(mut statistic: impl FnMut(&mut fastrand::Rng) -> f64) -> Self {
        let mut random = fastrand::Rng::with_seed(1); // the same data have the same bounds
        let mut values: Vec<f64> = (0..DRAWS).map(|_| statistic(&mut random)).collect();
        values.sort_unstable_by(f64::total_cmp);
        Self { low: values[DRAWS / 40], high: values[DRAWS - 1 - DRAWS / 40] }
    }

    /// The same, wide enough for a value that was computed otherwise.
    pub(super) fn around(self, value: f64) -> Self {
        Self { low: self.low.min(value), high: self.high.max(value) }
    }

    /// What lies in either.
    pub(super) fn and(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// How often a value of `below` goes into one of these, at least and at most.
    pub(super) fn over(self, below: Self) -> Self {
        Self { low: self.low / below.high, high: self.high / below.low }
    }
}

const LEAST: usize = 3;
const DRAWS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around `middle`, `spread` to either side, with `shift` a round.
    fn rounds(random: &mut fastrand::Rng, middle: f64, spread: f64, shift: f64) -> Vec<Vec<f64>> {
        let mut round = || {
            let middle = middle + shift * (random.f64() * 2.0 - 1.0);
            (0..6).map(|_| middle + spread * (random.f64() * 2.0 - 1.0)).collect()
        };
        (0..10).map(|_| round()).collect()
    }

    #[test]
    fn nineteen_of_twenty_intervals_contain_the_truth() {
        for shift in [0.0, 20.0] {
            let mut random = fastrand::Rng::with_seed(7);
            let contains = (0..100).filter(|_| {
                let Interval { low, high } =
                    Interval::of_median(&rounds(&mut random, 100.0, 10.0, shift)).expect("many");
                (low..=high).contains(&100.0)
            });
            // Medians of few rounds are not quite normal: a bootstrap of ten is known to be a little too sure of itself.
            let contains = contains.count();
            assert!((85..=100).contains(&contains), "{contains} of 100 with a shift of {shift}");
        }
    }

    #[test]
    fn what_rounds_have_in_common_widens_the_interval() {
        let width = |shift| {
            let rounds = rounds(&mut fastrand::Rng::with_seed(3), 100.0, 1.0, shift);
            Interval::of_median(&rounds).map(|interval| interval.high - interval.low).expect("many")
        };
        assert!(width(20.0) > 5.0 * width(0.0));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // The machine is three times as slow in some rounds, for both.
        let pair = |slow: f64| (vec![10.0 * slow, 12.0 * slow, 11.0 * slow], vec![5.0 * slow, 5.5 * slow, 5.2 * slow]);
        let rounds: Vec<_> = (0..8).map(|round| pair(f64::from(1 + 2 * (round % 2)))).collect();
        let Interval { low, high } = Interval::of_ratio(&rounds).expect("many");
        assert!(1.8 < low && low <= high && high < 2.4, "{low} to {high}");
    }

    #[test]
    fn little_says_nothing_and_the_same_says_the_same() {
        assert_eq!(Interval::of_median(&[vec![1.0, 2.0]]), None);
        assert_eq!(Interval::of_ratio(&[(vec![1.0; 9], vec![1.0])]), None);
        let values = [vec![3.0, 1.0, 2.0], vec![5.0]];
        assert_eq!(Interval::of_median(&values), Interval::of_median(&values));
        let exact = Interval { low: 2.0, high: 2.0 };
        assert_eq!(Interval::of_median(&[vec![2.0; 5]]), Some(exact));
        assert_eq!(exact.around(3.0).over(Interval { low: 1.0, high: 4.0 }), Interval { low: 0.5, high: 3.0 });
    }
}
