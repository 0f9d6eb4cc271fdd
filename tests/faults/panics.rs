//! Handlers that panic, fail or are slow: their connection ends with an error, the listener and the other connections do not
//! notice.
//!
//! Measured: from the call to its error; the slow ones take their own time on top.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use genvm_transport::protocol::{HandlerError, HostClient, Protocol, serve, serve_blocking};
use genvm_transport::{AcceptError, ListenOptions, Listener, listen};

use crate::body::{End, Face, runtime};
use crate::harness::{alone, count};
use crate::protocol_support::GoldenHost;
use crate::support::directory;
use crate::traffic::{accepted, connected, name_of, options};
use crate::{FACES, SCHEMES};

/// What the handlers do, in turn, to all clients but the first.
const WHIMS: [fn() -> HandlerError; 3] = [
    || resume_unwind(Box::new("a handler's panic")), // as `panic!`, but nothing is printed
    || HandlerError::failed("a handler's failure"),
    || {
        thread::sleep(Duration::from_millis(3));
        resume_unwind(Box::new("a slow handler's panic"))
    },
];

struct World {
    listener: Arc<dyn Listener>,
    acceptor: Option<thread::JoinHandle<()>>,
    bystander: Option<HostClient<End>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.bystander = None;
        self.listener.close();
        let _ = self.acceptor.take().map(thread::JoinHandle::join);
    }
}

#[test]
fn handlers_that_panic() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let setup = || {
                let listener: Arc<dyn Listener> =
                    Arc::from(listen(&address, &ListenOptions::default()).expect("listen"));
                let accepting = listener.clone();
                let acceptor = thread::spawn(move || accept_all(&*accepting, face));
                let mut bystander = HostClient::new(connected(face, &address, &options(None)).expect("connect"));
                assert_eq!(bystander.get_calldata().expect("the first is served"), b"abc");
                World { listener, acceptor: Some(acceptor), bystander: Some(bystander) }
            };
            alone.fault("handler", format!("{scheme},host,{}", name_of(face))).run(
                count(60, 2_500),
                setup,
                |world, random| {
                    let end = connected(random.pick(&FACES), &address, &options(None)).expect("it accepts");
                    let mut client = HostClient::new(end);
                    let begun = Instant::now();
                    client.get_calldata().expect_err("its handler is of no use");
                    let took = begun.elapsed();
                    let bystander = world.bystander.as_mut().expect("until the end");
                    assert_eq!(bystander.get_calldata().expect("others are served"), b"abc");
                    Some(took)
                },
            );
        }
    }
}

fn accept_all(listener: &dyn Listener, face: Face) {
    let (mut serving, mut tasks) = (Vec::new(), Vec::new());
    for number in 0.. {
        let mut handler =
            GoldenHost { refuse: (number > 0).then(|| WHIMS[number % WHIMS.len()]), ..Default::default() };
        match accepted(face, listener) {
            Ok(End::Blocking(mut stream)) => serving.push(thread::spawn(move || {
                let _ = serve_blocking(&mut stream, &mut handler, &Protocol::ONE);
            })),
            Ok(End::Async(mut stream)) => tasks.push(runtime().spawn(async move {
                let _ = serve(&mut stream, &mut handler, &Protocol::ONE).await;
            })),
            Err(AcceptError::Closed) => break,
            Err(error) => panic!("accept: {error}"),
        }
        serving.retain(|thread| !thread.is_finished());
        tasks.retain(|task| !task.is_finished());
    }
    // All clients are gone by now. Those whose handler panicked are errors here.
    serving.into_iter().for_each(|thread| drop(thread.join()));
    tasks.into_iter().for_each(|task| drop(runtime().block_on(task)));
}
