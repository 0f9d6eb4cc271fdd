//! A peer that is killed between any two instructions of one call: the thread that makes it is traced, run step by step, and killed after
//! one of them. That reaches what no system call marks: in the middle of the copy, copied and not published, published and not rung.
//! Whatever was published reaches the survivor, whole, and nothing else does; then it has its end or error.
//!
//! How far the victim came is read from its segment as this process has it mapped, and from the results of its calls to the kernel. One
//! victim dies at the first instruction of each stage, and that is a short run. Then the stages are measured, which takes a victim that
//! lives on to the end of the call, and the next ones die after each instruction in turn, here and there so that few are spread over all.
//!
//! Measured: from the kill to the survivor's error. Seen: deaths in each stage, and instructions of the call, once known. The other threads
//! of a tokio end, which wait for sockets, run freely and die with it.
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use genvm_transport::{ListenOptions, Listener, WaitStrategy, listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::body::{End, Face, Pattern, runtime};
use crate::harness::{Random, alone, count, skipped};
use crate::hostile::{ARMED, BELL, LINE, RING};
use crate::killed::{MAX, P99};
use crate::support::{directory, other_process, say, thread_id};
use crate::tracer::{Step, Traced, mark, untraceable};
use crate::traffic::{accepted, connected, face_of, is_an_end, name_of, options, orders, tell};
use crate::{FACES, SCHEMES};

/// How far the victim's call had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Before,
    /// A part of the message is in the ring.
    Copying,
    /// All of it, but not the header that publishes it.
    Copied,
    /// Published, but the sleeping survivor is not rung.
    Published,
    /// Rung; over a socket, sent.
    Rung,
    /// The survivor has answered.
    Answered,
    /// Within the call to the kernel that waits for the survivor's bytes.
    Asleep,
}

use Stage::{Answered, Asleep, Before, Copied, Copying, Published, Rung};

/// The stages that a victim of that kind can die in.
fn stages(scheme: &str, client: bool) -> &'static [Stage] {
    match (scheme, client) {
        ("unix", true) => &[Before, Rung, Asleep, Answered],
        ("unix", false) => &[Before, Rung, Asleep],
        (_, true) => &[Before, Copying, Copied, Published, Rung, Asleep, Answered],
        (_, false) => &[Before, Copying, Copied, Published, Rung, Asleep],
    }
}

/// Longer than what a producer keeps to itself until it publishes, and one record.
const LEN: usize = 1000;
const LINES: usize = (8 + LEN).div_ceil(LINE);
const PATTERN: Pattern = Pattern(11);

/// The message before the traced call, and that of it: both go either way.
fn message(number: usize) -> Vec<u8> {
    PATTERN.bytes(number * LEN, LEN)
}

#[test]
fn killed_between_any_two_instructions() {
    let alone = alone();
    let kinds = SCHEMES.into_iter().flat_map(|scheme| [true, false].map(|client| (scheme, client)));
    for ((scheme, client), face) in kinds.flat_map(|kind| FACES.map(|face| (kind, face))) {
        let on = format!("{scheme},{},{}", if client { "client" } else { "host" }, name_of(face));
        if let Some(why) = untraceable() {
            skipped("instruction", &on, why);
            continue;
        }
        let directory = directory();
        let address = format!("{scheme}://{}/s", directory.path().display());
        let stages = stages(scheme, client);
        let (died, length, trial) = (RefCell::new(BTreeMap::new()), Cell::new(0), Cell::new(0));
        let seen = || list(&died.borrow(), length.get());
        alone.fault("instruction", on).allowing(P99, MAX).seeing(seen).run(
            count(stages.len(), 5000),
            || World::new(&address, client, face),
            |world, random| {
                let death = world.place_to_die(stages, trial.replace(trial.get() + 1), random);
                length.set(world.lengths.values().sum());
                let death = world.kill(Some(death));
                *died.borrow_mut().entry(death.stage).or_insert(0) += 1;
                Some(death.noticed)
            },
        );
        let died = died.into_inner();
        let all = trial.get() < stages.len() || stages.iter().all(|stage| died.contains_key(stage));
        assert!(all, "not every stage was died in: {died:?}");
    }
}

fn list(died: &BTreeMap<Stage, usize>, length: usize) -> String {
    let died = died.iter().map(|(stage, times)| format!("{stage:?}:{times}").to_lowercase());
    died.chain((length > 0).then(|| format!("instructions:{length}"))).collect::<Vec<_>>().join(",")
}

/// What victims of a kind have in common.
struct World {
    address: String,
    /// For clients to die at.
    listener: Option<Box<dyn Listener>>,
    face: Face,
    /// Instructions of each stage, once measured. It is the same program each time, but for addresses and the survivor's pace.
    lengths: BTreeMap<Stage, usize>,
    /// Which of them is the first to be died after.
    first: usize,
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Where a victim died.
struct Death {
    stage: Stage,
    lengths: BTreeMap<Stage, usize>,
    /// When the survivor had its error, since the kill.
    noticed: Duration,
}

impl World {
    fn new(address: &str, client: bool, face: Face) -> Self {
        let options = ListenOptions::default().with_wait(WaitStrategy::Park);
        let listener = client.then(|| listen(address, &options).expect("listen"));
        Self { address: address.into(), listener, face, lengths: BTreeMap::new(), first: 0 }
    }

    fn measure(&mut self) {
        let answered = self.kill(None).lengths;
        // A client that is not answered shows how long it goes on before it sleeps.
        let silent = if self.listener.is_some() { self.kill(Some((Asleep, 0))).lengths } else { BTreeMap::new() };
        self.lengths = answered.into_iter().chain(silent).collect();
    }

    /// The stage, and how many instructions into it.
    fn place_to_die(&mut self, stages: &[Stage], trial: usize, random: &mut Random) -> (Stage, usize) {
        if let Some(&stage) = stages.get(trial) {
            return (stage, 0);
        }
        if self.lengths.is_empty() {
            self.measure();
            self.first = random.next() as usize;
        }
        // A stride that has no divisor in common with the length comes to each instruction before it comes to one again.
        let length: usize = self.lengths.values().sum();
        let stride = (length * 34 / 55..).find(|&stride| gcd(stride, length) == 1).expect("a prime");
        let mut number = (self.first % length + trial * stride) % length;
        for (&stage, &length) in &self.lengths {
            match number.checked_sub(length) {
                None => return (stage, number),
                Some(rest) => number = rest,
            }
        }
        unreachable!("it is less than their sum")
    }

    /// A victim and its end, there or, without a `place`, after the call; and that the survivor is told, and no lie.
    fn kill(&self, place: Option<(Stage, usize)>) -> Death {
        loop {
            // Not where its message does not lie in one piece.
            if let Some(death) = self.try_to_kill(place) {
                return death;
            }
        }
    }

    fn try_to_kill(&self, place: Option<(Stage, usize)>) -> Option<Death> {
        let client = self.listener.is_some();
        let role = if client { "instruction" } else { "instruction-host" };
        let mut victim = other_process("victim", &format!("{role} {} {}", self.address, name_of(self.face)));
        let mut end = match &self.listener {
            Some(listener) => accepted(self.face, &**listener).expect("accept"),
            None => {
                victim.wait_for("listening");
                connected(self.face, &self.address, &options(Some(WaitStrategy::Park))).expect("connect")
            }
        };
        if client {
            end.read_exact(&mut [0; LEN]).expect("the first message");
        }
        end.write_all(&message(0)).and_then(|()| end.flush()).expect("sent");
        if !client {
            end.read_exact(&mut [0; LEN]).expect("the first message");
        }
        let ring = if self.address.starts_with("shm") { Some(Segments::find(&message(0))?) } else { None };

        // The answer, or the request, does not come before the victim has died if it is to die before or without it.
        let stage = place.map(|(stage, _)| stage);
        let silent = if client { stage.is_some_and(|stage| stage != Answered) } else { stage == Some(Asleep) };
        let answered = Arc::new(AtomicBool::new(false));
        let (go, told) = mpsc::channel();
        let says = answered.clone();
        let survivor = thread::spawn(move || survive(end, client, silent, &told, &says));
        let tid = victim.wait_for("ready ").parse().expect("a thread");
        let mut traced = Traced::new(victim, tid);
        tell(&mut traced.victim, "go");
        traced.wait_for_the_mark();
        go.send(()).expect("it survives");
        ring.iter().for_each(Segments::wait_for_sleeper);

        let mut call = Call { stage: Before, silent, lengths: BTreeMap::new(), ring, answered };
        let asleep = call.run(&traced, place);
        let killed = Instant::now();
        drop(traced);
        let survived = survivor.join().expect("the survivor read what was not written");
        let bytes = if call.is_published() { LEN } else { 0 };
        assert_eq!(survived.bytes, bytes, "killed when {:?}, asleep: {asleep}", call.stage);
        assert!(is_an_end(&survived.result), "{:?}", survived.result);
        let noticed = survived.at.saturating_duration_since(killed);
        Some(Death { stage: if asleep { Asleep } else { call.stage }, lengths: call.lengths, noticed })
    }
}

/// A call on its way.
struct Call {
    stage: Stage,
    /// The victim's peer says nothing: once the victim sleeps it sleeps for good.
    silent: bool,
    /// Instructions so far, of each stage.
    lengths: BTreeMap<Stage, usize>,
    /// Over shared memory: where its message comes.
    ring: Option<Segments>,
    answered: Arc<AtomicBool>,
}

impl Call {
    /// Runs to that place, or to the first after it; or to the end of the call. Says whether the victim sleeps there.
    fn run(&mut self, traced: &Traced, place: Option<(Stage, usize)>) -> bool {
        loop {
            let length = self.lengths.entry(self.stage).or_insert(0);
            if place.is_some_and(|(stage, number)| (self.stage, *length) >= (stage, number)) {
                return false;
            }
            match traced.step(self.silent) {
                Step::Done => *length += 1,
                Step::Asleep => return true,
                Step::EndOfCall => return false,
            }
            self.stage = self.stage_now(traced);
        }
    }

    fn stage_now(&self, traced: &Traced) -> Stage {
        let rang = |bytes: usize| traced.sent() == Some(bytes);
        match (self.stage, &self.ring) {
            (Before, None) if rang(LEN) => Rung,
            (Before | Copying | Copied, Some(ring)) => ring.stage(),
            (Published, _) if rang(1) => Rung,
            (Rung, _) if self.answered.load(Ordering::Relaxed) => Answered,
            (same, _) => same,
        }
    }

    fn is_published(&self) -> bool {
        self.stage >= Published
    }
}

/// How a survivor's part ended.
struct Survived {
    /// Of the second message.
    bytes: usize,
    result: io::Result<()>,
    at: Instant,
}

fn survive(mut end: End, host: bool, silent: bool, go: &mpsc::Receiver<()>, answered: &AtomicBool) -> Survived {
    let mut bytes = 0;
    let mut life = || {
        let message = message(1);
        if !host {
            go.recv().expect("the victim is traced");
            if !silent {
                end.write_all(&message)?;
                end.flush()?;
            }
        }
        while bytes < LEN {
            let mut out = [0; LEN];
            let n = end.read(&mut out)?;
            PATTERN.check(LEN + bytes, &out[..n]);
            if n == 0 {
                return Ok(());
            }
            bytes += n;
        }
        if host && !silent {
            end.write_all(&message)?;
            end.flush()?;
            answered.store(true, Ordering::Relaxed);
        }
        assert_eq!(end.read(&mut [0])?, 0, "more than was written");
        Ok(())
    };
    let result = life();
    Survived { bytes, result, at: Instant::now() }
}

/// Both segments of the one connection that this process has.
struct Segments {
    memory: File,
    ours: u64,
    /// Where the victim's next record comes.
    next: u64,
    /// What is there now, header and payload.
    before: Vec<u8>,
    message: Vec<u8>,
}

impl Segments {
    /// `None` if the victim's next record does not fit between the last one, which carried `last`, and the end of the ring.
    fn find(last: &[u8]) -> Option<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("our mappings");
        let segment = |access| {
            let line = maps.lines().find(|line| line.contains("/memfd:") && line.contains(access)).expect("a segment");
            let (start, end) = line.split(' ').next().expect("a range").split_once('-').expect("a range");
            [start, end].map(|address| u64::from_str_radix(address, 16).expect("an address"))
        };
        let ([ours, _], [theirs, end]) = (segment(" rw-s "), segment(" r--s "));
        let memory = File::open("/proc/self/mem").expect("our memory");
        let mut ring = vec![0; (end - theirs) as usize - RING];
        memory.read_exact_at(&mut ring, theirs + RING as u64).expect("mapped");
        let place = (0..ring.len() - LEN).step_by(LINE).find(|at| ring[at + 8..].starts_with(last))? + LINES * LINE;
        let before = ring.get(place..place + LINES * LINE)?[..8 + LEN].to_vec();
        Some(Self { memory, ours, next: theirs + (RING + place) as u64, before, message: message(1) })
    }

    fn wait_for_sleeper(&self) {
        let mut bell = [0; 8];
        while u64::from_ne_bytes(bell) & ARMED == 0 {
            thread::yield_now();
            self.memory.read_exact_at(&mut bell, self.ours + BELL as u64).expect("mapped");
        }
    }

    fn stage(&self) -> Stage {
        let mut now = [0; 8 + LEN];
        self.memory.read_exact_at(&mut now, self.next).expect("mapped");
        match &now {
            now if now[..8] != self.before[..8] => Published,
            now if now[8..] == self.message => Copied,
            now if now[8..] != self.before[8..] => Copying,
            _ => Before,
        }
    }
}

/// `ADDRESS FACE`
pub fn client(with: &str) {
    let (address, face) = with.split_once(' ').expect("an address and a face");
    let mut end = connected(face_of(face), address, &options(Some(WaitStrategy::Park))).expect("connect");
    call(&mut end, &message(0), || {}).expect("an answer");
    wait_for_the_tracer();
    call(&mut end, &message(1), mark).expect("an answer");
    thread::sleep(Duration::MAX);
}

/// `ADDRESS FACE`
pub fn host(with: &str) {
    let (address, face) = with.split_once(' ').expect("an address and a face");
    let listener = listen(address, &ListenOptions::default().with_wait(WaitStrategy::Park)).expect("listen");
    say("listening");
    let mut end = accepted(face_of(face), &*listener).expect("accept");
    echo(&mut end, || {}).expect("a request");
    wait_for_the_tracer();
    echo(&mut end, mark).expect("a request");
    thread::sleep(Duration::MAX);
}

fn wait_for_the_tracer() {
    say(&format!("ready {}", thread_id()));
    orders().next().expect("go");
}

/// A client's part, between two marks. A task's is one task, on the thread that waits for it.
fn call(end: &mut End, message: &[u8], mark: fn()) -> io::Result<()> {
    let mut answer = [0; LEN];
    match end {
        End::Blocking(stream) => {
            mark();
            stream.write_all(message)?;
            stream.flush()?;
            stream.read_exact(&mut answer)?;
        }
        End::Async(stream) => runtime().block_on(async {
            mark();
            stream.write_all(message).await?;
            stream.flush().await?;
            stream.read_exact(&mut answer).await.map(drop)
        })?,
    }
    mark();
    Ok(())
}

/// The same of a host.
fn echo(end: &mut End, mark: fn()) -> io::Result<()> {
    let mut message = [0; LEN];
    match end {
        End::Blocking(stream) => {
            mark();
            stream.read_exact(&mut message)?;
            stream.write_all(&message)?;
            stream.flush()?;
        }
        End::Async(stream) => runtime().block_on(async {
            mark();
            stream.read_exact(&mut message).await?;
            stream.write_all(&message).await?;
            stream.flush().await
        })?,
    }
    mark();
    Ok(())
}
