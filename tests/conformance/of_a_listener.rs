//! Checks of a listener, which always has both faces.

use super::*;

pub fn many_connections_and_both_faces(subject: &Subject, _: [Face; 0]) {
    let pattern = Pattern::seeded();
    let (connect, listen) = patient();
    let listener = subject.listen(&listen);
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for face in [Face::Blocking, Face::Async].repeat(ACCEPTERS) {
            let (listener, served) = (&listener, &served);
            scope.spawn(move || {
                while let Some(mut end) = accepted(face, &**listener) {
                    served.fetch_add(1, Ordering::SeqCst);
                    end.echo();
                }
            });
        }
        thread::scope(|scope| {
            for face in [Face::Blocking, Face::Async].repeat(CLIENTS) {
                let (listener, connect) = (&listener, &connect);
                scope.spawn(move || {
                    for _ in 0..CONNECTIONS {
                        let mut end = subject.connect(face, listener.address(), connect);
                        end.read_exact(&mut [0]).expect("read");
                        end.send(&pattern, 0, 2000, 700);
                        end.receive(&pattern, 0, 2000, 2000);
                    }
                });
            }
        });
        listener.close();
    });
    assert_eq!(served.into_inner(), 2 * CLIENTS * CONNECTIONS);
}

/// `None` once the listener is closed.
fn accepted(face: Face, listener: &dyn Listener) -> Option<End> {
    let accepted = match face {
        Face::Blocking => listener.accept().map(End::Blocking),
        Face::Async => runtime().block_on(listener.accept_async()).map(End::Async),
    };
    match accepted {
        Ok(end) => Some(end),
        Err(AcceptError::Closed) => None,
        Err(error) => panic!("accept: {error}"),
    }
}

pub fn close_wakes_everybody_who_accepts(subject: &Subject, _: [Face; 0]) {
    let (_, listen) = patient();
    for round in 0..20 {
        let listener = subject.listen(&listen);
        thread::scope(|scope| {
            let (about_to_accept, accepts) = mpsc::channel();
            for face in [Face::Blocking, Face::Async].repeat(2) {
                let (listener, about_to_accept) = (&listener, about_to_accept.clone());
                scope.spawn(move || {
                    about_to_accept.send(()).expect("somebody waits");
                    assert!(accepted(face, &**listener).is_none());
                });
            }
            for _ in 0..4 {
                accepts.recv().expect("four of them");
            }
            // Nothing tells that they wait; some rounds find them waiting, some on their way.
            thread::sleep(Duration::from_micros(100 * round));
            listener.close();
        });
        for face in [Face::Blocking, Face::Async] {
            assert!(accepted(face, &*listener).is_none(), "closed for good");
        }
        listener.close(); // once more is no harm
    }
}

pub fn a_dropped_accept_loses_no_connection(subject: &Subject, _: [Face; 0]) {
    let (connect, listen) = patient();
    let listener = subject.listen(&listen);
    thread::scope(|scope| {
        scope.spawn(|| {
            for face in [Face::Blocking, Face::Async].repeat(10) {
                let mut end = subject.connect(face, listener.address(), &connect);
                end.read_exact(&mut [0]).expect("read");
            }
        });
        for _ in 0..20 {
            let end = runtime().block_on(async {
                loop {
                    tokio::select! {
                        biased;
                        end = listener.accept_async() => return end.expect("accept"),
                        () = std::future::ready(()) => tokio::task::yield_now().await,
                    }
                }
            });
            End::Async(end).echo();
        }
    });
}

const ACCEPTERS: usize = 4;
const CLIENTS: usize = 4;
const CONNECTIONS: usize = 10;
