//! Every message byte for byte, on both ends and both faces, whole and one byte at a time.

mod protocol_support;

use genvm_transport::protocol::*;
use protocol_support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn the_codec_knows_every_request() {
    for golden in both() {
        let mut bytes = vec![0xcc];
        golden.decoded.encode(golden.protocol.revision(), &Limits::DEFAULT, &mut bytes).unwrap();
        assert_eq!(bytes[1..], golden.request, "{}", golden.name);

        let consumed = golden.request.len();
        bytes.extend_from_slice(b"the next request");
        let decoded = decode(golden.protocol.revision(), &bytes[1..], &Limits::DEFAULT);
        assert_eq!(decoded, Ok(Decoded::Complete { request: golden.decoded, consumed }), "{}", golden.name);
        assert_eq!(golden.decoded.method().name(), golden.name);
    }
}

#[test]
fn the_client_writes_and_reads_them() {
    for chunk in [usize::MAX, 1, 3] {
        let stream = Script::default().at_most(chunk);
        let clients = [Protocol::ONE, Protocol::TWO].map(|protocol| HostClient::speaking(protocol, stream.clone()));
        let [mut one, mut two] = clients;
        for golden in both() {
            let client = if golden.protocol == Protocol::ONE { &mut one } else { &mut two };
            stream.push(&golden.answer);
            let answer = call(client, &golden.decoded).unwrap();
            assert_eq!(answer, expected(golden.decoded.method()), "{}", golden.name);
            assert_eq!(stream.take_output(), golden.request, "{}", golden.name);
            assert_eq!(stream.unread(), 0, "{}", golden.name);
        }
    }
}

#[test]
fn a_blocking_host_reads_and_writes_them() {
    for chunk in [usize::MAX, 1, 3] {
        for golden in both() {
            let mut host = GoldenHost::default();
            let mut stream = Script::new(&golden.request).at_most(chunk);
            let served = serve_blocking(&mut stream, &mut host, &golden.protocol).unwrap();
            assert_eq!(stream.take_output(), golden.answer, "{}", golden.name);
            assert_eq!(host.asked, [format!("{:?}", golden.decoded)]);
            let last = golden.decoded.method() == Method::ConsumeResult;
            assert_eq!(served, if last { Served::Finished } else { Served::Closed }, "{}", golden.name);
        }
    }
}

#[tokio::test]
async fn an_async_host_reads_and_writes_them() {
    for pipe in [1, 4096] {
        for golden in both() {
            let (mut genvm, mut stream) = tokio::io::duplex(pipe);
            let protocol = golden.protocol.clone();
            let node = tokio::spawn(async move {
                let mut host = GoldenHost::default();
                let served = serve(&mut stream, &mut host, &protocol).await.unwrap();
                (served, host.asked)
            });
            genvm.write_all(&golden.request).await.unwrap();
            let mut answer = vec![0; golden.answer.len()];
            genvm.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, golden.answer, "{}", golden.name);

            genvm.shutdown().await.unwrap();
            assert_eq!(genvm.read(&mut [0]).await.unwrap(), 0, "{}: nothing follows", golden.name);
            let (served, asked) = node.await.unwrap();
            assert_eq!(asked, [format!("{:?}", golden.decoded)]);
            let last = golden.decoded.method() == Method::ConsumeResult;
            assert_eq!(served, if last { Served::Finished } else { Served::Closed }, "{}", golden.name);
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_with_one_write() {
    let mut all = golden();
    let result = all.remove(3);
    all.push(result); // the host stops after it
    let requests: Vec<u8> = all.iter().flat_map(|golden| golden.request.clone()).collect();
    let answers: Vec<u8> = all.iter().flat_map(|golden| golden.answer.clone()).collect();
    let mut stream = Script::new(&requests);
    let served = serve_blocking(&mut stream, &mut GoldenHost::default(), &Protocol::ONE).unwrap();
    assert_eq!(served, Served::Finished);
    assert_eq!(stream.take_writes(), 1);
    assert_eq!(stream.take_output(), answers);
}

#[test]
fn a_refusal_is_one_byte_and_leaves_the_client_usable() {
    let refusals: [(Status, fn() -> HandlerError); 5] = [
        (Status::Absent, || Status::Absent.into()),
        (Status::Forbidden, || Status::Forbidden.into()),
        (Status::IAmLeader, || Status::IAmLeader.into()),
        (Status::OutOfStorageGas, || Status::OutOfStorageGas.into()),
        (Status::EvmReverted, || Status::EvmReverted.into()),
    ];
    for golden in both() {
        let method = golden.decoded.method();
        for (status, refuse) in refusals {
            let mut host = GoldenHost { refuse: Some(refuse), ..GoldenHost::default() };
            let mut stream = Script::new(&golden.request);
            let served = serve_blocking(&mut stream, &mut host, &golden.protocol);
            let byte = golden.protocol.revision().status_byte(status);
            let no_status = matches!(
                method,
                Method::ConsumeResult | Method::ConsumeFuel | Method::NotifyNondetDisagreement | Method::RunNested
            );
            if no_status || byte.is_none() {
                let error = served.unwrap_err();
                assert!(
                    matches!(error, ServeError::Unanswerable { method: of, status: said } if (of, said) == (method, status)),
                    "{error}"
                );
                continue;
            }
            assert_eq!(served.unwrap(), Served::Closed);
            let byte = byte.expect("it was sent");
            assert_eq!(stream.take_output(), [byte], "{}", golden.name);

            let stream = Script::new(&[byte]);
            let mut client = HostClient::speaking(golden.protocol.clone(), stream.clone());
            match (method, status, call(&mut client, &golden.decoded)) {
                (Method::GetLeaderNondetResult, Status::IAmLeader | Status::Absent, answer) => {
                    assert_eq!(answer.unwrap(), format!("{status:?}"));
                }
                (_, _, answer) => {
                    let error = answer.unwrap_err();
                    assert_eq!(error.status(), Some(status), "{error}");
                    assert!(!error.is_fatal());
                }
            }
            stream.push(&golden.answer);
            assert_eq!(call(&mut client, &golden.decoded).unwrap(), expected(method), "{}", golden.name);
        }
    }
}

#[test]
fn a_small_read_is_one_write_and_one_read_of_just_its_size() {
    let stream = Script::default();
    let mut client = HostClient::new(stream.clone());
    for length in [0, 1, 32, 4096] {
        // The byte after the answer belongs to somebody else.
        stream.push(&vec![0; 1 + length + 1]);
        client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, 0, &mut vec![1; length]).unwrap();
        assert_eq!(stream.take_reads(), [1 + length]);
        assert_eq!(stream.take_writes(), 1);
        assert_eq!(stream.take_output().len(), 62);
        assert_eq!(stream.unread(), 1);
        std::io::Read::read(&mut stream.clone(), &mut [0]).unwrap();
        stream.take_reads();
    }
}

#[test]
fn a_large_read_goes_straight_to_the_caller() {
    let stream = Script::new(&vec![0; 1 + 100_000]);
    let mut client = HostClient::new(stream.clone());
    client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, 0, &mut vec![1; 100_000]).unwrap();
    assert_eq!(stream.take_reads(), [1, 100_000]);
}

#[test]
fn fuel_is_reported_without_reading() {
    let stream = Script::default();
    let mut client = HostClient::new(stream.clone());
    client.consume_fuel(1_u64).unwrap();
    assert!(stream.take_reads().is_empty());
    assert_eq!(stream.take_output(), b"\x08\x01\0\0\0\0\0\0\0");
}

#[test]
fn large_answers_are_flushed_and_not_gathered() {
    let calldata = vec![5; 300_000];
    let environment = Environment { account: ACCOUNT, calldata: calldata.clone(), ..Environment::default() };
    let mut execution = HostState::new().begin(environment);
    // The read ends at the slot's last byte, and its last piece is a whole one.
    let read = Request::StorageRead {
        mode: StorageMode::Default,
        account: ACCOUNT,
        slot: SLOT,
        index: u32::MAX - 0x1_ffff,
        length: 0x2_0000,
    };
    let mut requests = Vec::new();
    for request in [Request::GetCalldata, read] {
        request.encode(Revision::One, &Limits::DEFAULT, &mut requests).unwrap();
    }
    let mut stream = Script::new(&requests);
    assert_eq!(serve_blocking(&mut stream, &mut execution, &Protocol::ONE).unwrap(), Served::Closed);
    let calldata_answer = [&[0], &300_000u32.to_le_bytes()[..], &calldata].concat();
    assert_eq!(stream.take_output(), [calldata_answer, vec![0; 1 + 0x2_0000]].concat());
}

#[test]
fn revision_2_goes_on_after_a_result() {
    let all = golden_two();
    let requests: Vec<u8> = all.iter().chain(&all).flat_map(|golden| golden.request.clone()).collect();
    let answers: Vec<u8> = all.iter().chain(&all).flat_map(|golden| golden.answer.clone()).collect();
    let mut stream = Script::new(&requests);
    let served = serve_blocking(&mut stream, &mut GoldenHost::default(), &Protocol::TWO).unwrap();
    assert_eq!(served, Served::Finished);
    assert_eq!((stream.take_writes(), stream.take_output()), (1, answers));
    // Without one, the client closed between two calls.
    let served = serve_blocking(&mut Script::new(&all[3].request), &mut GoldenHost::default(), &Protocol::TWO).unwrap();
    assert_eq!(served, Served::Closed);
}

#[test]
fn a_method_of_the_other_revision_is_refused_and_nothing_is_sent() {
    let only = |these: Vec<Golden>, those: Vec<Golden>| -> Vec<Golden> {
        let here = |golden: &Golden| those.iter().any(|other| other.decoded.method() == golden.decoded.method());
        these.into_iter().filter(|golden| !here(golden)).collect()
    };
    let (only_one, only_two) = (only(golden(), golden_two()), only(golden_two(), golden()));
    assert_eq!((only_one.len(), only_two.len()), (8, 3));
    for (protocol, golden) in [(Protocol::TWO, only_one), (Protocol::ONE, only_two)] {
        let revision = protocol.revision();
        let stream = Script::default();
        let mut client = HostClient::speaking(protocol, stream.clone());
        for golden in golden {
            let error = call(&mut client, &golden.decoded).unwrap_err();
            let source = ProtocolError::NotInRevision { method: golden.decoded.method(), revision };
            assert_eq!(error.to_string(), format!("not sent: {source}"));
            assert!(!error.is_fatal());
        }
        assert_eq!(stream.take_writes(), 0);
        stream.push(&[0; 33]);
        assert_eq!(client.get_balance(&ACCOUNT).unwrap(), U256::default());
    }
    // More fuel than revision 1 has a number for.
    let mut client = HostClient::new(Script::default());
    let error = client.consume_fuel(U256([0xff; 32])).unwrap_err();
    let said = format!("not sent: `consume_fuel`, gas: 0x{}, at most {} allowed", "ff".repeat(32), u64::MAX);
    assert_eq!((error.to_string(), error.is_fatal()), (said, false));
}

#[test]
fn hello_bytes_come_first_and_are_those_agreed_on() {
    let protocol = Protocol::TWO.with_hello(*b"hello");
    for chunk in [usize::MAX, 1, 3] {
        let stream = Script::default().at_most(chunk);
        let mut client = HostClient::speaking(protocol.clone(), stream.clone());
        client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, u32::MAX, &mut [0; 2]).unwrap_err(); // not sent
        client.consume_fuel(1_u64).unwrap();
        client.notify_nondet_disagreement(2).unwrap();
        let sent = stream.take_output();
        assert_eq!((&sent[..6], sent.len()), (&b"hello\x01"[..], 5 + 33 + 5));

        let mut host = GoldenHost::default();
        let served = serve_blocking(&mut Script::new(&sent).at_most(chunk), &mut host, &protocol).unwrap();
        assert_eq!((served, host.asked.len()), (Served::Closed, 2));
        for (matched, sent) in [(3, &b"help!!"[..]), (1, b"h"), (4, b"hell"), (0, b"\x01\x01"), (4, b"hellO")] {
            let mut host = GoldenHost::default();
            let error = serve_blocking(&mut Script::new(sent).at_most(chunk), &mut host, &protocol).unwrap_err();
            let told = matches!(error, ServeError::Protocol(ProtocolError::Hello { expected: 5, matched: of }) if of == matched);
            assert!(told && host.asked.is_empty(), "{sent:?}: {error}");
        }
        // Who says nothing at all has not begun.
        assert_eq!(serve_blocking(&mut Script::new(b""), &mut host, &protocol).unwrap(), Served::Closed);
    }
    // It need not wait for something to ask.
    let stream = Script::default();
    let mut client = HostClient::speaking(protocol.clone(), stream.clone());
    for hello in [&b"hello"[..], b""] {
        client.greet().unwrap();
        assert_eq!(stream.take_output(), hello);
    }
    client.consume_fuel(1_u64).unwrap();
    assert_eq!(stream.take_output().len(), 33);
    // A batch begins with it too, once.
    let stream = Script::default();
    let mut client = HostClient::speaking(protocol.clone(), stream.clone());
    for hello in [&b"hello"[..], b""] {
        let mut batch = client.batch_within(4096);
        batch.push(&Request::NotifyNondetDisagreement { call_no: 1 });
        assert!(batch.run().iter().all(Result::is_ok));
        assert_eq!(stream.take_output(), [hello, b"\x05\x01\0\0\0"].concat());
    }
    // Not if it calls nothing.
    let stream = Script::default();
    let mut client = HostClient::speaking(protocol, stream.clone());
    assert!(client.batch_within(4096).run().is_empty());
    assert_eq!(stream.take_output(), b"");
    client.greet().unwrap();
    assert_eq!(stream.take_output(), b"hello");
}

/// A stream whose peer is known to be gone: what it had written can still be read.
struct Left(Script);

impl std::io::Read for Left {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(out)
    }
}

impl std::io::Write for Left {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn what_is_not_answered_is_served_whoever_has_left() {
    let request = |golden: Golden| (!golden.decoded.method().is_answered()).then_some(golden.request);
    let requests: Vec<u8> = golden().into_iter().filter_map(request).flatten().collect();
    let mut host = GoldenHost::default();
    // One request a read, as over a ring.
    let mut stream = Left(Script::new(&requests.repeat(3)).at_most(requests.len()));
    assert_eq!(serve_blocking(&mut stream, &mut host, &Protocol::ONE).unwrap(), Served::Closed);
    assert!(host.asked.len() >= 3, "{:?}", host.asked);
}

#[tokio::test]
async fn an_async_host_expects_the_same_hello() {
    let protocol = Protocol::TWO.with_hello(*b"hello");
    for (sent, matched) in [(&b"hello\x04"[..], None), (b"", None), (b"hel", Some(3)), (b"help!!", Some(3))] {
        let mut answers = Vec::new();
        let mut stream = tokio::io::join(sent, &mut answers);
        match (serve(&mut stream, &mut GoldenHost::default(), &protocol).await, matched) {
            (Ok(Served::Closed), None) => assert_eq!(answers.len(), if sent.is_empty() { 0 } else { 33 }),
            (Err(ServeError::Protocol(ProtocolError::Hello { expected: 5, matched: of })), Some(matched)) => {
                assert_eq!((of, answers.len()), (matched, 0));
            }
            (other, _) => panic!("{sent:?}: {other:?}"),
        }
    }
}
