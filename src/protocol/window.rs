//! How much of a [`Batch`](super::Batch) may be on its way at once: [`Window`]. It counts; it neither writes nor reads.

use std::collections::VecDeque;

use super::error::ProtocolError;
use super::method::Method;

/// A call of a batch.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) method: Method,
    /// Where its request ends among the bytes of all.
    pub(super) end: usize,
    /// Bytes that a `storage_read` is answered with.
    pub(super) length: u32,
    /// Why it cannot be sent; it has no bytes then.
    pub(super) refused: Option<Box<ProtocolError>>,
}

impl Queued {
    pub(super) fn is_answered(&self) -> bool {
        self.refused.is_none() && self.method.is_answered()
    }
}

/// What is on its way to the host, and how much more certainly fits.
pub(super) struct Window {
    capacity: usize,
    pub(super) used: usize,
    /// For each write the number of calls that were sent with it or before, and what it takes up at most.
    writes: VecDeque<(usize, usize)>,
}

impl Window {
    /// `unread` is taken up from before, until the first answer.
    pub(super) fn new(capacity: usize, unread: usize) -> Self {
        Self { capacity, used: unread, writes: [(0, unread)].into() }
    }

    /// How many of `calls`, whose bytes begin at `start`, may go out now in one write. Where the host `is_waiting` it reads on, however
    /// much there is, up to the end of the first that it has to answer.
    pub(super) fn group(&self, calls: &[Queued], start: usize, is_waiting: bool) -> usize {
        let free = self.capacity.saturating_sub(self.used);
        let mut is_read_on = is_waiting;
        let goes = |(number, call): &(usize, &Queued)| {
            let bytes = call.end - start;
            let is_safe = is_read_on || room(bytes) <= free;
            is_read_on &= !call.is_answered();
            is_safe && (*number == 0 || bytes <= GROUP)
        };
        calls.iter().enumerate().take_while(goes).count()
    }

    pub(super) fn sent(&mut self, calls: usize, bytes: usize) {
        let room = room(bytes);
        self.used += room;
        self.writes.push_back((calls, room));
    }

    /// An answer says that the host has read its request, and all before it.
    pub(super) fn read(&mut self, number: usize, call: &Queued) {
        if call.is_answered() {
            while let Some(&(calls, room)) = self.writes.front()
                && calls <= number + 1
            {
                self.used -= room;
                self.writes.pop_front();
            }
        }
    }
}

/// What a write of so many bytes may take of a stream's capacity. A kernel rounds its buffers up, to twice their size at most, and adds
/// what describes them: less than a kilobyte for Unix sockets on Linux, a little more for TCP. A ring keeps up to a quarter back.
pub(super) fn room(bytes: usize) -> usize {
    2 * bytes + 2048
}

/// Bytes that go out at once, if they are several requests: the host answers the first while the next are on their way.
pub(super) const GROUP: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(ends: &[usize]) -> Vec<Queued> {
        let call = |&end| Queued { method: Method::StorageRead, end, length: 1, refused: None };
        ends.iter().map(call).collect()
    }

    #[test]
    fn what_may_have_to_wait_goes_out_only_to_a_host_that_waits() {
        let window = Window::new(4096, 0);
        let calls = calls(&[1000, 1024, 1025, 9000]);
        assert_eq!(window.group(&calls, 0, false), 2);
        assert_eq!(window.group(&calls[3..], 1025, false), 0);
        assert_eq!(window.group(&calls[3..], 1025, true), 1);
        assert_eq!(window.group(&[], 0, true), 0);
    }

    #[test]
    fn what_is_not_answered_goes_out_together_to_a_host_that_waits() {
        let mut calls = calls(&[9, 18, 27, 36]);
        for call in &mut calls[..2] {
            call.method = Method::ConsumeFuel;
        }
        let window = Window::new(4096, 4000);
        assert_eq!((window.group(&calls, 0, false), window.group(&calls, 0, true)), (0, 3));
        calls[1..].iter_mut().for_each(|call| call.end += GROUP);
        assert_eq!((window.group(&calls, 0, true), window.group(&calls[1..], 9, true)), (1, 1));
    }

    #[test]
    fn room_from_before_comes_back_with_the_first_answer() {
        let mut window = Window::new(4096, 3000);
        let mut calls = calls(&[10, 20]);
        calls[0].method = Method::ConsumeFuel;
        window.read(0, &calls[0]);
        assert_eq!(window.used, 3000);
        window.read(1, &calls[1]);
        assert_eq!(window.used, 0);
    }

    #[test]
    fn room_comes_back_with_the_answer_to_the_last_call_of_a_write() {
        let mut window = Window::new(4096, 0);
        let calls = calls(&[500, 1000]);
        window.sent(2, 1000);
        assert_eq!(window.group(&calls, 0, false), 0);
        window.read(0, &calls[0]);
        assert_eq!(window.group(&calls, 0, false), 0);
        window.read(1, &calls[1]);
        assert_eq!((window.used, window.group(&calls, 0, false)), (0, 2));
    }
}
