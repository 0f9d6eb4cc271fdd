//! What is sent: [`Pattern`], in pieces of [`Sizes`].

/// Bytes that tell where they belong.
#[derive(Debug, Clone, Copy)]
pub struct Pattern(pub u64);

impl Pattern {
    /// Another one each run, printed so that a failure can be repeated.
    pub fn seeded() -> Self {
        use std::hash::{BuildHasher, Hasher};
        let seed = match std::env::var("CONFORMANCE_SEED") {
            Ok(seed) => seed.parse().expect("CONFORMANCE_SEED is a number"),
            Err(_) => std::collections::hash_map::RandomState::new().build_hasher().finish(),
        };
        println!("CONFORMANCE_SEED={seed}");
        Self(seed)
    }

    /// The same for the other direction, so that bytes which come back by mistake do not pass.
    pub fn reverse(self) -> Self {
        Self(!self.0)
    }

    pub fn bytes(&self, from: usize, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        let mut word = from / 8;
        bytes.extend_from_slice(&self.word(word)[from % 8..]);
        while bytes.len() < length {
            word += 1;
            bytes.extend_from_slice(&self.word(word));
        }
        bytes.truncate(length);
        bytes
    }

    fn word(&self, index: usize) -> [u8; 8] {
        scramble(self.0 ^ index as u64).to_le_bytes()
    }

    pub fn check(&self, at: usize, seen: &[u8]) {
        let expected = self.bytes(at, seen.len());
        if expected != seen {
            let off = expected.iter().zip(seen).take_while(|(a, b)| a == b).count();
            panic!("byte {} of the stream is {:#04x}, expected {:#04x}", at + off, seen[off], expected[off]);
        }
    }
}

/// Sizes of pieces: mostly small ones, now and then the largest.
pub struct Sizes(u64);

impl Sizes {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        let random = scramble(self.0) as usize;
        match random % 4 {
            0 => random / 4 % most.min(100) + 1,
            1 => most,
            _ => random / 4 % most + 1,
        }
    }
}

/// The finalizer of MurmurHash3.
pub fn scramble(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}
