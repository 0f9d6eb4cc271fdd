//! Received bytes that are not used up yet. Grows with what arrives, never with what a peer announces.

/// A buffer between a stream and the decoder. Its size is at most four times the bytes that were ever unread at once, but
/// no less than [`FIRST`].
pub(crate) struct InputBuffer {
    /// All initialised; what is used is `start..end`.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl InputBuffer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; FIRST], start: 0, end: 0 }
    }

    /// Room to read into, never empty. Call [`filled`](Self::filled) with how much was used.
    #[inline]
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() {
            if self.start >= self.bytes.len() / 2 {
                self.bytes.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                self.bytes.resize(self.bytes.len() * 2, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    #[inline]
    pub(crate) fn filled(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes.len() - self.end, "a stream claims to have read more than it was given room for");
        self.end += bytes;
    }

    #[inline]
    pub(crate) fn consume(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.end - self.start);
        self.start += bytes;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > KEPT {
                self.bytes.truncate(FIRST);
                self.bytes.shrink_to_fit();
            }
        }
    }

    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

/// Room for some dozens of small requests, and for what a socket delivers at once.
const FIRST: usize = 8 << 10;

/// A buffer that one large message has grown beyond this is given back when it is empty.
const KEPT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn push(buffer: &mut InputBuffer, mut data: &[u8]) {
        while !data.is_empty() {
            let spare = buffer.spare();
            let n = spare.len().min(data.len());
            spare[..n].copy_from_slice(&data[..n]);
            buffer.filled(n);
            data = &data[n..];
        }
    }

    #[test]
    fn keeps_order_through_growth_and_moves() {
        let mut buffer = InputBuffer::new();
        let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let (mut written, mut read, mut most) = (0, 0, 0);
        while read < data.len() {
            let n = 777.min(data.len() - written);
            push(&mut buffer, &data[written..written + n]);
            written += n;
            most = most.max(written - read);
            let n = buffer.unread().len().min(700);
            assert_eq!(buffer.unread()[..n], data[read..read + n]);
            buffer.consume(n);
            read += n;
            assert!(buffer.bytes.len() <= FIRST.max(4 * most));
        }
    }

    #[test]
    fn gives_a_large_buffer_back() {
        let mut buffer = InputBuffer::new();
        push(&mut buffer, &vec![1; 3 * KEPT]);
        assert!(buffer.bytes.len() >= 3 * KEPT);
        buffer.consume(3 * KEPT);
        assert_eq!(buffer.bytes.capacity(), FIRST);
    }
}
