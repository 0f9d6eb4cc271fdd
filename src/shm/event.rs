//! [`Events`]: a pair of `raw_sync` events as the doorbell of named segments, one in each end's segment.
//!
//! # Hazards
//! A `raw_sync` event is a pthread mutex and condition in shared memory. It hangs in `set` when a waiter was killed inside
//! of it, its mutex is not robust, and its timed waits return at once when the nanoseconds of the deadline overflow into the
//! next second. Hence waits are cut into slices, and the peer's death is learnt from the socket between them, never from the
//! event. A peer that is killed in the few instructions for which it holds the mutex can hang us: this back end is for peers
//! that trust each other, and for platforms without memfds.
#![allow(unsafe_code, reason = "raw_sync places its objects at raw addresses")]

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use raw_sync::Timeout;
use raw_sync::events::{Event, EventImpl, EventInit, EventState};

use super::layout::{EVENT, EVENT_SIZE};
use super::mapping::Mapping;

/// An event in a segment that somebody keeps mapped.
struct Placed(Box<dyn EventImpl>);

// SAFETY: an event is a pointer to process-shared pthread objects, which any thread may use.
unsafe impl Send for Placed {}
// SAFETY: as above.
unsafe impl Sync for Placed {}

/// Our event, in our own segment, before the peer's is known.
pub(crate) struct OwnEvent {
    event: Placed,
    segment: Arc<Mapping>,
}

impl OwnEvent {
    /// Creates it. Must happen before the peer learns of the segment.
    pub(crate) fn create(segment: &Arc<Mapping>) -> io::Result<Self> {
        let place = segment.address(EVENT, EVENT_SIZE);
        // SAFETY: `place` is EVENT_SIZE zeroed bytes of a fresh, writable segment, aligned to 256, in which nothing else
        // lies, and which `self` keeps mapped.
        let (event, size) = unsafe { Event::new(place, true) }.map_err(foreign)?;
        assert!(size <= EVENT_SIZE, "a raw_sync event takes {size} bytes here");
        Ok(Self { event: Placed(event), segment: segment.clone() })
    }
}

/// Our event, on which we wait, and the peer's, which we ring.
pub(crate) struct Events {
    ours: OwnEvent,
    theirs: Placed,
    /// Keeps the memory of `theirs`.
    _peer: Arc<Mapping>,
}

impl Events {
    /// Both events, once the peer's segment is mapped.
    pub(crate) fn new(ours: OwnEvent, peer: Arc<Mapping>) -> io::Result<Self> {
        let place = peer.address(EVENT, EVENT_SIZE);
        // SAFETY: `place` is in bounds and aligned, and `_peer` keeps it mapped. That an event was created there is the
        // peer's word: peers of this back end trust each other.
        let (theirs, _) = unsafe { Event::from_existing(place) }.map_err(foreign)?;
        Ok(Self { ours, theirs: Placed(theirs), _peer: peer })
    }

    /// Waits until rung, or for a slice, or up to `timeout`, whatever comes first. Says nothing about which.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        // The event adds the slice to a later look at the clock than this one, hence the margin: without it the deadline of
        // every wait in the last slice of a second would overflow, and the sleeper would spin through it.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
        let left_of_second = Duration::from_nanos(u64::from(1_000_000_000 - now));
        let slice = SLICE.min(left_of_second.saturating_sub(MARGIN));
        let _ = self.ours.event.0.wait(Timeout::Val(timeout.map_or(slice, |timeout| timeout.min(slice))));
    }

    /// Wakes the peer.
    pub(crate) fn ring(&self) {
        let _ = self.theirs.0.set(EventState::Signaled);
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("segment", &self.ours.segment).finish_non_exhaustive()
    }
}

fn foreign(error: Box<dyn std::error::Error>) -> io::Error {
    io::Error::other(error.to_string())
}

/// How long a sleeper goes without looking whether its peer lives.
const SLICE: Duration = Duration::from_millis(100);
/// Longer than what lies between two looks at the clock, and short enough to spin through once a second.
const MARGIN: Duration = Duration::from_micros(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::RingCapacity;
    use crate::shm::segment::{Segment, SegmentKind};

    #[test]
    fn nobody_spins_at_the_end_of_a_second() {
        let [ours, theirs] = [(); 2].map(|()| Segment::create(SegmentKind::Named, RingCapacity::MIN).expect("segment"));
        let (event, peers) = (OwnEvent::create(&ours.memory), OwnEvent::create(&theirs.memory));
        let (event, _peers) = (event.expect("event"), peers.expect("event"));
        let events = Events::new(event, theirs.memory.clone()).expect("events");
        let subsec = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos();
        while !(940_000_000..960_000_000).contains(&subsec()) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut waits = 0;
        while subsec() > 500_000_000 {
            events.wait(None);
            waits += 1;
        }
        assert!(waits < 1000, "{waits} waits in the last 60 ms of a second");
    }
}
