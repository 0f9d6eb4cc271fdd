//! The C interface: its header is the one that belongs to it, a program in C can use it, and mistakes are errors.
#![cfg(all(unix, feature = "capi", feature = "uds"))]
#![allow(unsafe_code, reason = "a caller in C is played here")]

#[path = "../foreign_support/mod.rs"]
mod foreign_support;
#[path = "../support/mod.rs"]
mod support;

use std::ffi::{CString, c_char};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::ptr::{null, null_mut};
use std::thread;

use foreign_support::{file, is_there, library};
use genvm_transport::capi::genvm_status::*;
use genvm_transport::capi::*;
use genvm_transport::{ListenOptions, listen};
use support::{directory, watchdog};

/// With the environment variable `GENVM_WRITE_HEADER` it is written instead of compared.
#[test]
fn the_header_is_up_to_date() {
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        cpp_compat: true,
        style: cbindgen::Style::Type,
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        include_guard: Some("GENVM_TRANSPORT_H".to_owned()),
        header: Some(HEADER.to_owned()),
        line_length: 120,
        usize_is_size_t: true,
        ..cbindgen::Config::default()
    };
    let source = file("src/capi/mod.rs");
    let bindings = cbindgen::Builder::new().with_config(config).with_src(source).generate().expect("a header");
    let mut made = Vec::new();
    bindings.write(&mut made);
    let header = file("include/genvm_transport.h");
    if std::env::var_os("GENVM_WRITE_HEADER").is_some() {
        std::fs::write(&header, &made).expect("written");
    }
    let made = String::from_utf8(made).expect("text");
    let checked_in = std::fs::read_to_string(&header).unwrap_or_default();
    let advice = "GENVM_WRITE_HEADER=1 cargo test --features capi --test capi the_header writes it";
    assert!(made == checked_in, "include/genvm_transport.h is not what src/capi says; {advice}");
}

const HEADER: &str = "\
/* The streams of genvm-transport for C: connect or listen, read, write, close.
 *
 * Made by cbindgen from src/capi/mod.rs; a test compares the two.
 *
 *   cargo rustc --release --lib --features capi,shm --crate-type cdylib     builds target/release/libgenvm_transport.so
 *   cc program.c -Iinclude -Ltarget/release -lgenvm_transport
 *
 * Each function returns what became of it, and `genvm_last_error` says it in words. Any function may be called from any
 * thread; one stream serves one call at a time. The side that connects has to speak first.
 */";

/// Compiled against the header, linked to the library, over each transport of the library.
#[test]
fn a_program_in_c() {
    if !is_there("cc") {
        return;
    }
    let library = library(); // may take longer than the watchdog waits
    let _watchdog = watchdog("a_program_in_c");
    let directory = directory();
    let (folder, program) = (library.parent().expect("a folder"), directory.path().join("smoke"));
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .arg(file("tests/capi/smoke.c"))
        .arg("-I")
        .arg(file("include"))
        .arg("-L")
        .arg(folder)
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .args(["-lgenvm_transport", "-o"])
        .arg(&program)
        .status();
    assert!(compiled.expect("cc runs").success());
    for scheme in ["unix", "shm"] {
        let address = format!("{scheme}://{}/s", directory.path().display());
        let Ok(listener) = listen(&address, &ListenOptions::default()) else {
            assert!(!cfg!(feature = "shm") && scheme == "shm", "no listener at {address}");
            continue;
        };
        let echo = thread::spawn(move || {
            let mut stream = listener.accept().expect("accepted");
            let mut buffer = vec![0; 1 << 16];
            loop {
                match stream.read(&mut buffer).expect("read") {
                    0 => return stream.kind().to_string(),
                    read => stream.write_all(&buffer[..read]).and_then(|()| stream.flush()).expect("written"),
                }
            }
        });
        let ran = Command::new(&program).arg(&address).stdout(Stdio::piped()).spawn().expect("it starts");
        let ran = ran.wait_with_output().expect("its end");
        assert_eq!((ran.status.success(), &ran.stdout[..]), (true, &b"smoke passed\n"[..]), "{scheme}");
        assert_eq!(echo.join().expect("no panic"), scheme);
    }
}

/// This thread's last error, through a buffer of `capacity` bytes, and its whole length.
fn last_error(capacity: usize) -> (String, usize) {
    let (mut text, mut length) = (vec![0xee_u8; capacity], 0);
    // SAFETY: the text is `capacity` bytes long.
    assert_eq!(unsafe { genvm_last_error(text.as_mut_ptr().cast(), capacity, &raw mut length) }, GENVM_OK);
    let end = text.iter().position(|byte| *byte == 0).expect("a NUL");
    (String::from_utf8(text[..end].to_vec()).expect("text"), length)
}

fn c(address: &str) -> CString {
    CString::new(address).expect("no NUL in it")
}

fn opened(open: unsafe extern "C" fn(*const c_char, *mut u64) -> genvm_status, address: &str) -> u64 {
    let (address, mut handle) = (c(address), 0);
    // SAFETY: a text of C's and a number, both alive.
    assert_eq!(unsafe { open(address.as_ptr(), &raw mut handle) }, GENVM_OK, "{:?}", last_error(200));
    assert_ne!(handle, 0);
    handle
}

/// Both ends of a connection, and its listener.
fn pair(directory: &tempfile::TempDir) -> (genvm_stream, genvm_stream, genvm_listener) {
    let address = format!("unix://{}/s", directory.path().display());
    let listener = opened(genvm_listen, &address);
    // Whoever asks for shared memory, as `unix://` does with `prefer-shm`, waits for the host to read.
    let client = thread::spawn(move || {
        let client = opened(genvm_connect, &address);
        assert_eq!(write(client, b"!"), (GENVM_OK, 1));
        assert_eq!(genvm_flush(client), GENVM_OK);
        client
    });
    let mut host = 0;
    // SAFETY: a number that is alive.
    assert_eq!(unsafe { genvm_accept(listener, &raw mut host) }, GENVM_OK);
    assert_eq!(read(host, &mut [0]), (GENVM_OK, 1));
    (client.join().expect("no panic"), host, listener)
}

fn close_all((client, host, listener): (genvm_stream, genvm_stream, genvm_listener)) {
    assert_eq!(
        (genvm_close(client), genvm_close(host), genvm_listener_close(listener)),
        (GENVM_OK, GENVM_OK, GENVM_OK)
    );
}

fn write(stream: genvm_stream, bytes: &[u8]) -> (genvm_status, usize) {
    let mut done = 99;
    // SAFETY: that many bytes, and a number.
    (unsafe { genvm_write(stream, bytes.as_ptr(), bytes.len(), &raw mut done) }, done)
}

fn read(stream: genvm_stream, bytes: &mut [u8]) -> (genvm_status, usize) {
    let mut done = 99;
    // SAFETY: that many bytes, and a number.
    (unsafe { genvm_read(stream, bytes.as_mut_ptr(), bytes.len(), &raw mut done) }, done)
}

#[test]
fn bytes_go_both_ways_and_the_end_is_zero() {
    let _watchdog = watchdog("bytes_go_both_ways_and_the_end_is_zero");
    let directory = directory();
    let (client, host, listener) = pair(&directory);
    let mut buffer = [0; 50_000];
    assert_eq!(write(client, b"hello"), (GENVM_OK, 5));
    assert_eq!(genvm_flush(client), GENVM_OK);
    assert_eq!((read(host, &mut buffer), &buffer[..5]), ((GENVM_OK, 5), &b"hello"[..]));
    assert_eq!(read(host, &mut []), (GENVM_OK, 0));
    assert_eq!(write(host, &[7; 40_000]), (GENVM_OK, 40_000));
    assert_eq!(genvm_close(host), GENVM_OK);
    let mut came = 0;
    loop {
        match read(client, &mut buffer[came..]) {
            (GENVM_OK, 0) => break,
            (status, read) => {
                assert_eq!(status, GENVM_OK);
                came += read;
            }
        }
    }
    assert!(came == 40_000 && buffer[..came].iter().all(|byte| *byte == 7));
    assert_eq!(write(client, b"anybody?"), (GENVM_CLOSED, 0));
    assert_eq!((genvm_close(client), genvm_listener_close(listener)), (GENVM_OK, GENVM_OK));
    assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 0, "the socket's file is gone");
}

#[test]
fn options_are_taken_and_those_that_are_none_are_errors() {
    let _watchdog = watchdog("options_are_taken_and_those_that_are_none_are_errors");
    let directory = directory();
    let path = directory.path().join("s");
    let (address, mut listener, mut client) = (c(&format!("unix://{}", path.display())), 0, 0);
    // SAFETY: all texts and numbers are alive.
    let listen = |options: &str, listener: &mut u64| unsafe {
        genvm_listen_with(address.as_ptr(), c(options).as_ptr(), &raw mut *listener)
    };
    assert_eq!(listen("mode=0666,colour=red", &mut listener), GENVM_ARGUMENT);
    assert_eq!(last_error(200).0, "no option `colour`; known: wait, ring-kib, users, upgrades, mode");
    assert!(!path.exists(), "nothing is left of it");
    assert_eq!(listen("mode=0666,wait=adaptive,upgrades=no", &mut listener), GENVM_OK);
    assert_eq!(std::fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o666);
    // A host of somebody else is none for a client that says whose it has to be.
    // SAFETY: all texts and numbers are alive.
    let connect = |options: &str, client: &mut u64| unsafe {
        genvm_connect_with(address.as_ptr(), c(options).as_ptr(), &raw mut *client)
    };
    let stranger = rustix::process::geteuid().as_raw() + 1;
    assert_eq!(connect(&format!("upgrades=no,users={stranger}"), &mut client), GENVM_FAILED);
    assert_eq!(connect("upgrades=no,users=same,wait=spin,timeout-ms=60000", &mut client), GENVM_OK);
    assert_eq!((genvm_close(client), genvm_listener_close(listener)), (GENVM_OK, GENVM_OK));
}

#[test]
fn null_pointers_and_dead_handles_are_errors() {
    let _watchdog = watchdog("null_pointers_and_dead_handles_are_errors");
    let directory = directory();
    let (client, host, listener) = pair(&directory);
    let (address, mut handle, mut done, mut byte) = (c("unix:///x"), 0, 0, 0);
    // SAFETY: all pointers are null or lead to the variables above.
    unsafe {
        assert_eq!(genvm_connect(null(), &raw mut handle), GENVM_NULL);
        assert_eq!(genvm_connect(address.as_ptr(), null_mut()), GENVM_NULL);
        assert_eq!(genvm_listen(null(), &raw mut handle), GENVM_NULL);
        assert_eq!(genvm_listen(address.as_ptr(), null_mut()), GENVM_NULL);
        assert_eq!(genvm_accept(listener, null_mut()), GENVM_NULL);
        assert_eq!(genvm_read(client, null_mut(), 1, &raw mut done), GENVM_NULL);
        assert_eq!(genvm_read(client, &raw mut byte, 1, null_mut()), GENVM_NULL);
        assert_eq!(genvm_write(client, null(), 1, &raw mut done), GENVM_NULL);
        assert_eq!(genvm_write(client, &raw const byte, 1, null_mut()), GENVM_NULL);
        assert_eq!(genvm_write(client, &raw const byte, usize::MAX, &raw mut done), GENVM_ARGUMENT);
    }
    // A listener is no stream, and a stream no listener.
    assert_eq!(genvm_close(listener), GENVM_NO_HANDLE);
    assert_eq!(genvm_listener_close(client), GENVM_NO_HANDLE);
    for stream in [client, host] {
        assert_eq!(genvm_close(stream), GENVM_OK);
        assert_eq!(genvm_close(stream), GENVM_NO_HANDLE);
        assert_eq!(write(stream, b"x"), (GENVM_NO_HANDLE, 0));
        assert_eq!(read(stream, &mut [0]).0, GENVM_NO_HANDLE);
        assert_eq!(genvm_flush(stream), GENVM_NO_HANDLE);
        assert_eq!(genvm_set_read_timeout(stream, 1), GENVM_NO_HANDLE);
        assert_eq!(genvm_set_write_timeout(stream, 1), GENVM_NO_HANDLE);
    }
    let whole = format!("there is no stream {host}: it was closed, or never was");
    assert_eq!(last_error(200), (whole.clone(), whole.len()));
    assert_eq!(last_error(9), ("there is".to_owned(), whole.len()));
    assert_eq!(last_error(1), (String::new(), whole.len()));
    // A text is not cut inside a character.
    // SAFETY: a text of C's and a number, both alive.
    assert_eq!(unsafe { genvm_connect(c("é").as_ptr(), &raw mut handle) }, GENVM_ARGUMENT);
    assert_eq!((last_error(3).0, last_error(4).0), ("`".to_owned(), "`é".to_owned()));
    assert_eq!(genvm_listener_close(listener), GENVM_OK);
    assert_eq!(genvm_listener_close(listener), GENVM_NO_HANDLE);
    // SAFETY: `handle` is alive.
    assert_eq!(unsafe { genvm_accept(listener, &raw mut handle) }, GENVM_NO_HANDLE);
    // A new stream does not get an old one's number.
    let next = pair(&directory);
    assert!(![client, host, listener].contains(&next.0) && ![client, host, listener].contains(&next.1));
    close_all(next);
}

#[test]
fn a_stream_in_use_is_busy_and_stays_as_it_is() {
    let _watchdog = watchdog("a_stream_in_use_is_busy_and_stays_as_it_is");
    let directory = directory();
    let (client, host, listener) = pair(&directory);
    let reader = thread::spawn(move || {
        let mut byte = [0];
        loop {
            match read(client, &mut byte) {
                // It met one of the flushes below.
                (GENVM_BUSY, _) => thread::yield_now(),
                done => break (done, byte),
            }
        }
    });
    // Whoever flushes in front of the reader is not in its way; behind it, it is told so.
    while genvm_flush(client) != GENVM_BUSY {
        thread::yield_now();
    }
    assert_eq!(write(client, b"x"), (GENVM_BUSY, 0));
    assert_eq!(read(client, &mut [0]).0, GENVM_BUSY);
    assert_eq!(genvm_close(client), GENVM_BUSY);
    assert_eq!(write(host, b"y"), (GENVM_OK, 1));
    assert_eq!(genvm_flush(host), GENVM_OK);
    assert_eq!(reader.join().expect("no panic"), ((GENVM_OK, 1), *b"y"));
    assert_eq!(write(client, b"x"), (GENVM_OK, 1));
    close_all((client, host, listener));
}

#[test]
fn an_expired_timeout_leaves_the_stream_usable() {
    let _watchdog = watchdog("an_expired_timeout_leaves_the_stream_usable");
    let directory = directory();
    let (client, host, listener) = pair(&directory);
    assert_eq!((genvm_set_read_timeout(client, 1), genvm_set_write_timeout(client, 1)), (GENVM_OK, GENVM_OK));
    assert_eq!(read(client, &mut [0]).0, GENVM_TIMED_OUT);
    let (status, taken) = write(client, &vec![1; 10 << 20]);
    assert_eq!(status, GENVM_TIMED_OUT);
    assert!(taken > 0 && taken < 10 << 20, "{taken}");
    // Exactly what was taken arrives.
    assert_eq!(genvm_close(client), GENVM_OK);
    let (mut buffer, mut came) = (vec![0; 1 << 16], 0);
    loop {
        match read(host, &mut buffer) {
            (GENVM_OK, 0) => break,
            (status, read) => {
                assert_eq!(status, GENVM_OK);
                came += read;
            }
        }
    }
    assert_eq!(came, taken);
    genvm_close(host);
    genvm_listener_close(listener);
}

#[test]
fn closing_a_listener_wakes_who_waits() {
    let _watchdog = watchdog("closing_a_listener_wakes_who_waits");
    let directory = directory();
    let address = format!("unix://{}/s", directory.path().display());
    let listener = opened(genvm_listen, &address);
    let waiting = [(); 2].map(|()| {
        thread::spawn(move || {
            let mut stream = 0;
            loop {
                // SAFETY: a number that is alive.
                match unsafe { genvm_accept(listener, &raw mut stream) } {
                    GENVM_OK => assert_eq!(genvm_close(stream), GENVM_OK),
                    status => return status,
                }
            }
        })
    });
    drop(UnixStream::connect(directory.path().join("s")).expect("connected"));
    assert_eq!(genvm_listener_close(listener), GENVM_OK);
    for status in waiting.map(|thread| thread.join().expect("no panic")) {
        // Who came to wait too late found no handle.
        assert!([GENVM_CLOSED, GENVM_NO_HANDLE].contains(&status), "{status:?}");
    }
}
