//! [`Armed`]: a bell behind a flag, as the doorbell of `shm://` is. Work is announced in shared memory, and only who has said that it
//! sleeps is rung for; so an answer that is there before its reader sleeps costs no wake-up, whatever the mechanism.

use std::io;
use std::os::fd::OwnedFd;

use super::bells::{Bell, Heard, Side};
use super::memory::Page;

/// One end. Its page is written by it alone.
pub(super) struct Armed {
    bell: Box<dyn Bell>,
    ours: Page,
    theirs: Page,
    heard: u32,
    /// Polls for what is announced and never sleeps.
    polls: bool,
}

impl Armed {
    pub(super) fn new(bell: Box<dyn Bell>, side: Side, memory: &OwnedFd, polls: bool) -> io::Result<Self> {
        let (ours, theirs) = side.pages();
        let (ours, theirs) = (Page::map(memory, ours, true)?, Page::map(memory, theirs, false)?);
        Ok(Self { bell, ours, theirs, heard: 0, polls })
    }

    fn look(&mut self) -> Option<Heard> {
        let announced = self.theirs.load(ANNOUNCED).wrapping_sub(self.heard);
        self.heard = self.heard.wrapping_add(announced);
        (announced != 0).then_some(Heard::Rung(announced.into()))
    }
}

impl Bell for Armed {
    fn ring(&self) -> io::Result<()> {
        // Announce, then look whether the peer sleeps; it says that it sleeps, then looks whether something was announced. In
        // one total order of these four one of the two looks comes last and sees the other side's store.
        self.ours.store(ANNOUNCED, self.ours.load(ANNOUNCED).wrapping_add(1));
        if self.theirs.load(ASLEEP) != 0 { self.bell.ring() } else { Ok(()) }
    }

    fn wait(&mut self) -> io::Result<Heard> {
        loop {
            if let Some(heard) = self.look() {
                return Ok(heard);
            }
            if self.polls {
                std::hint::spin_loop();
                continue;
            }
            self.ours.store(ASLEEP, 1);
            let found = self.look();
            // A ring that is left over from a sleep that did not happen ends this one early: then we look, and sleep again.
            let gone = found.is_none() && self.bell.wait()? == Heard::Gone;
            self.ours.store(ASLEEP, 0);
            if let Some(heard) = found.or(gone.then_some(Heard::Gone)) {
                return Ok(heard);
            }
        }
    }
}

/// Words of a page.
const ANNOUNCED: usize = 0;
const ASLEEP: usize = 1;
