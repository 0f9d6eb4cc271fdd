//! Every message byte for byte, on both ends and both faces, whole and one byte at a time.

mod protocol_support;

use genvm_transport::protocol::*;
use protocol_support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn the_codec_knows_every_request() {
    for golden in golden() {
        let mut bytes = vec![0xcc];
        golden.decoded.encode(Revision::One, &Limits::DEFAULT, &mut bytes).unwrap();
        assert_eq!(bytes[1..], golden.request, "{}", golden.name);

        let consumed = golden.request.len();
        bytes.extend_from_slice(b"the next request");
        let decoded = decode(Revision::One, &bytes[1..], &Limits::DEFAULT);
        assert_eq!(decoded, Ok(Decoded::Complete { request: golden.decoded, consumed }), "{}", golden.name);
        assert_eq!(golden.decoded.method().name(), golden.name);
    }
}

#[test]
fn the_client_writes_and_reads_them() {
    for chunk in [usize::MAX, 1, 3] {
        let stream = Script::default().at_most(chunk);
        let mut client = HostClient::new(stream.clone());
        for golden in golden() {
            stream.push(&golden.answer);
            let answer = call(&mut client, &golden.decoded).unwrap();
            assert_eq!(answer, expected(golden.decoded.method()), "{}", golden.name);
            assert_eq!(stream.take_output(), golden.request, "{}", golden.name);
            assert_eq!(stream.unread(), 0, "{}", golden.name);
        }
    }
}

#[test]
fn a_blocking_host_reads_and_writes_them() {
    for chunk in [usize::MAX, 1, 3] {
        for golden in golden() {
            let mut host = GoldenHost::default();
            let mut stream = Script::new(&golden.request).at_most(chunk);
            let served = serve_blocking(&mut stream, &mut host, &Limits::DEFAULT).unwrap();
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
        for golden in golden() {
            let (mut genvm, mut stream) = tokio::io::duplex(pipe);
            let node = tokio::spawn(async move {
                let mut host = GoldenHost::default();
                let served = serve(&mut stream, &mut host, &Limits::DEFAULT).await.unwrap();
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
    let served = serve_blocking(&mut stream, &mut GoldenHost::default(), &Limits::DEFAULT).unwrap();
    assert_eq!(served, Served::Finished);
    assert_eq!(stream.take_writes(), 1);
    assert_eq!(stream.take_output(), answers);
}

#[test]
fn a_refusal_is_one_byte_and_leaves_the_client_usable() {
    let refusals: [(Status, fn() -> HandlerError); 4] = [
        (Status::Absent, || Status::Absent.into()),
        (Status::Forbidden, || Status::Forbidden.into()),
        (Status::IAmLeader, || Status::IAmLeader.into()),
        (Status::OutOfStorageGas, || Status::OutOfStorageGas.into()),
    ];
    for golden in golden() {
        let method = golden.decoded.method();
        for (status, refuse) in refusals {
            let mut host = GoldenHost { refuse: Some(refuse), ..GoldenHost::default() };
            let mut stream = Script::new(&golden.request);
            let served = serve_blocking(&mut stream, &mut host, &Limits::DEFAULT);
            if matches!(method, Method::ConsumeResult | Method::ConsumeFuel) {
                let error = served.unwrap_err();
                assert!(
                    matches!(error, ServeError::Unanswerable { method: of, status: said } if (of, said) == (method, status)),
                    "{error}"
                );
                continue;
            }
            assert_eq!(served.unwrap(), Served::Closed);
            assert_eq!(stream.take_output(), [status as u8], "{}", golden.name);

            let stream = Script::new(&[status as u8]);
            let mut client = HostClient::new(stream.clone());
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
    client.consume_fuel(1).unwrap();
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
    assert_eq!(serve_blocking(&mut stream, &mut execution, &Limits::DEFAULT).unwrap(), Served::Closed);
    let calldata_answer = [&[0], &300_000u32.to_le_bytes()[..], &calldata].concat();
    assert_eq!(stream.take_output(), [calldata_answer, vec![0; 1 + 0x2_0000]].concat());
}
