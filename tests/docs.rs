//! What README.md, the pages in `docs/` and the follow-up to ADR-003 point at is there: links, headings, scripts, programs and their
//! arguments; and the tables of the host protocol are those of the code. (Those of the upgrade and the segments are held against the code
//! in `src/shm/documented.rs`.)
#![cfg(feature = "uds")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use genvm_transport::protocol::{
    Account, Environment, Execution, HostClient, HostState, Limits, Protocol, Request, ResultCode, Revision, SlotId,
    StorageMode, serve_blocking,
};
use genvm_transport::storage::{CacheOptions, PageCache, PageSize, WriteMode};
use genvm_transport::{BlockingStream, ConnectError, ConnectOptions, ListenOptions, Listener, WaitStrategy};

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = prose(&page);
        for target in targets(&text) {
            links += 1;
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().expect("a directory").join(file) };
            assert!(file.exists(), "{} links to {target}, which is not there", page.display());
            assert!(
                heading.is_empty() || headings(&prose(&file)).contains(heading),
                "{} links to {target}, which has no such heading",
                page.display()
            );
        }
    }
    assert!(links >= 10, "only {links} links were found");
}

#[test]
fn commands_name_what_is_there() {
    let mut commands = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || "`(),;:".contains(c)).collect();
        for (number, word) in words.iter().enumerate() {
            if number > 0 && words[number - 1] == "--" {
                continue; // an argument of the program that cargo runs
            }
            let place = match *word {
                script if script.starts_with("ci/") && script.ends_with(".sh") => vec![script.to_owned()],
                "--example" => vec![format!("examples/{}.rs", words[number + 1])],
                "--test" => ["", "/main"].map(|tail| format!("tests/{}{tail}.rs", words[number + 1])).to_vec(),
                "--bench" => vec![format!("benches/{}.rs", words[number + 1])],
                _ => continue,
            };
            commands += 1;
            let there = place.iter().any(|place| root().join(place).exists());
            assert!(there, "{} names {place:?}, which is not there", page.display());
        }
    }
    assert!(commands >= 5, "only {commands} commands were found");
}

#[test]
fn every_check_is_told_of() {
    let checks = fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    let told = fs::read_to_string(root().join("CONTRIBUTING.md")).expect("CONTRIBUTING.md");
    let checks: Vec<&str> = checks.lines().filter_map(|line| line.strip_prefix("step ")).collect();
    assert!(checks.len() > 8, "{checks:?}");
    for check in checks {
        assert!(told.contains(&format!("`{check}`")), "CONTRIBUTING.md does not tell of `{check}`");
    }
}

/// With `--help` behind them, arguments are read and nothing is done.
#[cfg(feature = "lab")]
#[test]
fn the_lab_takes_the_arguments_that_the_pages_give_it() {
    let mut commands = 0;
    // What was recorded with `peers` names them, and a lab that is built without does not know them.
    let known = |page: &PathBuf| cfg!(feature = "peers") || !page.starts_with(root().join("results"));
    for page in pages().into_iter().filter(known) {
        let text = fs::read_to_string(&page).expect("a page");
        for (at, _) in text.match_indices("cargo lab ").chain(text.match_indices("cargo lab-peers ")) {
            // Up to the end of the code, which is a line or what stands between two backticks; a comment or a reason may follow.
            let command = text[at..].split(['\n', '`', '#', '(']).next().expect("a first part");
            let arguments: Vec<&str> = command.split_whitespace().skip(2).collect();
            commands += 1;
            let lab = std::process::Command::new(env!("CARGO_BIN_EXE_transport-lab"))
                .args(&arguments)
                .arg("--help")
                .output()
                .expect("transport-lab");
            let said = String::from_utf8_lossy(&lab.stderr);
            assert!(lab.status.success(), "{}: {command}\n{said}", page.display());
        }
    }
    assert!(commands >= 5, "only {commands} commands were found");
}

#[test]
fn methods_and_statuses_are_those_of_the_code() {
    let text = protocol_page();
    for (revision, heading) in [(Revision::One, "### Revision 1"), (Revision::Two, "### Revision 2")] {
        let section = text.split(heading).nth(1).expect("the revision's section");
        let section = section.split("\n### ").next().expect("its text");
        let rows: Vec<Vec<&str>> = section.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect();
        assert_eq!(rows.len(), revision.methods().len());
        for (row, method) in rows.iter().zip(revision.methods()) {
            assert_eq!(row[0], revision.id(*method).expect("of this revision").to_string());
            assert_eq!(row[1], format!("`{}`", method.name()));
            assert_eq!(row[3] != "*none*", method.is_answered(), "{row:?}");
        }
        let statuses = revision.statuses().iter().enumerate();
        let statuses: Vec<String> = statuses.map(|(byte, status)| format!("{byte} `{}`", status.name())).collect();
        assert!(section.contains(&format!("Status: {}.", statuses.join(", "))), "{section}");
    }
    let modes = [StorageMode::Default, StorageMode::LatestFinal, StorageMode::LatestNonFinal];
    let modes = modes.map(|mode| format!("{} `{}`", mode as u8, mode.name())).join(", ");
    assert!(text.contains(&format!("Mode, at both: {modes}.")));
    let limit = format!("at most {} MiB", Limits::DEFAULT.slice >> 20);
    assert!(text.contains(&limit), "{limit}");
}

#[test]
fn the_example_of_a_request_is_one() {
    let text = protocol_page();
    let block =
        text.split("is 62 bytes:\n\n```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let digits: Vec<char> = block.chars().filter(char::is_ascii_hexdigit).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex");
    let documented: Vec<u8> = digits.chunks(2).map(byte).collect();
    let request = Request::StorageRead {
        mode: StorageMode::Default,
        account: Account([1; 20]),
        slot: SlotId([2; 32]),
        index: 64,
        length: 32,
    };
    let mut bytes = Vec::new();
    request.encode(Revision::One, &Limits::DEFAULT, &mut bytes).expect("a request");
    assert_eq!(documented, bytes);
    assert_eq!(bytes.len(), 62);
}

/// The blocks of Rust in the pages stand below, line by line, and are run here.
#[test]
fn snippets_do_what_they_say() {
    let program = include_str!("docs.rs");
    let lines: BTreeSet<&str> = program.lines().map(code).collect();
    let mut blocks = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page").replace("\"unix:///run/host.sock\"", "address");
        for block in text.split("```rust").skip(1) {
            blocks += 1;
            for line in block.split("```").next().expect("a first part").lines().skip(1) {
                assert!(lines.contains(code(line)), "{}: `{line}` is in no test", page.display());
            }
        }
    }
    assert!(blocks >= 7, "only {blocks} blocks were found");

    let directory = tempfile::tempdir().expect("a directory");
    let address = format!("unix://{}/host.sock", directory.path().display());
    std::thread::spawn({
        let address = address.clone();
        move || host(&address)
    });
    let mut sock = when_it_listens(|| genvm(&address));
    // A balance: id, account, then status and 32 bytes.
    sock.write_all(&[12]).and_then(|()| sock.write_all(&[9; 20])).expect("written");
    let mut answer = [1; 33];
    sock.read_exact(&mut answer).expect("answered");
    assert_eq!(answer, [0; 33]);

    let address = format!("unix://{}/awake.sock", directory.path().display());
    std::thread::spawn({
        let address = address.clone();
        move || awake_host(&address)
    });
    let stream = when_it_listens(|| awake(&address));
    assert_eq!(cached(stream).expect("an execution"), 1);
}

/// Connects as soon as somebody listens.
fn when_it_listens<T>(connect: impl Fn() -> Result<T, ConnectError>) -> T {
    loop {
        match connect() {
            Ok(stream) => return stream,
            Err(ConnectError::Io { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A line without what is round it.
fn code(line: &str) -> &str {
    line.split("//").next().expect("a first part").trim()
}

trait Sock: std::io::Read + std::io::Write + Send + Sync {}
impl Sock for Box<dyn genvm_transport::BlockingStream> {}

fn genvm(address: &str) -> Result<Box<dyn Sock>, ConnectError> {
    let sock: Box<dyn Sock> = Box::new(genvm_transport::connect(address, &Default::default())?);
    Ok(sock)
}

struct MyHandler;

impl MyHandler {
    #[allow(clippy::new_ret_no_self, reason = "the page leaves it to the reader what it is")]
    fn new() -> Execution {
        HostState::new().begin(Environment::default())
    }
}

fn host(address: &str) -> Result<Infallible, Box<dyn Error + Send + Sync>> {
    let listener = genvm_transport::listen(address, &Default::default())?;
    serve(&*listener)
}

fn serve(listener: &dyn Listener) -> Result<Infallible, Box<dyn Error + Send + Sync>> {
    loop {
        let mut stream = match listener.accept() {
            Err(error) if !error.is_fatal() => continue,
            accepted => accepted?,
        };
        std::thread::spawn(move || serve_blocking(&mut stream, &mut MyHandler::new(), &Protocol::ONE));
    }
}

fn awake_host(address: &str) -> Result<Infallible, Box<dyn Error + Send + Sync>> {
    let options = ListenOptions::default().with_wait(WaitStrategy::ADAPTIVE);
    let listener = genvm_transport::listen(address, &options)?;
    serve(&*listener)
}

fn awake(address: &str) -> Result<Box<dyn BlockingStream>, ConnectError> {
    let options = ConnectOptions::default().with_wait(WaitStrategy::ADAPTIVE);
    let stream = genvm_transport::connect(address, &options)?;
    Ok(stream)
}

/// How many calls the cache has saved.
fn cached(stream: Box<dyn BlockingStream>) -> Result<u64, Box<dyn Error>> {
    let (contract, slot, mut value) = (Environment::default().account, SlotId([2; 32]), [1; 32]);
    let pages = CacheOptions::default().with_page_size(PageSize::new(256).expect("a power of two"));
    let mut storage = PageCache::new(HostClient::new(stream), contract, pages.with_writes(WriteMode::Deferred));
    storage.storage_read(StorageMode::Default, &contract, &slot, 0, &mut value)?;
    storage.storage_read(StorageMode::Default, &contract, &slot, 32, &mut value)?;
    storage.storage_write(&slot, 32, &value)?;
    storage.finish(ResultCode::Return, b"")?;
    assert_eq!(value, [0; 32]);
    Ok(storage.stats().calls_saved())
}

/// What the pages put into a `Cargo.toml` can be there.
#[test]
fn features_are_those_of_the_crate() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let mut named = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for line in text.lines().filter(|line| line.starts_with("genvm-transport = ")) {
            let quoted: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
            let (version, features) = quoted.split_first().expect("a version");
            assert!(env!("CARGO_PKG_VERSION").starts_with(version), "{}: {line}", page.display());
            for feature in features {
                named += 1;
                assert!(manifest.contains(&format!("\n{feature} = [")), "{}: {line}", page.display());
            }
        }
    }
    assert!(named >= 2, "only {named} features were found");
}

fn protocol_page() -> String {
    fs::read_to_string(root().join("docs/protocol.md")).expect("docs/protocol.md")
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// The pages at the root, in `docs/` and of the other parts of the repository.
fn pages() -> Vec<PathBuf> {
    let directories = ["", "docs", "docs/monitoring", "benches", "results", "examples/python-host"];
    let entries =
        directories.into_iter().flat_map(|directory| fs::read_dir(root().join(directory)).expect("a directory"));
    let files = entries.map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "md")).collect();
    pages.sort();
    assert!(pages.len() >= 5, "{pages:?}");
    pages
}

/// A page without its blocks of code.
fn prose(page: &Path) -> String {
    if page.extension().is_none_or(|extension| extension != "md") {
        return String::new();
    }
    let text = fs::read_to_string(page).expect("a page");
    text.split("```").step_by(2).collect()
}

/// What the links of a page lead to.
fn targets(text: &str) -> Vec<String> {
    let links = text.split("](").skip(1);
    links.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The headings of a page, as links name them.
fn headings(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let named = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = named.map(|name| name.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).collect::<String>());
    let anchors =
        text.split("<a id=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned());
    kept.map(|name| name.replace(' ', "-")).chain(anchors).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
