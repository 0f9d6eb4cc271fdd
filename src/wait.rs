//! How an end waits: [`WaitStrategy`] is the caller's choice, [`Backoff`] turns it into steps.
//!
//! This module decides, and gives up the core where that is due; it does **not** sleep, poll or own any system object. The transports do
//! that.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use crate::peer::Peer;

/// What an end of a connection does while it has nothing to read, or no room to write.
///
/// Each end chooses for itself. Most of the gap between a sleeping Unix socket and shared memory is waking up: a core that went to sleep
/// cost about 26 µs on one of the virtual machines in `results/` and about 3 µs on the other, a cache line there and back 0.1 to 0.2.
///
/// | strategy | choose it when |
/// | --- | --- |
/// | [`Spin`](Self::Spin) | the peer has a core of its own and latency is worth a whole core. Where both ends have one core together it yields between polls, otherwise a call would cost a scheduler slice. |
/// | [`Adaptive`](Self::Adaptive) | each end has a core, or both have one together: hot calls are as fast as spinning, an idle end costs nothing. |
/// | [`Park`](Self::Park) | more ends than cores, others who compute on them, or CPU time matters more than latency. |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Poll until there is something; never sleep.
    Spin,
    /// Poll for `spin`, then poll and yield the processor for `yield_for`, then sleep until woken.
    ///
    /// The sum should exceed the machine's wake-up latency: with 2 µs one hiccup parks both ends and they stay parked.
    ///
    /// A thread, a runtime's as well, that has learnt that giving up its core costs a scheduler slice, because somebody computes there,
    /// sleeps instead of yielding for a while: who is woken runs before who computes, who yields does not.
    Adaptive {
        /// How long to poll without giving up the processor.
        spin: Duration,
        /// How long, after that, to poll with the processor yielded in between.
        yield_for: Duration,
    },
    /// Sleep at once.
    Park,
}

impl WaitStrategy {
    /// [`Adaptive`](Self::Adaptive) with 1 µs of spinning and 50 µs of yielding: together about twice what waking up costs where
    /// that is dear. Who waits longer than that pays up to twice the processor time of sleeping there, and up to five times where waking costs
    /// a tenth as much. `results/` has the sweep.
    pub const ADAPTIVE: Self = Self::Adaptive { spin: Duration::from_micros(1), yield_for: Duration::from_micros(50) };

    /// How many polls come before the first look at a clock, whatever the strategy's budget: hot answers pay for no clock.
    #[inline]
    pub fn free_polls(self, alone: bool) -> u32 {
        match self {
            Self::Park => 0,
            Self::Adaptive { spin, .. } if spin.is_zero() => 0,
            _ if alone => 0,
            _ => FREE_POLLS,
        }
    }

    /// Whether this strategy ever sleeps.
    pub fn sleeps(self) -> bool {
        !matches!(self, Self::Spin)
    }
}

impl Default for WaitStrategy {
    fn default() -> Self {
        Self::ADAPTIVE
    }
}

/// What to do before looking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Look again at once; the processor was told that we poll.
    Poll,
    /// Give up the processor ([`Backoff::yield_core`]), then look again.
    Yield,
    /// Sleep until woken (only after arming the doorbell and looking once more).
    Park,
}

/// One wait in progress. Create it when there is nothing to do, ask [`step`](Self::step) after each fruitless look.
#[derive(Debug)]
pub struct Backoff {
    strategy: WaitStrategy,
    alone: bool,
    polls: u32,
    /// When the wait began; read from the clock only after `FREE_POLLS`, so that hot answers pay for no clock.
    since: Option<Instant>,
    yielding: bool,
}

impl Backoff {
    /// A new wait. `alone` says that both ends have one core together ([`one_core`]), where polling without yielding
    /// keeps the peer from running.
    pub fn new(strategy: WaitStrategy, alone: bool) -> Self {
        Self { strategy, alone, polls: 0, since: None, yielding: strategy.free_polls(alone) == 0 }
    }

    /// The same wait when so many polls were made before it was begun: they count.
    #[must_use]
    pub fn after(mut self, polls: u32) -> Self {
        self.polls = polls;
        self
    }

    /// What to do next. [`Step::Poll`] has already executed the processor's pause instruction.
    #[inline]
    pub fn step(&mut self) -> Step {
        self.polls = self.polls.wrapping_add(1);
        match self.strategy {
            WaitStrategy::Park => Step::Park,
            _ if self.polls < FREE_POLLS && !self.yielding => {
                std::hint::spin_loop();
                Step::Poll
            }
            _ => self.slow_step(),
        }
    }

    /// Whether so few polls were made that even a task may make the next one in place.
    pub fn is_fresh(&self) -> bool {
        self.polls < FREE_POLLS
    }

    /// Whether it is time to look whether the peer lives: rarely, because that is a system call.
    #[inline]
    pub fn check_peer(&self) -> bool {
        // Powers of two: a division would cost every poll more than the poll itself.
        let every = if self.yielding { YIELDS_PER_PEER_CHECK } else { POLLS_PER_PEER_CHECK };
        self.polls & (every - 1) == 0
    }

    #[cold]
    fn slow_step(&mut self) -> Step {
        match self.strategy {
            WaitStrategy::Park => Step::Park,
            WaitStrategy::Spin if self.alone => Step::Yield,
            WaitStrategy::Spin => {
                std::hint::spin_loop();
                Step::Poll
            }
            WaitStrategy::Adaptive { spin, yield_for } => {
                // While spinning the clock is looked at every so often; a yield costs more than the clock.
                if !self.yielding && !self.polls.is_multiple_of(POLLS_PER_CLOCK) {
                    std::hint::spin_loop();
                    return Step::Poll;
                }
                let spin = if self.alone { Duration::ZERO } else { spin };
                let now = Instant::now();
                let elapsed = now.duration_since(*self.since.get_or_insert(now));
                if elapsed < spin {
                    Step::Poll
                } else if elapsed < spin.saturating_add(yield_for) && !Crowd::is_here() {
                    self.yielding = true;
                    Step::Yield
                } else {
                    Step::Park
                }
            }
        }
    }

    /// Does what [`Step::Yield`] says: gives up the core of this thread, and learns from how long that took, see
    /// [`WaitStrategy::Adaptive`].
    pub fn yield_core(&self) {
        let WaitStrategy::Adaptive { yield_for, .. } = self.strategy else {
            return thread::yield_now();
        };
        let before = Instant::now();
        thread::yield_now();
        let now = Instant::now();
        CROWD.set(Crowd::after(CROWD.get(), now - before, yield_for, now));
    }
}

/// The strategy while yielding pays, [`WaitStrategy::Park`] while this thread sleeps instead of yielding. For those to whom a poll is a
/// system call: as many as come before the first look at a clock take longer than sleeping.
pub fn unless_crowded(strategy: WaitStrategy) -> WaitStrategy {
    match strategy {
        WaitStrategy::Adaptive { .. } if Crowd::is_here() => WaitStrategy::Park,
        _ => strategy,
    }
}

/// Others on this core who compute: until when to sleep instead of yielding to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crowd {
    until: Instant,
    spell: Duration,
}

thread_local! {
    static CROWD: Cell<Option<Crowd>> = const { Cell::new(None) };
}

impl Crowd {
    /// On this thread's core. Looks at the clock only if somebody was.
    fn is_here() -> bool {
        CROWD.get().is_some_and(|crowd| Instant::now() < crowd.until)
    }

    /// What is known after a yield that took so long. Each long one in a row doubles the spell, so that trying again costs little; a short
    /// one ends it, as after a pause that was the hypervisor's.
    fn after(before: Option<Self>, took: Duration, yield_for: Duration, now: Instant) -> Option<Self> {
        if took < LONG_YIELD.max(yield_for) {
            return None;
        }
        let spell = before.map_or(took * 2, |crowd| crowd.spell * 2).min(LONGEST_SPELL);
        Some(Self { until: now + spell, spell })
    }
}

/// Operations of a task in a row that did not have to wait. Count them, or a task that always has something to do keeps the others of
/// its runtime from running.
#[derive(Debug, Default)]
pub struct Streak(u32);

impl Streak {
    /// An operation was ready at once.
    pub fn ready(&mut self) {
        self.0 += 1;
    }

    /// An operation had to wait: the others had their turn.
    pub fn waited(&mut self) {
        self.0 = 0;
    }

    /// Whether it is time to let others run. Then the streak starts anew, and the task has to wake itself.
    pub fn is_over(&mut self) -> bool {
        let over = self.0 >= LONGEST_STREAK;
        if over {
            self.0 = 0;
        }
        over
    }
}

/// Whether this thread and `peer` can run on one and the same core only, as of now: polling would keep the peer from running.
///
/// One look at our affinity mask, and at the peer's where ours has a single core. A peer whose mask cannot be had (another pid
/// namespace, another platform) is taken to share ours.
pub fn one_core(peer: &Peer) -> bool {
    // std's `available_parallelism` would read the limits of the control group from files: too slow for every connection.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let Ok(ours) = rustix::thread::sched_getaffinity(None) else { return false };
        if ours.count() != 1 {
            return false;
        }
        match peer {
            Peer::Process { pid: Some(pid), .. } => rustix::process::Pid::from_raw(*pid)
                .and_then(|pid| rustix::thread::sched_getaffinity(Some(pid)).ok())
                .is_none_or(|theirs| theirs == ours),
            _ => true,
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = peer;
        std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1)
    }
}

/// Less than the slice that a scheduler gives to one who computes (3 to 4 ms), more than a round of hundreds of threads that each answer a call.
const LONG_YIELD: Duration = Duration::from_millis(2);
const LONGEST_SPELL: Duration = Duration::from_millis(250);
/// As many operations as tokio's own sockets let a task do.
const LONGEST_STREAK: u32 = 128;
/// Polls before the clock is looked at for the first time: about 1 µs with the pause instruction.
const FREE_POLLS: u32 = 32;
const POLLS_PER_CLOCK: u32 = 16;
const POLLS_PER_PEER_CHECK: u32 = 1 << 12;
const YIELDS_PER_PEER_CHECK: u32 = 1 << 8;
const _: () = assert!(POLLS_PER_PEER_CHECK.is_power_of_two() && YIELDS_PER_PEER_CHECK.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn park_sleeps_at_once_and_spin_never() {
        assert_eq!(Backoff::new(WaitStrategy::Park, false).step(), Step::Park);
        let mut spin = Backoff::new(WaitStrategy::Spin, false);
        assert!((0..10_000).all(|_| spin.step() == Step::Poll));
    }

    #[test]
    fn on_one_core_nobody_spins() {
        let mut spin = Backoff::new(WaitStrategy::Spin, true);
        assert!((0..100).all(|_| spin.step() == Step::Yield));
        let forever = WaitStrategy::Adaptive { spin: Duration::MAX / 4, yield_for: Duration::MAX / 4 };
        let mut adaptive = Backoff::new(forever, true);
        assert!((0..100).all(|_| adaptive.step() == Step::Yield));
    }

    #[test]
    fn adaptive_spins_then_yields_then_parks() {
        let strategy =
            WaitStrategy::Adaptive { spin: Duration::from_micros(50), yield_for: Duration::from_micros(500) };
        let mut backoff = Backoff::new(strategy, false);
        let mut order = vec![Step::Poll];
        loop {
            let step = backoff.step();
            if order.last() != Some(&step) {
                order.push(step);
            }
            if step == Step::Park {
                break;
            }
        }
        // A machine that stops us for a moment may skip the middle, never turn the order round.
        assert!(order == [Step::Poll, Step::Yield, Step::Park] || order == [Step::Poll, Step::Park], "{order:?}");
    }

    #[test]
    fn a_budget_of_for_ever_is_one() {
        for (spin, expected) in [(Duration::MAX, Step::Poll), (Duration::from_nanos(1), Step::Yield)] {
            let mut backoff = Backoff::new(WaitStrategy::Adaptive { spin, yield_for: Duration::MAX }, false);
            assert_eq!((0..1000).map(|_| backoff.step()).last(), Some(expected));
        }
    }

    #[test]
    fn polls_made_before_are_not_made_again() {
        let fresh = |polls| Backoff::new(WaitStrategy::ADAPTIVE, false).after(polls).is_fresh();
        let free = WaitStrategy::ADAPTIVE.free_polls(false);
        assert!(free > 0 && fresh(0) && !fresh(free));
    }

    #[test]
    fn the_peer_is_looked_at_rarely_and_again_and_again() {
        let mut backoff = Backoff::new(WaitStrategy::Spin, false);
        let looks = (0..4 * POLLS_PER_PEER_CHECK).filter(|_| (backoff.step(), backoff.check_peer()).1).count();
        assert_eq!(looks, 4);
        let mut alone = Backoff::new(WaitStrategy::Spin, true);
        let looks = (0..4 * YIELDS_PER_PEER_CHECK).filter(|_| (alone.step(), alone.check_peer()).1).count();
        assert_eq!(looks, 4);
    }

    #[test]
    fn a_streak_ends_and_waiting_starts_it_anew() {
        let mut streak = Streak::default();
        let run = |streak: &mut Streak| (0..).find(|_| (streak.ready(), streak.is_over()).1);
        assert_eq!(run(&mut streak), Some(LONGEST_STREAK - 1));
        (1..LONGEST_STREAK).for_each(|_| streak.ready());
        streak.waited();
        assert_eq!(run(&mut streak), Some(LONGEST_STREAK - 1));
    }

    #[test]
    fn a_thread_that_yielded_to_one_who_computes_sleeps_instead_for_a_while() {
        let strategy = WaitStrategy::Adaptive { spin: Duration::ZERO, yield_for: Duration::from_millis(1) };
        let first = move || {
            let mut backoff = Backoff::new(strategy, false);
            (0..FREE_POLLS).map(|_| backoff.step()).find(|step| *step != Step::Poll)
        };
        let until = Instant::now() + Duration::from_secs(3600);
        CROWD.set(Some(Crowd { until, spell: LONGEST_SPELL }));
        assert_eq!((first(), unless_crowded(strategy)), (Some(Step::Park), WaitStrategy::Park));
        assert_eq!(unless_crowded(WaitStrategy::Spin), WaitStrategy::Spin);
        // Other threads have cores of their own.
        assert_eq!(thread::spawn(first).join().expect("no panic"), Some(Step::Yield));
        // It is over in time.
        CROWD.set(Some(Crowd { until: Instant::now(), spell: LONGEST_SPELL }));
        assert_eq!((first(), unless_crowded(strategy)), (Some(Step::Yield), strategy));
    }

    #[test]
    fn what_a_yield_took_is_learnt_by_who_may_sleep() {
        let learnt = |strategy| {
            // Whatever a yield takes here, it is not this.
            let before = Some(Crowd { until: Instant::now(), spell: Duration::from_nanos(1) });
            CROWD.set(before);
            Backoff::new(strategy, false).yield_core();
            CROWD.get() != before
        };
        assert!(learnt(WaitStrategy::ADAPTIVE));
        assert!(!learnt(WaitStrategy::Spin));
    }

    #[test]
    fn spells_double_up_to_a_limit_and_a_short_yield_ends_them() {
        let (now, budget) = (Instant::now(), Duration::from_micros(50));
        let after = |crowd, took| Crowd::after(crowd, took, budget, now);
        assert_eq!(after(None, Duration::from_millis(1)), None);
        let mut crowd = None;
        let mut spells = Vec::new();
        for _ in 0..10 {
            crowd = after(crowd, Duration::from_millis(4));
            spells.push(crowd.expect("a long one").spell.as_millis());
        }
        assert_eq!(spells, [8, 16, 32, 64, 128, 250, 250, 250, 250, 250]);
        assert_eq!(after(crowd, Duration::from_micros(3)), None);
        // Who yields for long by his own choice does.
        assert_eq!(Crowd::after(None, Duration::from_secs(1), Duration::MAX, now), None);
    }

    #[test]
    fn adaptive_without_budget_parks() {
        for alone in [false, true] {
            let none = WaitStrategy::Adaptive { spin: Duration::ZERO, yield_for: Duration::ZERO };
            assert_eq!(Backoff::new(none, alone).step(), Step::Park);
            let no_spin = WaitStrategy::Adaptive { spin: Duration::ZERO, yield_for: Duration::from_secs(100) };
            assert_eq!(Backoff::new(no_spin, alone).step(), Step::Yield);
        }
    }
}
