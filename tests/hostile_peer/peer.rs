//! A peer written by hand from the documentation of the wire, that says and does what it is told, lies included. Nothing of
//! the library is used here: whatever both get wrong in the same way would go unnoticed.
#![allow(unsafe_code, reason = "a hostile peer scribbles over shared memory")]

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

pub const BELL: usize = 0;
pub const FINISHED: usize = 64;
pub const CONSUMED: usize = 128;
pub const RING: usize = 4096;
pub const LINE: usize = 64;
pub const ARMED: u64 = 1;

/// The smallest ring, so that it is soon full.
pub const CAPACITY: u32 = 4096;
pub const LINES: u64 = CAPACITY as u64 / LINE as u64;
/// The longest payload in a ring of that size: a quarter of it, less the header.
pub const MAX_PAYLOAD: u64 = CAPACITY as u64 / 4 - 8;
pub const SEGMENT: usize = RING + CAPACITY as usize;
/// Where our records start: at the first line of the ring.
pub const START: u64 = 0x1234_5678_9ac0;
const POSITION_MASK: u64 = (1 << 48) - 1;

/// What a segment has to be sealed with.
pub const SEALS: [SealFlags; 4] = [SealFlags::SHRINK, SealFlags::GROW, SealFlags::FUTURE_WRITE, SealFlags::SEAL];

/// A greeting in which nothing is wrong.
pub fn greeting(start: u64) -> Vec<u8> {
    let mut bytes = vec![0; 96];
    bytes[..8].copy_from_slice(b"\xf5gvmshm\n");
    bytes[8] = 1;
    bytes[16..20].copy_from_slice(&CAPACITY.to_le_bytes());
    bytes[24..32].copy_from_slice(&start.to_le_bytes());
    bytes
}

/// A memfd of `len` bytes with these seals, and the mapping that its maker keeps.
pub fn segment(len: usize, seals: SealFlags) -> (OwnedFd, Memory) {
    let fd = rustix::fs::memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memfd");
    rustix::fs::ftruncate(&fd, len as u64).expect("its size");
    let memory = Memory::map(fd.as_fd(), len, true).expect("its mapping");
    rustix::fs::fcntl_add_seals(&fd, seals).expect("its seals");
    (fd, memory)
}

/// A segment in which nothing is wrong.
pub fn sound_segment() -> (OwnedFd, Memory) {
    segment(SEGMENT, SEALS.into_iter().collect())
}

/// Sends all of `bytes`, the descriptors with the first of them.
pub fn say(socket: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&descriptors).size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    (&mut &*socket).write_all(&bytes[sent..])
}

/// A greeting or an answer of the other end, and what came with it. Fewer bytes if it hung up.
pub fn hear(socket: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    while bytes.len() < 96 {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut chunk = vec![0; 96 - bytes.len()];
        let into = &mut [IoSliceMut::new(&mut chunk)];
        let n = match rustix::net::recvmsg(socket, into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            // It closed with something of ours unread.
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(error) => panic!("{error}"),
        };
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                descriptors.extend(rights);
            }
        }
        if n == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..n]);
    }
    (bytes, descriptors)
}

/// A mapping, for whatever one may want to do to it.
pub struct Memory {
    base: *mut u8,
    len: usize,
}

// SAFETY: shared memory belongs to no thread.
unsafe impl Send for Memory {}
// SAFETY: all access is by atomics.
unsafe impl Sync for Memory {}

impl Memory {
    pub fn map(fd: BorrowedFd<'_>, len: usize, writable: bool) -> rustix::io::Result<Self> {
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0)? };
        Ok(Self { base: base.cast(), len })
    }

    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len);
        // SAFETY: in bounds, aligned, and alive as long as `self`.
        unsafe { AtomicU64::from_ptr(self.base.add(offset).cast()) }
    }

    pub fn store(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }

    pub fn load(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Tries to give the pages back to the kernel, which would make a hole.
    pub fn punch(&self) -> rustix::io::Result<()> {
        // SAFETY: the whole of our own mapping; nothing but atomics ever looks at it.
        unsafe { rustix::mm::madvise(self.base.cast(), self.len, rustix::mm::Advice::LinuxRemove) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: what `map` got; nothing borrows from it any more.
        unsafe { rustix::mm::munmap(self.base.cast(), self.len).expect("munmap") }
    }
}

/// The hand-written end of a connection whose handshake went well.
pub struct Peer {
    pub socket: UnixStream,
    pub ours: Memory,
    pub theirs: Memory,
    /// Our segment once more, as the other end has got it.
    pub fd: OwnedFd,
    /// Where the other end's records started.
    pub their_start: u64,
    written: u64,
    read: u64,
}

impl Peer {
    /// Agrees on shared memory as it should be done.
    pub fn agree(socket: UnixStream, speaks_first: bool, start: u64) -> Self {
        Self::agree_on(sound_segment(), socket, speaks_first, start)
    }

    /// The same with a segment that may have been used before.
    pub fn agree_on((fd, ours): (OwnedFd, Memory), socket: UnixStream, speaks_first: bool, start: u64) -> Self {
        let sent = [fd.try_clone().expect("a second descriptor")];
        let (bytes, mut descriptors) = if speaks_first {
            say(&socket, &greeting(start), &sent).expect("a greeting is taken");
            hear(&socket)
        } else {
            let heard = hear(&socket);
            say(&socket, &greeting(start), &sent).expect("an answer is taken");
            heard
        };
        assert_eq!(bytes.len(), 96, "the other end hung up");
        assert_eq!((&bytes[..11], bytes[12]), (&b"\xf5gvmshm\n\x01\0\0"[..], 0), "agreed");
        assert_eq!(bytes[16..20], CAPACITY.to_le_bytes());
        let their_start = u64::from_le_bytes(bytes[24..32].try_into().expect("8 bytes"));
        let theirs = descriptors.pop().expect("its segment");
        assert!(descriptors.is_empty());
        let theirs = Memory::map(theirs.as_fd(), SEGMENT, false).expect("it can be mapped");
        // How far we have read: nothing yet.
        ours.store(CONSUMED, their_start);
        Self { socket, ours, theirs, fd, their_start, written: start, read: their_start }
    }

    /// Stores a header where a record at `position` would have it.
    pub fn store_header(&self, position: u64, header: u64) {
        self.ours.store(place(position), header);
    }

    /// An honest record, with its bell.
    pub fn send(&mut self, payload: &[u8]) {
        let at = place(self.written);
        for (i, chunk) in payload.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.ours.store(at + 8 + 8 * i, u64::from_le_bytes(word));
        }
        self.store_header(self.written, self.written << 16 | payload.len() as u64);
        self.written = (self.written + lines(payload.len())) & POSITION_MASK;
        self.ring();
    }

    /// Reads the other end's next record, if it is there.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let at = place(self.read);
        let header = self.theirs.load(at);
        if header >> 16 != self.read {
            return None;
        }
        let length = (header & 0xffff) as usize;
        let words = (0..length.div_ceil(8)).flat_map(|i| self.theirs.load(at + 8 + 8 * i).to_le_bytes());
        let payload = words.take(length).collect();
        self.read = (self.read + lines(length)) & POSITION_MASK;
        self.ours.store(CONSUMED, self.read);
        Some(payload)
    }

    /// A byte, whether the other end sleeps or not.
    pub fn ring(&self) {
        match (&self.socket).write(&[1]) {
            Ok(_) => {}
            // It hung up on a liar; or there are bytes enough that ring.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::WouldBlock) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until the other end has armed its bell.
    pub fn wait_for_sleeper(&self) {
        while self.theirs.load(BELL) & ARMED == 0 {
            std::thread::yield_now();
        }
    }

    /// Waits until the other end hangs up; whatever else it says is a bell that rings.
    pub fn wait_for_hang_up(&self) {
        loop {
            let mut byte = [0];
            match (&self.socket).read(&mut byte) {
                Ok(0) => return,
                Ok(_) => assert_eq!(byte, [1], "nothing but ringing"),
                Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
    }
}

fn place(position: u64) -> usize {
    RING + (position % LINES) as usize * LINE
}

fn lines(payload: usize) -> u64 {
    (8 + payload).div_ceil(LINE) as u64
}
