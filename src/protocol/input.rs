//! [`InputBuffer`]: bytes that arrived and were not used yet. Grows with what arrives, never by what a peer announces.

/// A queue of bytes in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct InputBuffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl InputBuffer {
    /// What is there.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Forgets the first `n` bytes.
    pub(super) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.end - self.start);
        self.start += n;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.memory.len() > KEEP {
                self.memory = Vec::new();
            }
        }
    }

    /// Room for more, to read into; at least one byte. The memory at most doubles, and only when it is full.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.end == self.memory.len() {
            if self.start > self.memory.len() / 2 {
                self.memory.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                self.memory.resize((self.memory.len() * 2).max(FIRST), 0);
            }
        }
        &mut self.memory[self.end..]
    }

    /// `n` bytes were read into the room.
    pub(super) fn filled(&mut self, n: usize) {
        assert!(n <= self.memory.len() - self.end, "a reader claims more than it was given room for");
        self.end += n;
    }
}

const FIRST: usize = 4096;
/// A larger memory, grown for one large message, is given back.
const KEEP: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_what_arrives_and_gives_back() {
        let mut input = InputBuffer::default();
        let mut arrived = 0usize;
        while arrived < 3 << 20 {
            let room = input.room();
            room.fill((arrived % 251) as u8);
            let n = room.len();
            assert!(n <= arrived.max(FIRST), "{n} bytes of room after {arrived} arrived");
            input.filled(n);
            arrived += n;
        }
        assert_eq!(input.bytes().len(), arrived);
        input.consume(arrived);
        assert_eq!((input.bytes().len(), input.memory.capacity()), (0, 0));
    }

    #[test]
    fn keeps_its_place_and_order() {
        let (mut input, mut next, mut expected) = (InputBuffer::default(), 0u8, 0u8);
        for _ in 0..20_000 {
            let n = input.room().len().min(7);
            input.room()[..n].iter_mut().for_each(|byte| {
                *byte = next;
                next = next.wrapping_add(1);
            });
            input.filled(n);
            let n = input.bytes().len().min(6);
            assert!(input.bytes()[..n].iter().all(|byte| {
                expected = expected.wrapping_add(1);
                *byte == expected.wrapping_sub(1)
            }));
            input.consume(n);
        }
        assert!(input.memory.len() < 100_000);
    }
}
