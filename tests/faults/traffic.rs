//! What ends do to each other until one of them ends: the same code in this process and in the other, so that either can be
//! the one who is hurt. Every byte of every stream says where it belongs.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use genvm_transport::{
    AcceptError, ConnectError, ConnectOptions, ListenOptions, Listener, WaitStrategy, connect, connect_async, listen,
};

use crate::body::{End, Face, Pattern, Sizes, runtime};
use crate::harness::{Random, amount};
use crate::support::{Other, say};

/// What a client and its host do; the client's first byte says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Calls, one after the other.
    Call = b'c' as isize,
    /// The client writes, the host reads.
    Up = b'u' as isize,
    /// The client writes, the host reads nothing.
    UpDeaf = b'U' as isize,
    /// The host writes, the client reads.
    Down = b'd' as isize,
    /// The host writes, the client reads nothing.
    DownDeaf = b'D' as isize,
    /// Both wait for something to read.
    Idle = b'i' as isize,
    /// One call, and then an end in peace.
    Good = b'g' as isize,
    /// Calls at any pace: either end pauses at random.
    Paced = b'p' as isize,
    /// Both write as much as fits and read when nothing fits: `exchange`.
    Both = b'b' as isize,
}

const KINDS: [Kind; 9] =
    [Kind::Call, Kind::Up, Kind::UpDeaf, Kind::Down, Kind::DownDeaf, Kind::Idle, Kind::Good, Kind::Paced, Kind::Both];

impl Kind {
    fn of(byte: u8) -> Self {
        *KINDS.iter().find(|kind| **kind as u8 == byte).unwrap_or_else(|| panic!("no kind {byte:#04x}"))
    }
}

/// Bytes of a call, and of its answer.
pub const CALL: usize = 62;

/// Time for a machine that is busy with other things.
pub fn options(wait: Option<WaitStrategy>) -> ConnectOptions {
    let mut options = ConnectOptions::default();
    options.timeout = Duration::from_secs(50);
    options.handshake_timeout = Duration::from_secs(50);
    options.stream.wait = wait;
    options.upgrades = false; // what says unix is a socket
    options
}

pub fn connected(face: Face, address: &str, options: &ConnectOptions) -> Result<End, ConnectError> {
    let end = match face {
        Face::Blocking => End::Blocking(connect(address, options)?),
        Face::Async => End::Async(runtime().block_on(connect_async(address, options))?),
    };
    assert!(address.starts_with(&format!("{}://", end.kind())), "{:?} at {address}", end.kind());
    Ok(end)
}

pub fn accepted(face: Face, listener: &dyn Listener) -> Result<End, AcceptError> {
    Ok(match face {
        Face::Blocking => End::Blocking(listener.accept()?),
        Face::Async => End::Async(runtime().block_on(listener.accept_async())?),
    })
}

/// Tells the host what this client is about.
pub fn hello(end: &mut End, kind: Kind, pattern: Pattern) -> io::Result<()> {
    let mut hello = [kind as u8; 9];
    hello[1..].copy_from_slice(&pattern.0.to_le_bytes());
    end.write_all(&hello)?;
    end.flush()
}

/// The client's part after its [`hello`], until something ends it. Counts in `bytes` what it read.
pub fn visit(end: &mut End, kind: Kind, pattern: Pattern, bytes: &mut usize, ledger: Option<&File>) -> io::Result<()> {
    match kind {
        Kind::Call => loop {
            call(end, pattern, bytes)?;
        },
        Kind::Good => call(end, pattern, bytes),
        Kind::Paced => loop {
            call(end, pattern, bytes)?;
        },
        Kind::Both => exchange(end, pattern, pattern.reverse(), bytes),
        Kind::Up | Kind::UpDeaf => pour(end, pattern, ledger),
        Kind::Down => drain(end, pattern.reverse(), bytes),
        Kind::DownDeaf => park(),
        Kind::Idle => drain(end, pattern, bytes),
    }
}

/// The host's part.
pub fn serve(end: &mut End, kind: Kind, pattern: Pattern, bytes: &mut usize) -> io::Result<()> {
    match kind {
        Kind::Call | Kind::Good => echo(end, pattern, bytes, || {}),
        Kind::Paced => {
            let mut random = Random(pattern.0);
            echo(end, pattern, bytes, || random.any_pace())
        }
        Kind::Both => {
            exchange(end, pattern.reverse(), pattern, bytes)?;
            drain(end, pattern, &mut 0) // the client closes
        }
        Kind::Up | Kind::Idle => drain(end, pattern, bytes),
        Kind::UpDeaf => park(),
        Kind::Down | Kind::DownDeaf => pour(end, pattern.reverse(), None),
    }
}

/// One call: the pattern's next bytes there and back.
pub fn call(end: &mut End, pattern: Pattern, bytes: &mut usize) -> io::Result<()> {
    end.write_all(&pattern.bytes(*bytes, CALL))?;
    let mut answer = [0; CALL];
    end.read_exact(&mut answer)?; // publishes; there is no flush
    pattern.check(*bytes, &answer);
    *bytes += CALL;
    Ok(())
}

/// Sends back what comes, each time after a `pause`, until the end.
fn echo(end: &mut End, pattern: Pattern, bytes: &mut usize, mut pause: impl FnMut()) -> io::Result<()> {
    let mut buffer = vec![0; 10_000];
    loop {
        let n = end.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        pattern.check(*bytes, &buffer[..n]);
        *bytes += n;
        pause();
        end.write_all(&buffer[..n])?;
        end.flush()?;
    }
}

/// Reads and checks what comes, until the end.
fn drain(end: &mut End, pattern: Pattern, bytes: &mut usize) -> io::Result<()> {
    let mut buffer = vec![0; 10_000];
    loop {
        let n = end.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        pattern.check(*bytes, &buffer[..n]);
        *bytes += n;
    }
}

/// Writes and reads [`pieces`] so that neither waits for the other for ever: whatever does not go on within a moment makes way,
/// which an async end does by dropping a future. Small pieces, down to a byte, among large ones; a slow reader now and then.
fn exchange(end: &mut End, ours: Pattern, theirs: Pattern, bytes: &mut usize) -> io::Result<()> {
    let (to_write, to_read) = (pieces(ours).sum::<usize>(), pieces(theirs).sum::<usize>());
    let (mut sizes, mut random) = (pieces(ours), Random(ours.0));
    let (mut written, mut buffer) = (0, vec![0; 3000]);
    let mut piece = Vec::new();
    while written < to_write || *bytes < to_read {
        if written < to_write {
            if piece.is_empty() {
                piece = ours.bytes(written, sizes.next().expect("as many as were counted"));
            }
            match end.write_within(Duration::from_micros(1 + random.below(200)), &piece) {
                Ok(n) => {
                    piece.drain(..n);
                    written += n;
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => return Err(error),
            }
            if written == to_write {
                end.flush()?;
            }
        }
        if *bytes < to_read {
            let most = random.pick(&[1, 7, 300, 3000]);
            match end.read_within(Duration::from_micros(1 + random.below(200)), &mut buffer[..most]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    theirs.check(*bytes, &buffer[..n]);
                    *bytes += n;
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => return Err(error),
            }
        }
        if random.below(64) == 0 {
            random.pause(Duration::from_micros(300));
        }
    }
    Ok(())
}

/// The sizes of what goes one way in an [`exchange`].
pub fn pieces(pattern: Pattern) -> impl Iterator<Item = usize> {
    let mut sizes = Sizes::new(pattern.0);
    (0..amount(300, 10_000)).map(move |number| sizes.next(if number % 8 == 0 { 3000 } else { 100 }))
}

/// Writes without end, and enters in the ledger how much of it the peer has to get whatever happens next.
fn pour(end: &mut End, pattern: Pattern, ledger: Option<&File>) -> io::Result<()> {
    let (mut at, mut sizes) = (0, Sizes::new(pattern.0));
    loop {
        let piece = pattern.bytes(at, sizes.next(3000));
        end.write_all(&piece)?;
        end.flush()?;
        at += piece.len();
        if let Some(ledger) = ledger {
            ledger.write_all_at(&(at as u64).to_le_bytes(), 0)?;
        }
    }
}

/// Tells the other process a line.
pub fn tell(other: &mut Other, line: &str) {
    let stdin = other.child.stdin.as_mut().expect("piped");
    stdin.write_all(line.as_bytes()).and_then(|()| stdin.write_all(b"\n")).expect("it listens");
}

/// What the parent says, line by line; ends with the parent.
pub fn orders() -> impl Iterator<Item = String> {
    io::stdin().lines().map_while(Result::ok)
}

fn park() -> ! {
    loop {
        thread::park();
    }
}

/// A ledger that nobody wrote in says 0.
pub fn entered(ledger: &Path) -> usize {
    let mut bytes = [0; 8];
    match File::open(ledger).and_then(|file| file.read_exact_at(&mut bytes, 0)) {
        Ok(()) => u64::from_le_bytes(bytes) as usize,
        Err(_) => 0,
    }
}

/// Whether a stream may end like this when its peer is gone.
pub fn is_an_end(end: &io::Result<()>) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match end {
        Ok(()) => true,
        Err(error) => matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof),
    }
}

/// The words of a role: `ADDRESS FACE KIND SEED WAIT LEDGER`. Calls `before_work` once it is connected.
pub fn visitor(with: &str, before_work: impl FnOnce(&End)) {
    let words: Vec<&str> = with.split(' ').collect();
    let &[address, face, kind, seed, wait, ledger] = &words[..] else { panic!("role: {with}") };
    let (kind, pattern) = (Kind::of(kind.as_bytes()[0]), Pattern(seed.parse().expect("a seed")));
    let ledger = File::create(ledger).expect("the ledger");
    let options = options(Some(WAITS[wait.parse::<usize>().expect("a strategy")]));
    say("ready");
    let mut end = connected(face_of(face), address, &options).expect("connect");
    hello(&mut end, kind, pattern).expect("hello");
    before_work(&end);
    say("connected");
    visit(&mut end, kind, pattern, &mut 0, Some(&ledger)).expect("it was to be killed before");
}

/// `ADDRESS FACE`. Ends by being killed.
pub fn host(with: &str) {
    let (address, face) = with.split_once(' ').expect("an address and a face");
    let host = Host::start(address, face_of(face));
    say("listening");
    host.serve_for_ever();
}

pub fn name_of(face: Face) -> &'static str {
    match face {
        Face::Blocking => "blocking",
        Face::Async => "async",
    }
}

pub fn face_of(name: &str) -> Face {
    if name == "async" { Face::Async } else { Face::Blocking }
}

pub const WAITS: [WaitStrategy; 3] = [WaitStrategy::Park, WaitStrategy::ADAPTIVE, WaitStrategy::Spin];

/// A host that serves each client in a thread of its own and tells how it ended.
pub struct Host {
    listener: Arc<dyn Listener>,
    events: mpsc::Receiver<Event>,
    acceptor: Option<thread::JoinHandle<()>>,
}

enum Event {
    Accepted,
    Ended(Ended),
}

/// How a connection ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` if the client did not come to say what it wanted.
    pub kind: Option<Kind>,
    pub at: Instant,
    pub bytes: usize,
    pub end: io::Result<()>,
    /// It read what nobody wrote.
    pub panicked: bool,
}

impl Host {
    pub fn start(address: &str, face: Face) -> Self {
        let mut options = ListenOptions::default();
        options.handshake_timeout = Duration::from_secs(50);
        Self::on(listen(address, &options).expect("listen"), face)
    }

    pub fn on(listener: Box<dyn Listener>, face: Face) -> Self {
        let listener: Arc<dyn Listener> = Arc::from(listener);
        let (tell, events) = mpsc::channel();
        let accepting = listener.clone();
        let acceptor = thread::spawn(move || {
            let mut serving = Vec::new();
            loop {
                match accepted(face, &*accepting) {
                    Ok(end) => {
                        let _ = tell.send(Event::Accepted);
                        let tell = tell.clone();
                        serving.push(thread::spawn(move || drop(tell.send(Event::Ended(whole_life(end))))));
                        serving.retain(|thread| !thread.is_finished());
                    }
                    Err(AcceptError::Closed) => break,
                    Err(error) => panic!("accept: {error}"),
                }
            }
            serving.into_iter().for_each(|thread| thread.join().expect("it catches its panics"));
        });
        Self { listener, events, acceptor: Some(acceptor) }
    }

    pub fn wait_for_a_client(&self) {
        while !matches!(self.events.recv().expect("the acceptor lives"), Event::Accepted) {}
    }

    pub fn serve_for_ever(&self) -> ! {
        loop {
            let _ = self.events.recv().expect("the acceptor lives");
        }
    }

    /// A client that behaves is served. By then every client that came before it was accepted; waits until all of those have
    /// ended, too, and tells how.
    pub fn settle(&self, face: Face) -> Vec<Ended> {
        good_client(face, &self.listener.address().to_string());
        let (mut open, mut good, mut all) = (0, 0, Vec::new());
        while good == 0 || open > 0 {
            match self.events.recv().expect("the acceptor lives") {
                Event::Accepted => open += 1,
                Event::Ended(ended) => {
                    open -= 1;
                    good += usize::from(ended.kind == Some(Kind::Good));
                    all.push(ended);
                }
            }
        }
        all.retain(|ended| ended.kind != Some(Kind::Good));
        all
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.listener.close();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Connects, has a call answered, and goes.
pub fn good_client(face: Face, address: &str) {
    let mut end = connected(face, address, &options(None)).expect("a good client connects");
    good_call(&mut end).expect("a good client is served");
}

/// The hello and the call of a client that behaves.
pub fn good_call(end: &mut End) -> io::Result<()> {
    hello(end, Kind::Good, GOOD)?;
    call(end, GOOD, &mut 0)
}

const GOOD: Pattern = Pattern(42);

fn whole_life(mut end: End) -> Ended {
    let (mut kind, mut bytes) = (None, 0);
    let mut hello = [0; 9];
    let served = catch_unwind(AssertUnwindSafe(|| {
        end.read_exact(&mut hello)?;
        let asked = Kind::of(hello[0]);
        kind = Some(asked);
        serve(&mut end, asked, Pattern(u64::from_le_bytes(hello[1..].try_into().expect("eight"))), &mut bytes)
    }));
    let at = Instant::now();
    let panicked = served.is_err();
    Ended { kind, at, bytes, end: served.unwrap_or(Ok(())), panicked }
}
