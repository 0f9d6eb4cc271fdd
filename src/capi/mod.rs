//! The C interface: a stream of this crate for programs in other languages, over every transport of the build.
//!
//! `include/genvm_transport.h` is made from this file and says the rest; `examples/python-host` uses it through `ctypes`. It carries
//! bytes and nothing else: the host protocol is written in the caller's own language, on the blocking face, one thread a connection.
//!
//! The shared library is built on demand, with the transports that it is to know:
//!
//! ```sh
//! cargo rustc --release --lib --features capi,shm --crate-type cdylib
//! ```
//!
//! It is no `crate-type` of the manifest, because then every build of this crate, GenVM's included, would link one and could
//! not be optimised across crates; and no crate of its own, because then nobody would test the two together.
//!
//! # What a caller in C cannot break
//!
//! A handle is a number that is never given out twice, looked up at each call: one that was closed, or never was, is
//! [`GENVM_NO_HANDLE`](genvm_status::GENVM_NO_HANDLE). A stream serves one call at a time; a second one meanwhile is
//! [`GENVM_BUSY`](genvm_status::GENVM_BUSY). A null pointer is [`GENVM_NULL`](genvm_status::GENVM_NULL). A panic ends at the boundary, as
//! [`GENVM_PANIC`](genvm_status::GENVM_PANIC), and the stream that it happened in is closed. What is left to the caller is what C
//! leaves to every caller: that a pointer which is not null leads to as much memory as it says.
#![allow(unsafe_code, reason = "pointers from C are followed here, and functions exported")]
#![allow(non_camel_case_types, reason = "the names are those that C sees")]

mod guard;
mod handles;
mod options;

use std::ffi::{CStr, c_char};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use guard::{Failure, guarded};
use handles::{LISTENERS, STREAMS};

/// A stream. Never zero, and never given out twice.
pub type genvm_stream = u64;

/// A listener. Never zero, and never given out twice.
pub type genvm_listener = u64;

/// What every function returns. `genvm_last_error` says more.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum genvm_status {
    /// It was done.
    GENVM_OK = 0,
    /// A pointer is null.
    GENVM_NULL = 1,
    /// There is no such handle: it was closed, or never was one.
    GENVM_NO_HANDLE = 2,
    /// Another thread is in a call on this stream. Nothing was done.
    GENVM_BUSY = 3,
    /// An argument makes no sense: an address that is none, or that this build has no transport for.
    GENVM_ARGUMENT = 4,
    /// Connecting or listening failed; or accepting, and may be tried again.
    GENVM_FAILED = 5,
    /// A read or write timeout expired. The stream is as good as before.
    GENVM_TIMED_OUT = 6,
    /// The peer is gone, or the listener was closed.
    GENVM_CLOSED = 7,
    /// The peer broke the transport's protocol. The stream is dead.
    GENVM_INVALID_DATA = 8,
    /// The system refused. The stream is dead.
    GENVM_IO = 9,
    /// A defect in this library. The stream, if it was about one, is closed.
    GENVM_PANIC = 10,
}

/// The number of this interface: 1. It changes when a program that was compiled against an older header would break.
#[unsafe(no_mangle)]
pub extern "C" fn genvm_abi_version() -> u32 {
    1
}

/// Connects to `address`, such as `unix:///run/host.sock` or `shm:///run/host.sock`, and stores the stream. Waits five seconds
/// at most; for shared memory, one of them for the host to accept and read.
///
/// # Safety
/// `address` is null or a text that ends with a NUL; `stream` is null or leads to a `genvm_stream`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genvm_connect(address: *const c_char, stream: *mut genvm_stream) -> genvm_status {
    // SAFETY: this function's own conditions; there are no options.
    unsafe { genvm_connect_with(address, std::ptr::null(), stream) }
}

/// `genvm_connect` with other choices: `name=value`, separated by commas, such as `wait=adaptive,fallback=plain`. Null or empty is none.
/// Whatever is not known is `GENVM_ARGUMENT`.
///
/// | name | value | if it is not given |
/// | --- | --- | --- |
/// | `wait` | how this end waits: `park` sleeps at once, `adaptive` polls first, `spin` never sleeps | `park` for sockets, `adaptive` for shared memory |
/// | `ring-kib` | KiB of the ring that this end writes into, a power of two | 128 |
/// | `timeout-ms` | how long connecting may take | 5000 |
/// | `fallback` | what becomes of `shm://` if the host has no shared memory: `fail`, or the `plain` socket | `fail` |
/// | `users` | whose host is accepted: `any`, `same` as this process's user, or ids such as `1000+1001` | `any` |
/// | `upgrades` | whether `unix://` asks for shared memory first, in a library built with `prefer-shm`: `yes` or `no` | `yes` |
///
/// # Safety
/// As for `genvm_connect`; `options` is null or a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genvm_connect_with(
    address: *const c_char,
    options: *const c_char,
    stream: *mut genvm_stream,
) -> genvm_status {
    guarded(|| {
        // SAFETY: this function's own conditions.
        let (address, options, stream) = unsafe { (text(address)?, chosen(options)?, out(stream)?) };
        let connected = crate::connection::connect(address, &options::to_connect(options)?)?;
        // SAFETY: `out` has checked it.
        unsafe { stream.write(STREAMS.add(connected)) };
        Ok(())
    })
}

/// Listens on `address` and stores the listener. It lets in processes of this process's user only. At `shm://`, and at `unix://` in a
/// library that knows shared memory, it serves plain clients and those that ask for shared memory: the connecting side has to speak first.
///
/// # Safety
/// As for `genvm_connect`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genvm_listen(address: *const c_char, listener: *mut genvm_listener) -> genvm_status {
    // SAFETY: this function's own conditions; there are no options.
    unsafe { genvm_listen_with(address, std::ptr::null(), listener) }
}

/// `genvm_listen` with other choices, written as for `genvm_connect_with`:
///
/// | name | value | if it is not given |
/// | --- | --- | --- |
/// | `wait`, `ring-kib` | as there, of every accepted stream | as there |
/// | `users` | who may connect: `same` as this process's user, `any`, or ids such as `1000+1001` | `same` |
/// | `mode` | permissions of the socket's file, octal; another user's client needs to write it | `0600` |
/// | `upgrades` | whether `unix://` serves clients that ask for shared memory as well: `yes` or `no` | `yes` |
///
/// # Safety
/// As for `genvm_listen`; `options` is null or a text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genvm_listen_with(
    address: *const c_char,
    options: *const c_char,
    listener: *mut genvm_listener,
) -> genvm_status {
    guarded(|| {
        // SAFETY: this function's own conditions.
        let (address, options, listener) = unsafe { (text(address)?, chosen(options)?, out(listener)?) };
        let listening = crate::connection::listen(address, &options::to_listen(options)?)?;
        // SAFETY: `out` has checked it.
        unsafe { listener.write(LISTENERS.add(listening)) };
        Ok(())
    })
}

/// Waits for the next client and stores its stream. Several threads may wait. `GENVM_FAILED` is one client's misfortune: accept
/// again.
///
/// # Safety
/// `stream` is null or leads to a `genvm_stream`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genvm_accept(listener: genvm_listener, stream: *mut genvm_stream) -> genvm_status {
    guarded(|| {
        // SAFETY: this function's own condition.
        let stream = unsafe { out(stream)? };
        let accepted = LISTENERS.get(listener)?.accept()?;
        // SAFETY: `out` has checked it.
        unsafe { stream.write(STREAMS.add(accepted)) };
        Ok(())
    })
}

/// Stops listening and removes the socket's file, which nobody does when the process just ends. Whoever waits in `genvm_accept` gets
/// `GENVM_CLOSED`. Accepted streams live on.
#[unsafe(no_mangle)]
pub extern "C" fn genvm_listener_close(listener: genvm_listener) -> genvm_status {
    guarded(|| {
        LISTENERS.remove(listener)?.close();
        Ok(())
    })
}

/// Reads at least one byte and at most `length`, fewer where fewer are there, and stores how many. Zero bytes are the end: the peer
/// closed, and all that it wrote was read. (With a `length` of 0 nothing is done.) What was written before is flushed first.
///
/// # Safety
/// `data` is null or leads to `length` bytes that nobody else touches meanwhile; they need not be initialised. `done` is null or leads
/// to a `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genvm_read(
    stream: genvm_stream,
    data: *mut u8,
    length: usize,
    done: *mut usize,
) -> genvm_status {
    guarded(|| {
        // SAFETY: this function's own conditions.
        let (data, done) = unsafe { (out(data)?, out(done)?) };
        STREAMS.with(stream, |stream| {
            let length = length.min(stream.buffer.len());
            // Through a buffer of ours: no Rust reference may lead to memory that was never initialised.
            let read = stream.io.read(&mut stream.buffer[..length])?;
            // SAFETY: `read` is at most `length`, so it fits both, and they are not the same: nobody outside knows the buffer.
            unsafe { data.copy_from_nonoverlapping(stream.buffer.as_ptr(), read) };
            // SAFETY: `out` has checked it.
            unsafe { done.write(read) };
            Ok(())
        })
    })
}

/// Writes all of `length` bytes, which may be kept back until `genvm_flush` or `genvm_read`, and stores how many were taken: all of
/// them with `GENVM_OK`, else as many as went before it failed.
///
/// # Safety
/// `data` is null or leads to `length` bytes, initialised, that nobody changes meanwhile. `done` is null or leads to a `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genvm_write(
    stream: genvm_stream,
    data: *const u8,
    length: usize,
    done: *mut usize,
) -> genvm_status {
    guarded(|| {
        // SAFETY: this function's own conditions.
        let (data, done) = unsafe { (out(data.cast_mut())?, out(done)?) };
        // SAFETY: `out` has checked it.
        unsafe { done.write(0) };
        if length > isize::MAX as usize {
            return Err(Failure::new(genvm_status::GENVM_ARGUMENT, "no memory is that long"));
        }
        // SAFETY: not null, not longer than memory can be, and by this function's own conditions initialised and left alone.
        let mut rest = unsafe { std::slice::from_raw_parts(data, length) };
        STREAMS.with(stream, |stream| {
            while !rest.is_empty() {
                match stream.io.write(rest)? {
                    0 => return Err(std::io::Error::from(ErrorKind::WriteZero).into()),
                    taken => rest = &rest[taken..],
                }
                // SAFETY: `out` has checked it.
                unsafe { done.write(length - rest.len()) };
            }
            Ok(())
        })
    })
}

/// Makes what was written readable for the peer, and wakes it if it sleeps.
#[unsafe(no_mangle)]
pub extern "C" fn genvm_flush(stream: genvm_stream) -> genvm_status {
    guarded(|| STREAMS.with(stream, |stream| Ok(stream.io.flush()?)))
}

/// How many milliseconds a `genvm_read` may wait; 0, as at first: for ever.
#[unsafe(no_mangle)]
pub extern "C" fn genvm_set_read_timeout(stream: genvm_stream, milliseconds: u32) -> genvm_status {
    guarded(|| STREAMS.with(stream, |stream| Ok(stream.io.set_read_timeout(timeout(milliseconds))?)))
}

/// How many milliseconds each wait of a `genvm_write` or `genvm_flush` may last; 0, as at first: for ever.
#[unsafe(no_mangle)]
pub extern "C" fn genvm_set_write_timeout(stream: genvm_stream, milliseconds: u32) -> genvm_status {
    guarded(|| STREAMS.with(stream, |stream| Ok(stream.io.set_write_timeout(timeout(milliseconds))?)))
}

/// Closes a stream. What was written is flushed, as far as that needs no waiting. `GENVM_BUSY`, and not closed, while another thread
/// is in a call on it: a thread that has to be stopped needs a timeout.
#[unsafe(no_mangle)]
pub extern "C" fn genvm_close(stream: genvm_stream) -> genvm_status {
    guarded(|| STREAMS.close(stream))
}

/// Copies why this thread's last call that failed did so: a text in English that ends with a NUL, cut to `capacity` bytes, the NUL
/// included, between two characters of UTF-8. Stores in `length` how long the whole text is, without the NUL. Empty if no call of this thread failed. Is
/// itself not such a call.
///
/// # Safety
/// `text` is null or leads to `capacity` bytes; `length` is null or leads to a `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genvm_last_error(text: *mut c_char, capacity: usize, length: *mut usize) -> genvm_status {
    if text.is_null() || length.is_null() {
        return genvm_status::GENVM_NULL;
    }
    guard::last_error(|error| {
        let mut copied = error.len().min(capacity.saturating_sub(1));
        while !error.is_char_boundary(copied) {
            copied -= 1;
        }
        // SAFETY: neither is null; `copied` and the NUL come to `capacity` at most, and the text is ours, so they do not overlap.
        unsafe {
            length.write(error.len());
            text.cast::<u8>().copy_from_nonoverlapping(error.as_ptr(), copied);
            if capacity > 0 {
                text.add(copied).write(0);
            }
        }
    });
    genvm_status::GENVM_OK
}

/// A pointer to what will be stored, if it is not null.
///
/// # Safety
/// It is null or leads to memory that may be written.
unsafe fn out<T>(pointer: *mut T) -> Result<*mut T, Failure> {
    if pointer.is_null() { Err(Failure::null()) } else { Ok(pointer) }
}

/// Options, of which null is none.
///
/// # Safety
/// As for `text`.
unsafe fn chosen<'a>(pointer: *const c_char) -> Result<&'a str, Failure> {
    // SAFETY: this function's own conditions.
    if pointer.is_null() { Ok("") } else { unsafe { text(pointer) } }
}

/// # Safety
/// `pointer` is null or leads to a text that ends with a NUL and stays as it is while the result is in use.
unsafe fn text<'a>(pointer: *const c_char) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(Failure::null());
    }
    // SAFETY: not null, and this function's own conditions.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| Failure::new(genvm_status::GENVM_ARGUMENT, format!("a text is not UTF-8: {error}")))
}

fn timeout(milliseconds: u32) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()))
}
