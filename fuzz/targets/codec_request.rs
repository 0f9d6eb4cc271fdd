//! Arbitrary bytes as requests: what decodes is encoded to the same bytes, what does not is an error that more bytes do not take
//! back, and a host that is sent them ends without a panic.
#![no_main]

use std::io::{self, Read, Write};

use genvm_transport::protocol::{
    Decoded, Environment, HostState, Limits, Protocol, ProtocolError, Revision, ServeError, Status, decode,
    serve_blocking,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&setup, input)) = input.split_first() else { return };
    let limits = if setup & 1 == 0 { Limits::DEFAULT } else { Limits::DEFAULT.with_slice(40) };
    let protocol = if setup & 2 == 0 { Protocol::ONE } else { Protocol::TWO }.with_limits(limits.clone());
    let revision = protocol.revision();
    let cut = usize::from(setup >> 2).min(input.len());
    let whole = decode(revision, input, &limits);
    match &whole {
        Ok(Decoded::Complete { request, consumed }) => {
            let mut encoded = vec![0xaa];
            request.encode(revision, &limits, &mut encoded).expect("what was decoded can be encoded");
            assert_eq!(encoded[1..], input[..*consumed]);
        }
        Ok(Decoded::Partial { missing, .. }) => assert!(*missing > 0 && *missing <= limits.slice.max(TOPICS) as usize),
        Ok(Decoded::Empty) => assert!(input.is_empty()),
        Err(_) => {}
    }
    // A part of it is the same, or the beginning of it.
    match decode(revision, &input[..cut], &limits) {
        Ok(Decoded::Complete { request, consumed }) => {
            assert_eq!(whole, Ok(Decoded::Complete { request, consumed }));
        }
        Ok(Decoded::Partial { missing, .. }) => match whole {
            Ok(Decoded::Complete { consumed, .. }) => assert!(cut + missing <= consumed),
            Ok(Decoded::Partial { .. }) | Err(_) => {}
            Ok(Decoded::Empty) => unreachable!("longer than something"),
        },
        Ok(Decoded::Empty) => assert_eq!(cut, 0),
        Err(error) => assert_eq!(whole, Err(error)),
    }

    let no_eth_reply = if revision == Revision::One { Status::Absent } else { Status::EvmReverted };
    let mut host = HostState::new().begin(Environment { no_eth_reply, ..Environment::default() });
    // In a few dozen pieces at most: each is a try to decode all that is there, and hundreds of them took most of the time.
    let piece = (1 + cut).max(input.len() / 32);
    let mut stream = Script { input, piece, output: 0 };
    match serve_blocking(&mut stream, &mut host, &protocol) {
        Ok(_) => {}
        Err(ServeError::Protocol(error)) => {
            assert!(!matches!(error, ProtocolError::NotInRevision { .. } | ProtocolError::Surplus { .. }), "{error}");
        }
        // After its result an execution has no state, and nothing nested is run here; nobody listens to answers beyond the script's
        // patience.
        Err(ServeError::Handler { .. }) if revision == Revision::Two => {}
        Err(ServeError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => panic!("{error}"),
    }
});

/// Bytes of the only field that has a length of its own and no limit: 255 topics.
const TOPICS: u32 = 255 * 32;

/// A stream that delivers the input in pieces and counts what is answered.
struct Script<'a> {
    input: &'a [u8],
    piece: usize,
    output: u64,
}

impl Read for Script<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(self.piece);
        self.input.read(&mut out[..n])
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output += bytes.len() as u64;
        // A few reads of 64 MiB each are answered, and then nobody listens any more: time is the limit here, not memory.
        if self.output > 1 << 20 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
