//! Arbitrary bytes as a host's answers, in pieces of any size, to any sequence of calls: each call gives a value within its
//! limits or a typed error, memory follows what has arrived and not what was announced, and after a fatal error nothing is sent.
#![no_main]

use std::io::{self, Read, Write};

use genvm_transport::protocol::{
    Account, CallError, HostClient, LeaderResult, Limits, MAX_FUEL_AS_GEN, Protocol, ProtocolError, ResultCode,
    Revision, SlotId, StorageMode,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&[setup, calls], answers)) = input.split_first_chunk::<2>() else { return };
    let limits = if setup & 1 == 0 { Limits::DEFAULT } else { Limits::DEFAULT.with_slice(100) };
    let limit = limits.slice as usize;
    let (account, slot) = (Account([1; 20]), SlotId([2; 32]));
    let protocol = if setup & 2 == 0 { Protocol::ONE } else { Protocol::TWO }.with_limits(limits);
    let revision = protocol.revision();
    let host = Host { answers, piece: 1 + usize::from(setup >> 2), sent: 0 };
    let mut client = HostClient::speaking(protocol, host);
    let (mut dead, mut since) = (false, 0);
    let longest = answers.len().min(limit);
    let mut room = [0; 31];
    for step in 0..=u8::MAX {
        let sent = client.get_ref().sent;
        let read = &mut room[..usize::from(step & 31)];
        let done = match calls.wrapping_add(step) % 16 {
            0 => {
                client.get_calldata().map(|data| assert!(data.len() <= longest && data.capacity() <= 2 * longest + 64))
            }
            1 => client.storage_read(StorageMode::Default, &account, &slot, 7, read),
            2 => client.storage_write(&slot, 7, b"data"),
            3 => client.consume_result(ResultCode::Return, b"data"),
            4 => client.get_leader_nondet_result(3).map(|result| match result {
                LeaderResult::Result { data, .. } => assert!(data.len() < longest),
                LeaderResult::IAmLeader | LeaderResult::Absent => {}
            }),
            5 => client.post_nondet_result(3, b"data"),
            6 => client.post_message(&account, b"calldata", "{}"),
            7 => client.post_event(&[[3; 32]], b"blob"),
            8 => client.consume_fuel(9_u64),
            9 => client.deploy_contract(b"calldata", b"code", "{}"),
            10 => client.eth_call(&account, b"calldata").map(|data| assert!(data.len() <= longest)),
            11 => client.get_balance(&account).map(drop),
            12 => client.remaining_fuel_as_gen().map(|fuel| {
                let small = fuel.to_u64().is_some_and(|fuel| fuel <= MAX_FUEL_AS_GEN);
                assert!(small || revision == Revision::Two);
            }),
            13 => client.notify_nondet_disagreement(3),
            14 => client.resolve_callcontract_executor(&account, StorageMode::Default, 1).map(drop),
            _ => client.run_nested(b"data").map(|data| assert!(data.len() <= longest)),
        };
        // Each of the sixteen has been called since; more of the same would find nothing.
        since += u8::from(dead);
        if since > 16 {
            break;
        }
        if let Err(CallError::Refused { source, .. }) = &done {
            assert!(matches!(source, ProtocolError::NotInRevision { .. }) && client.get_ref().sent == sent, "{source}");
            continue;
        }
        assert_eq!(client.get_ref().sent > sent, !dead, "requests leave as long as the connection lives");
        match done {
            Ok(()) | Err(CallError::Status { .. }) => assert!(!dead),
            Err(CallError::Dead { .. }) => assert!(dead),
            Err(CallError::Protocol { .. }) if !dead => dead = true,
            Err(error) => panic!("{error}"),
        }
    }
});

/// A host that has answered before it was asked, and then closed.
struct Host<'a> {
    answers: &'a [u8],
    piece: usize,
    sent: usize,
}

impl Read for Host<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(self.piece);
        self.answers.read(&mut out[..n])
    }
}

impl Write for Host<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sent += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
