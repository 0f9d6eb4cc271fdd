//! Nonsense from either end is a typed error that names method and field, ends the connection, and is never waited for.

mod protocol_support;

use genvm_transport::protocol::*;
use proptest::prelude::*;
use protocol_support::*;

/// What the host makes of these bytes, followed by the end of the stream.
fn served(protocol: &Protocol, bytes: &[u8]) -> Result<Served, ServeError> {
    serve_blocking(&mut Script::new(bytes), &mut GoldenHost::default(), protocol)
}

fn refused(protocol: &Protocol, bytes: &[u8]) -> ProtocolError {
    match served(protocol, bytes) {
        Err(ServeError::Protocol(error)) => error,
        other => panic!("{bytes:02x?}: {other:?}"),
    }
}

/// What the client makes of these bytes as the answer to a golden request.
fn answered(golden: &Golden, bytes: &[u8]) -> ProtocolError {
    let mut client = HostClient::speaking(golden.protocol.clone(), Script::new(bytes));
    let error = match call(&mut client, &golden.decoded) {
        Err(CallError::Protocol { method, source }) => {
            assert_eq!(method, golden.decoded.method());
            source
        }
        other => panic!("{}: {bytes:02x?}: {other:?}", golden.name),
    };
    // From here on the connection is dead, and nothing more is sent.
    client.get_mut().take_output();
    let error_after = call(&mut client, &golden.decoded).unwrap_err();
    assert!(matches!(error_after, CallError::Dead { .. }) && error_after.is_fatal(), "{error_after}");
    assert_eq!(client.into_inner().take_output(), b"");
    error
}

fn method_of(golden: &Golden) -> Method {
    golden.decoded.method()
}

#[test]
fn every_request_cut_anywhere_is_truncated() {
    for golden in both() {
        for cut in 1..golden.request.len() {
            match refused(&golden.protocol, &golden.request[..cut]) {
                ProtocolError::Truncated { method, field, missing } => {
                    assert_eq!(method, method_of(&golden));
                    assert!(!field.is_empty());
                    assert!(missing > 0 && missing as usize <= golden.request.len() - cut, "{}: {cut}", golden.name);
                }
                other => panic!("{}: {cut}: {other}", golden.name),
            }
        }
    }
}

#[tokio::test]
async fn so_it_is_for_an_async_host() {
    for golden in both() {
        for cut in 1..golden.request.len() {
            let mut stream = tokio::io::join(&golden.request[..cut], Vec::new());
            match serve(&mut stream, &mut GoldenHost::default(), &golden.protocol).await {
                Err(ServeError::Protocol(ProtocolError::Truncated { method, .. })) => {
                    assert_eq!(method, method_of(&golden));
                }
                other => panic!("{}: {cut}: {other:?}", golden.name),
            }
        }
    }
}

#[test]
fn every_answer_cut_anywhere_is_truncated() {
    for golden in both() {
        for cut in 0..golden.answer.len() {
            let error = answered(&golden, &golden.answer[..cut]);
            assert!(
                matches!(error, ProtocolError::Truncated { method, .. } if method == method_of(&golden)),
                "{}: {cut}: {error}",
                golden.name
            );
        }
    }
}

#[test]
fn truncation_names_the_field() {
    let all = golden();
    let field = |id: usize, cut: usize| match refused(&Protocol::ONE, &all[id].request[..cut]) {
        ProtocolError::Truncated { field, missing, .. } => (field, missing),
        other => panic!("{other}"),
    };
    assert_eq!(field(1, 1), ("mode", 1));
    assert_eq!(field(1, 2), ("account", 20));
    assert_eq!(field(1, 23), ("slot", 31));
    assert_eq!(field(1, 54), ("index", 4));
    assert_eq!(field(1, 61), ("length", 1));
    assert_eq!(field(7, 2), ("topics", 64));
    assert_eq!(field(9, all[9].request.len() - 1), ("data", 1));
    let all_two = golden_two();
    for (id, cut, expected) in [
        (1, 1, ("gas", 32)),
        (5, 3, ("call_no", 2)),
        (6, 1, ("result", 4)),
        (7, 20, ("account", 1)),
        (7, 21, ("mode", 1)),
        (7, 22, ("advisory_major", 1)),
        (8, 4, ("data", 1)),
        (8, 6, ("data", 4)),
    ] {
        match refused(&Protocol::TWO, &all_two[id].request[..cut]) {
            ProtocolError::Truncated { field, missing, .. } => assert_eq!((field, missing), expected),
            other => panic!("{id}: {other}"),
        }
    }
    assert_eq!(
        refused(&Protocol::ONE, &all[1].request[..23]).to_string(),
        "`storage_read`, slot: the stream ended with at least 31 bytes missing"
    );
}

#[test]
fn every_first_byte_is_a_method_or_an_error() {
    for id in 0..=u8::MAX {
        match (id, served(&Protocol::ONE, &[id])) {
            (0 | 13, Ok(Served::Closed)) => {} // whole requests
            (1..=12, Err(ServeError::Protocol(ProtocolError::Truncated { method, .. }))) => {
                assert_eq!(Revision::One.id(method), Some(id));
            }
            (14.., Err(ServeError::Protocol(ProtocolError::UnknownMethod { id: seen, .. }))) => assert_eq!(seen, id),
            (_, other) => panic!("{id}: {other:?}"),
        }
    }
    assert_eq!(refused(&Protocol::ONE, &[14]).to_string(), "14 is no method id of revision 1 (known: 0 to 13)");
}

#[test]
fn every_first_byte_is_a_method_or_an_error_at_revision_2() {
    for id in 0..=u8::MAX {
        match (id, served(&Protocol::TWO, &[id])) {
            (4, Ok(Served::Closed)) => {} // a whole request
            (0..=8, Err(ServeError::Protocol(ProtocolError::Truncated { method, .. }))) => {
                assert_eq!(Revision::Two.id(method), Some(id));
            }
            (9.., Err(ServeError::Protocol(ProtocolError::UnknownMethod { id: seen, .. }))) => assert_eq!(seen, id),
            (_, other) => panic!("{id}: {other:?}"),
        }
    }
    assert_eq!(refused(&Protocol::TWO, &[9]).to_string(), "9 is no method id of revision 2 (known: 0 to 8)");
}

#[test]
fn wrong_bytes_are_refused_at_revision_2() {
    let all = golden_two();
    for byte in 3..=u8::MAX {
        for (request, method) in [
            (vec![0, byte], Method::StorageRead),
            ([&[7][..], &[0; 20], &[byte]].concat(), Method::ResolveCallcontractExecutor),
        ] {
            match refused(&Protocol::TWO, &request) {
                ProtocolError::UnknownByte { method: of, field: "mode", source } => {
                    assert_eq!((of, source.byte), (method, byte));
                }
                other => panic!("{byte}: {other}"),
            }
        }
    }
    let limited = Protocol::TWO.with_limits(Limits::DEFAULT.with_slice(1000));
    for (id, at, field) in [(0, 58, "length"), (2, 21, "calldata"), (6, 1, "result"), (8, 1, "data")] {
        for length in [1001, u32::MAX] {
            let bytes = [&all[id].request[..at], &length.to_le_bytes()].concat();
            let (method, length, limit) = (method_of(&all[id]), length.into(), 1000);
            assert_eq!(refused(&limited, &bytes), ProtocolError::TooLong { method, field, length, limit });
        }
    }
    for id in [2, 7, 8] {
        let status = if id == 8 { &[][..] } else { &[0] };
        let (method, length, limit) = (method_of(&all[id]), u32::MAX.into(), 64 << 20);
        let error = answered(&all[id], &[status, &[0xff; 4]].concat());
        assert_eq!(error, ProtocolError::TooLong { method, field: "length", length, limit });
    }
}

#[test]
fn every_wrong_enum_byte_in_a_request_is_refused_at_once() {
    for byte in 0..=u8::MAX {
        if byte >= 3 {
            // The mode stands before the rest of the message: none of it is awaited.
            match refused(&Protocol::ONE, &[1, byte]) {
                ProtocolError::UnknownByte { method: Method::StorageRead, field: "mode", source } => {
                    assert_eq!(source.byte, byte);
                }
                other => panic!("{byte}: {other}"),
            }
        }
        for (protocol, id) in [(Protocol::ONE, 3), (Protocol::TWO, 6)].into_iter().filter(|_| byte >= 4) {
            match refused(&protocol, &[id, 9, 0, 0, 0, byte]) {
                ProtocolError::UnknownByte { method: Method::ConsumeResult, field: "result code", source } => {
                    assert_eq!(source.byte, byte);
                }
                other => panic!("{byte}: {other}"),
            }
        }
    }
    for (protocol, id) in [(Protocol::ONE, 3), (Protocol::TWO, 6)] {
        let error = refused(&protocol, &[id, 0, 0, 0, 0]);
        assert_eq!(error, ProtocolError::NoResultCode { method: Method::ConsumeResult, field: "result" });
    }
}

#[test]
fn every_wrong_status_is_refused() {
    for golden in both().iter().filter(|golden| !golden.answer.is_empty()) {
        for byte in 1..=u8::MAX {
            let acknowledgement = method_of(golden) == Method::ConsumeResult;
            let statuses = golden.protocol.revision().statuses().len();
            if usize::from(byte) < statuses && !acknowledgement || method_of(golden) == Method::RunNested {
                continue;
            }
            match answered(golden, &[byte]) {
                ProtocolError::UnknownByte { method, field, source } => {
                    assert_eq!((method, source.byte), (method_of(golden), byte));
                    assert_eq!(field, if acknowledgement { "acknowledgement" } else { "status" });
                }
                other => panic!("{}: {byte}: {other}", golden.name),
            }
        }
    }
}

#[test]
fn wrong_answers_are_refused() {
    let all = golden();
    let leader = &all[4];
    assert_eq!(
        answered(leader, &[0, 0, 0, 0, 0]),
        ProtocolError::NoResultCode { method: Method::GetLeaderNondetResult, field: "result" }
    );
    assert!(matches!(
        answered(leader, &[0, 1, 0, 0, 0, 4]),
        ProtocolError::UnknownByte { field: "result code", source: UnknownByte { byte: 4, .. }, .. }
    ));
    assert_eq!(
        answered(&all[13], &[0, 0, 0, 0, 0, 0, 0, 0x20, 0]),
        ProtocolError::TooLarge {
            method: Method::RemainingFuelAsGen,
            field: "fuel",
            value: (1 << 53).into(),
            limit: MAX_FUEL_AS_GEN
        }
    );
    for id in [0, 10] {
        assert_eq!(
            answered(&all[id], &[0, 0xff, 0xff, 0xff, 0xff]),
            ProtocolError::TooLong {
                method: method_of(&all[id]),
                field: "length",
                length: u32::MAX.into(),
                limit: 64 << 20
            }
        );
    }
}

#[test]
fn more_than_an_answer_ends_the_connection() {
    for golden in both().iter().filter(|golden| method_of(golden).is_answered()) {
        let method = method_of(golden);
        let surplus = ProtocolError::Surplus { method, bytes: 2 };
        let length_is_the_hosts = matches!(
            method,
            Method::GetCalldata | Method::GetLeaderNondetResult | Method::EthCall | Method::ResolveCallcontractExecutor
        );
        let with_more = [&golden.answer[..], b"??"].concat();
        if length_is_the_hosts {
            assert_eq!(answered(golden, &with_more), surplus);
        } else {
            // Not a byte more than the answer is read, and what follows it is no answer to the next call.
            let stream = Script::new(&with_more);
            let mut client = HostClient::speaking(golden.protocol.clone(), stream.clone());
            call(&mut client, &golden.decoded).unwrap();
            assert_eq!(stream.unread(), 2, "{}", golden.name);
            let error = call(&mut client, &golden.decoded).unwrap_err();
            assert!(matches!(error, CallError::Protocol { .. }) && error.is_fatal(), "{}: {error}", golden.name);
        }
        // A refusal in place of something longer.
        if length_is_the_hosts
            || matches!(method, Method::StorageRead | Method::GetBalance | Method::RemainingFuelAsGen)
        {
            assert_eq!(answered(golden, b"\x02??"), surplus, "{}", golden.name);
        }
    }
}

/// Every length in every request: where it stands, and whose it is.
fn lengths() -> Vec<(usize, usize, &'static str)> {
    vec![
        (1, 58, "length"),
        (2, 37, "data"),
        (3, 1, "result"),
        (5, 5, "result"),
        (6, 21, "calldata"),
        (6, 27, "data"),
        (7, 66, "blob"),
        (9, 1, "calldata"),
        (9, 7, "code"),
        (9, 15, "data"),
        (10, 21, "calldata"),
        (11, 21, "calldata"),
        (11, 27, "data"),
    ]
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_follows() {
    let limits = Limits::DEFAULT.with_slice(1000);
    for (id, at, named) in lengths() {
        for announced in [1001, u32::MAX] {
            let mut bytes = golden()[id].request[..at].to_vec();
            bytes.extend_from_slice(&announced.to_le_bytes());
            assert_eq!(
                refused(&Protocol::ONE.with_limits(limits.clone()), &bytes),
                ProtocolError::TooLong {
                    method: Revision::One.method(id as u8).unwrap(),
                    field: named,
                    length: announced.into(),
                    limit: 1000
                }
            );
        }
    }
}

#[test]
fn an_access_beyond_the_slot_is_refused() {
    let beyond = |method| ProtocolError::BeyondSlot { method, index: u32::MAX, length: 2 };
    for golden in both().into_iter().filter(|golden| method_of(golden) == Method::StorageRead) {
        let mut read = golden.request;
        read[54..58].copy_from_slice(&u32::MAX.to_le_bytes());
        read[58..62].copy_from_slice(&2u32.to_le_bytes());
        assert_eq!(refused(&golden.protocol, &read), beyond(Method::StorageRead));
        read[58..62].copy_from_slice(&1u32.to_le_bytes());
        assert_eq!(served(&golden.protocol, &read).unwrap(), Served::Closed);
    }

    let mut write = golden()[2].request[..41].to_vec();
    write[33..37].copy_from_slice(&u32::MAX.to_le_bytes());
    write[37..41].copy_from_slice(&2u32.to_le_bytes());
    assert_eq!(refused(&Protocol::ONE, &write), beyond(Method::StorageWrite));
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    for id in [6, 9, 11] {
        let mut bytes = golden()[id].request.clone();
        *bytes.iter_mut().rfind(|byte| **byte == 0xa9).unwrap() = b'?'; // cuts the é short
        match refused(&Protocol::ONE, &bytes) {
            ProtocolError::NotUtf8 { method, field: "data", source } => {
                assert_eq!((method as usize, source.valid_up_to()), (id, 7));
            }
            other => panic!("{id}: {other}"),
        }
    }
}

#[test]
fn what_cannot_be_sent_is_refused_and_leaves_no_trace() {
    let stream = Script::default();
    let mut client = HostClient::speaking(Protocol::ONE.with_limits(Limits::DEFAULT.with_slice(10)), stream.clone());
    let errors = [
        client.storage_write(&SLOT, 0, &[0; 11]),
        client.storage_write(&SLOT, u32::MAX, &[0; 2]),
        client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, 0, &mut [0; 11]),
        client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, u32::MAX, &mut [0; 2]),
        client.consume_result(ResultCode::Return, &[0; 10]), // the result code is the eleventh
        client.post_event(&[[0; 32]; 256], b""),
        client.deploy_contract(b"", b"", "12345678901"),
    ];
    for error in errors.map(Result::unwrap_err) {
        assert!(matches!(error, CallError::Refused { .. }) && !error.is_fatal(), "{error}");
    }
    assert_eq!(stream.take_writes(), 0);
    stream.push(&[0]);
    client.storage_write(&SLOT, 0, &[0; 10]).unwrap();

    let stream = Script::default();
    let mut client = HostClient::speaking(Protocol::TWO.with_limits(Limits::DEFAULT.with_slice(10)), stream.clone());
    let errors = [
        client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, 0, &mut [0; 11]),
        client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, u32::MAX, &mut [0; 2]),
        client.consume_result(ResultCode::Return, &[0; 10]),
        client.eth_call(&ACCOUNT, &[0; 11]).map(drop),
        client.run_nested(&[0; 11]).map(drop),
    ];
    for error in errors.map(Result::unwrap_err) {
        assert!(matches!(error, CallError::Refused { .. }) && !error.is_fatal(), "{error}");
    }
    assert_eq!(stream.take_writes(), 0);
    stream.push(&[0; 4]);
    assert_eq!(client.run_nested(&[0; 10]).unwrap(), b"");
}

#[test]
fn answers_before_the_nonsense_are_given() {
    let mut stream = Script::new(b"\x0d\x0d\xff");
    let error = serve_blocking(&mut stream, &mut GoldenHost::default(), &Protocol::ONE).unwrap_err();
    assert!(matches!(error, ServeError::Protocol(ProtocolError::UnknownMethod { id: 0xff, .. })), "{error}");
    assert_eq!(stream.take_output().len(), 18);
}

#[test]
fn a_failing_handler_ends_the_connection_without_an_answer() {
    for golden in both() {
        for (refuse, failed) in
            [((|| HandlerError::failed("disk on fire")) as fn() -> HandlerError, true), (|| Status::Ok.into(), false)]
        {
            let mut stream = Script::new(&golden.request);
            let mut host = GoldenHost { refuse: Some(refuse), ..GoldenHost::default() };
            match serve_blocking(&mut stream, &mut host, &golden.protocol) {
                Err(ServeError::Handler { method, source }) if failed => {
                    assert_eq!((method, source.to_string().as_str()), (method_of(&golden), "disk on fire"));
                }
                Err(ServeError::Unanswerable { method, status: Status::Ok }) if !failed => {
                    assert_eq!(method, method_of(&golden));
                }
                other => panic!("{}: {other:?}", golden.name),
            }
            assert_eq!(stream.take_output(), b"");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_host_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), id in 0u8..14) {
        for protocol in [Protocol::ONE, Protocol::TWO, Protocol::TWO.with_hello(vec![id])] {
            let _ = served(&protocol, &bytes);
            let limits = Limits::DEFAULT.with_slice(100);
            let _ = served(&protocol.with_limits(limits), &[&[id], &bytes[..]].concat());
        }
    }

    #[test]
    fn no_bytes_make_the_client_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), id in 0usize..23) {
        for first in [None, Some(0)] {
            let answer: Vec<u8> = first.into_iter().chain(bytes.iter().copied()).collect();
            let golden = &both()[id];
            let _ = call(&mut HostClient::speaking(golden.protocol.clone(), Script::new(&answer)), &golden.decoded);
        }
    }
}
