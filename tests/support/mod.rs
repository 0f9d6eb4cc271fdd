//! What several test programs need: a watchdog, fresh directories, and this program started again as another process.
#![allow(dead_code, reason = "each test program uses a part")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Ends the whole program with a message if the value is still alive after two minutes: a hang becomes a failure.
pub struct Watchdog(#[allow(dead_code, reason = "dropping it is the signal")] mpsc::Sender<()>);

pub fn watchdog(what: &'static str) -> Watchdog {
    let (alive, gone) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if gone.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("watchdog: {what} did not end");
            std::process::abort();
        }
    });
    Watchdog(alive)
}

/// A directory of its own for a socket, removed with the value.
pub fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("genvm-transport-").tempdir().expect("a temporary directory")
}

/// Starts this test program once more, to run the test `name` alone with `ROLE` set to `argument`. Without `ROLE` that test
/// has to return at once; with it, it plays the other process.
pub fn other_process(name: &str, argument: &str) -> Other {
    let mut command = Command::new(std::env::current_exe().expect("current_exe"));
    start(command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env("ROLE", argument))
}

/// Starts another program.
pub fn start(command: &mut Command) -> Other {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    Other { child, lines }
}

/// What `other_process` was given, if this is the other process.
pub fn role() -> Option<String> {
    std::env::var("ROLE").ok()
}

/// The other process. Killed with the value.
pub struct Other {
    pub child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Other {
    /// Waits for a line of its output that starts with `mark`, and returns the rest of it.
    pub fn wait_for(&mut self, mark: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                self.lines.read_line(&mut line).expect("its output") > 0,
                "the other process ended before `{mark}`"
            );
            // The test harness prints "test name ... " without a newline in front of our first line.
            if let Some(at) = line.find(mark) {
                return line[at + mark.len()..].trim().to_owned();
            }
        }
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells the parent something.
pub fn say(line: &str) {
    println!("{line}");
}

/// Open descriptors of this process, and its mappings of shared memory (others come and go with the allocator's arenas and the
/// stacks of threads).
#[cfg(target_os = "linux")]
pub fn descriptors_and_mappings() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("our mappings");
    (
        std::fs::read_dir("/proc/self/fd").expect("our descriptors").count(),
        maps.lines().filter(|line| line.contains("/memfd:") || line.contains("/dev/shm/")).count(),
    )
}

/// The kernel's number of this thread, for [`sleeps`].
#[cfg(target_os = "linux")]
pub fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Whether thread `tid` of this process sleeps.
#[cfg(target_os = "linux")]
pub fn sleeps(tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
}

/// Names in `/dev/shm` that this crate makes.
pub fn shm_names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/dev/shm") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("genvm-")).collect()
}
