//! `lab record`: runs what `results/` needs, one command after another, and keeps what each printed and wrote in a new directory.
//!
//! It measures nothing itself and changes no number: every file is the output of the command that `commands.txt` names beside it, or
//! made of those by `report`.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::machine::{Machine, output, processor};
use super::process::Ticks;
use super::report::{self, Played};
use super::show::say;
use super::trace::Trace;

/// Half an hour on a machine that does nothing else, up to an hour and a half where parts are repeated. A part is run again, twice at
/// most, if the hypervisor gave more than a tenth of its time to somebody else; the try that lost least is kept, and commands.txt says
/// what the others lost.
#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// A directory to be made; nothing is ever overwritten [default: results/DATE-MACHINE]
    directory: Option<PathBuf>,
    /// Only these parts
    #[arg(long, value_delimiter = ',', value_parser = part)]
    only: Vec<&'static Part>,
    /// Show the parts and their commands, run nothing
    #[arg(long)]
    list: bool,
}

/// A question, and the arguments of the command that answers it.
#[derive(Debug, PartialEq)]
struct Part {
    name: &'static str,
    question: &'static str,
    arguments: &'static str,
}

/// Every recorded trace that is built in.
macro_rules! all_traces {
    () => {
        "trace:dynarray_read,trace:erc20,trace:escrow_evm,trace:football_bets,trace:intelligent_oracle,trace:llm_erc20,\
         trace:multi_tenant,trace:prediction_market,trace:prediction_market_validator,trace:storage,trace:treemap_1k,\
         trace:upgradable_storage,trace:user_storage,trace:wizard_of_coin,trace:wizard_of_coin_validator"
    };
}

const PARTS: &[Part] = &[
    Part { name: "compare", question: "the table of the README", arguments: "compare" },
    Part {
        name: "hot",
        question: "a hot call against the floor",
        arguments: "compare --time 30 --rounds 10 --workloads ping:32,read:32,write:32 --placements split --transports shm \
                    --waits adaptive,spin",
    },
    Part {
        name: TAILS,
        question: "the whole distribution of the calls that matter most",
        arguments: "compare --time 60 --rounds 10 --workloads read:32,write:32 --placements split",
    },
    Part {
        name: "sizes",
        question: "values of one byte to 64 KiB",
        arguments: "compare --time 120 --rounds 5 --workloads read:1,read:32,read:256,read:1024,read:4096,read:16384,read:65536 \
                    --placements split",
    },
    Part {
        name: "think",
        question: "the time between calls",
        arguments: "compare --time 90 --rounds 5 --workloads read:32 --placements split --think 0,10,30,50,100,300,1000",
    },
    Part { name: "walk", question: "the least that any ring can take", arguments: "study walk --rounds 300" },
    Part {
        name: "alternatives",
        question: "what ADR-003 names beside the socket, and GenVM's present client",
        arguments: "compare --time 120 --rounds 5 --workloads read:32,write:32,read:4096,trace:erc20,trace:storage,trace:llm_erc20 \
                    --placements split --transports uds,genvm,tcp,http-uds,http-tcp,shm --waits park,adaptive",
    },
    Part {
        name: "cache",
        question: "fewer calls against cheaper ones: whole executions with a cache of storage pages",
        arguments: "compare --time 60 --rounds 5 --workloads trace:erc20,trace:storage,trace:llm_erc20,trace:user_storage \
                    --placements split --waits park,adaptive --cache 0,32,256,4096",
    },
    Part {
        name: "savings",
        question: "what the cache saves, recorded execution by recorded execution",
        arguments: concat!(
            "compare --time 300 --rounds 12 --placements split --cache 0,32,256,4096 --workloads ",
            all_traces!()
        ),
    },
    Part {
        name: "batches",
        question: "executions whose reads go out together where they follow each other",
        arguments: concat!(
            "compare --time 90 --rounds 3 --placements split --waits park,adaptive --in-flight 16 --workloads ",
            all_traces!()
        ),
    },
    Part { name: "peers", question: "what others would reach for", arguments: PEERS },
    Part {
        name: "flight",
        question: "several calls in flight",
        arguments: "compare --time 45 --rounds 10 --workloads read:32 --placements split --waits park,adaptive \
                    --in-flight 1,4,16,64,256",
    },
    Part {
        name: "bulk",
        question: "64 KiB at once against copying them",
        arguments: "compare --time 30 --rounds 10 --workloads read:65536,write:65536 --placements split --waits park,adaptive",
    },
    Part {
        name: "same",
        question: "both ends on one core",
        arguments: "compare --time 20 --rounds 10 --workloads read:32 --placements same --hosts thread,tokio",
    },
    Part {
        name: "parked",
        question: "calls a millisecond apart, both ends asleep in between",
        arguments: "compare --time 40 --rounds 10 --workloads read:32,read:4096,read:65536 --placements split --waits park,adaptive \
                    --think 1000",
    },
    Part {
        name: "budget",
        question: "how long the adaptive wait polls and yields, by the time between calls",
        arguments: "compare --time 150 --rounds 3 --workloads read:32 --placements split,same --transports shm --waits adaptive \
                    --spin-us 0,1,10 --yield-us 0,20,50,200 --think 0,10,50,100,300,1000",
    },
    Part {
        name: "ring",
        question: "the size of a ring",
        arguments: "compare --time 90 --rounds 5 --workloads read:32,read:65536,trace:erc20,connect --placements split \
                    --waits park,adaptive --ring-kib 16,64,128,256,1024,4096",
    },
    Part {
        name: "connect",
        question: "from connecting to the first answer",
        arguments: "compare --time 50 --rounds 10 --workloads connect --placements split --hosts thread,tokio",
    },
    Part {
        name: "connections",
        question: "many connections to one host",
        arguments: "compare --time 90 --rounds 3 --workloads read:32 --placements free --hosts thread,tokio --waits park,adaptive \
                    --connections 1,2,8,64,256",
    },
    Part {
        name: "beside",
        question: "calls on a busy machine: who computes wants every core all the while",
        arguments: "compare --time 90 --rounds 10 --workloads read:32 --placements split,same,free --hosts thread,tokio --beside 1",
    },
    Part {
        name: "named",
        question: "the ring on named segments with raw_sync events",
        arguments: "compare --time 30 --rounds 5 --workloads read:32,read:65536,connect --placements split,same \
                    --transports uds,shm,shm-named --waits park,adaptive",
    },
    Part { name: "idle", question: "a connection that nobody uses", arguments: "study idle" },
    Part { name: "doorbell", question: "how to wake a peer", arguments: "study doorbell --time 120" },
    Part {
        name: "model",
        question: "whether `advise` would have known: its model against all of these executions",
        arguments: "advise --check --results .",
    },
];

/// The part of which histograms are kept.
const TAILS: &str = "tails";

/// Needs the feature `peers`; without it the part is left out, and says so.
const PEERS: &str = "compare --time 90 --rounds 5 --workloads read:32,write:32,read:4096,trace:erc20,trace:storage --placements split \
                     --transports uds,shm,iceoryx2,ipc-channel,interprocess,tarpc --waits park,spin";

fn part(name: &str) -> Result<&'static Part, String> {
    PARTS.iter().find(|part| part.name == name).ok_or_else(|| {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        format!("no such part; known: {}", names.join(", "))
    })
}

impl Part {
    /// What a command writes beside what it prints.
    fn files(&self) -> Vec<(&'static str, String)> {
        let file = |option, extension| (option, format!("{}.{extension}", self.name));
        let mut files = match self.arguments {
            text if text.starts_with("compare") => vec![file("--json", "json"), file("--csv", "csv")],
            text if text.starts_with("study doorbell") => vec![file("--csv", "csv")],
            _ => vec![],
        };
        if self.name == TAILS {
            files.push(file("--histograms", "histograms.csv"));
        }
        files
    }

    /// Runs the command; again if much of its time was stolen. The files of the try that lost least are in `directory` then.
    fn run(&self, directory: &Path, interrupted: &AtomicBool) -> Result<Tried> {
        let files = self.files().into_iter().map(|(_, file)| file).chain([format!("{}.txt", self.name)]);
        least_stolen(directory, &files.collect::<Vec<_>>(), interrupted, || self.try_once(directory))
    }

    fn try_once(&self, directory: &Path) -> Result<Tried> {
        let (started, before) = (Instant::now(), Ticks::now());
        let status = Command::new(std::env::current_exe()?)
            .args(self.arguments())
            .current_dir(directory)
            .stdout(File::create(directory.join(format!("{}.txt", self.name)))?)
            .status()
            .with_context(|| format!("cannot start {}", self.name))?;
        let (took, ticks) = (started.elapsed(), Ticks::now().since(before));
        let stolen = Percent(ticks.stolen as f64 / ticks.all.max(1) as f64 * 100.0);
        Ok(Tried { status, took, stolen, others: Vec::new() })
    }

    fn arguments(&self) -> Vec<String> {
        let arguments = self.arguments.split_whitespace().map(str::to_owned);
        arguments.chain(self.files().into_iter().flat_map(|(option, file)| [option.to_owned(), file])).collect()
    }

    /// What to type for it.
    fn command(&self) -> String {
        let lab = if self.arguments == PEERS { "lab-peers" } else { "lab" };
        format!("cargo {lab} {}", self.arguments().join(" "))
    }
}

/// How a part went, in its place in `commands.txt`.
#[derive(Debug)]
struct Tried {
    status: ExitStatus,
    took: Duration,
    stolen: Percent,
    /// What other tries lost, which are not kept.
    others: Vec<Percent>,
}

/// Of the machine's time.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Percent(f64);

/// The share of a part's time above which it is tried again. Some percent are stolen on a busy cloud all the time.
const MUCH: Percent = Percent(10.0);
const TRIES: usize = 3;

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % stolen", self.0)
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s, {}, ", self.took.as_secs(), self.stolen)?;
        self.others.iter().try_for_each(|other| write!(f, "another try {other}, "))?;
        write!(f, "{}", self.status)
    }
}

fn least_stolen(
    directory: &Path,
    files: &[String],
    interrupted: &AtomicBool,
    mut once: impl FnMut() -> Result<Tried>,
) -> Result<Tried> {
    let rename = |from: &Path, to: &Path| files.iter().try_for_each(|file| fs::rename(from.join(file), to.join(file)));
    let shelf = directory.join(".least-stolen");
    let mut best = once()?;
    while best.stolen > MUCH && best.status.success() && best.others.len() + 1 < TRIES {
        if interrupted.load(Ordering::SeqCst) {
            break;
        }
        eprintln!("    {}: again", best.stolen);
        fs::create_dir(&shelf)?;
        rename(directory, &shelf)?;
        let mut next = once()?;
        if next.status.success() && next.stolen < best.stolen {
            std::mem::swap(&mut best, &mut next);
            best.others = std::mem::take(&mut next.others);
        } else {
            rename(&shelf, directory)?;
        }
        best.others.push(next.stolen);
        fs::remove_dir_all(&shelf)?;
    }
    Ok(best)
}

/// The verb.
pub(super) fn run(args: RecordArgs) -> Result<ExitCode> {
    let partial = !args.only.is_empty();
    let mut parts: Vec<_> = if partial { args.only } else { PARTS.iter().collect() };
    if args.list {
        let line = |part: &&Part| format!("{}: {}\n    {}\n", part.name, part.question, part.command());
        say(&parts.iter().map(line).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = parts.len();
    parts.retain(|part| cfg!(feature = "peers") || part.arguments != PEERS);
    if parts.len() < wanted {
        eprintln!("without the part `peers`: it needs the feature `peers`, as in `cargo lab-peers record`");
    }
    ensure!(!parts.is_empty(), "nothing is left to record");
    let machine = Machine::look();
    let directory = match args.directory {
        Some(directory) => directory,
        None => Path::new("results").join(name(&machine)?),
    };
    ensure!(!directory.exists(), "{} is there, and no record is written over another", directory.display());
    ensure!(!machine.debug_build, "a debug build is nothing to record: cargo lab record");
    fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    fs::write(directory.join("machine.txt"), describe(&machine)?)?;
    write_played(&directory.join(report::PLAYED))?;
    let mut commands = File::create(directory.join("commands.txt"))?;

    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    // The command that runs hears of it as well and ends by itself.
    ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst)).context("cannot handle signals")?;
    let mut failed = 0;
    for (number, part) in parts.iter().enumerate() {
        eprintln!("{} of {}: {}, {}", number + 1, parts.len(), part.name, part.question);
        let tried = part.run(&directory, &interrupted)?;
        writeln!(commands, "{}.txt: {}    # {tried}", part.name, part.command())?;
        failed += usize::from(!tried.status.success());
        if interrupted.load(Ordering::SeqCst) {
            eprintln!("interrupted: {number} parts are whole in {}", directory.display());
            return Ok(ExitCode::from(130));
        }
    }
    drop(commands);
    match report::pages(&directory) {
        Ok(()) => eprintln!("its pages: {}", directory.join("summary.md").display()),
        // Not every part has a table of measurements.
        Err(error) if partial => eprintln!("no pages: {error:#}"),
        Err(error) => return Err(error.context("cannot make the pages")),
    }
    eprintln!("recorded in {}; {failed} of {} commands failed", directory.display(), parts.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Which executions of each trace `compare` plays.
fn write_played(path: &Path) -> Result<()> {
    let mut file = csv::Writer::from_path(path).with_context(|| format!("cannot write {}", path.display()))?;
    for name in Trace::names() {
        let trace = Trace::built_in(name)?;
        let calls: Vec<usize> = trace.executions.iter().map(|execution| execution.calls.len()).collect();
        for execution in trace.played() {
            let (of_executions, of_calls) = (calls.len(), calls.iter().sum());
            file.serialize(Played {
                trace: name.to_owned(),
                execution,
                calls: calls[execution],
                of_executions,
                of_calls,
            })?;
        }
    }
    Ok(file.flush()?)
}

/// `DATE-CPU`, with `vm` behind it if it is one.
fn name(machine: &Machine) -> Result<String> {
    let date = output("date", &["-u", "+%F"]).context("`date` says nothing")?;
    let cpu = processor(&machine.cpu).to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let cpu: Vec<_> = cpu.split('-').filter(|word| !word.is_empty()).take(4).collect();
    let vm = if machine.virtualised { "-vm" } else { "" };
    Ok(format!("{date}-{}{vm}", cpu.join("-")))
}

/// All that may explain a number later.
fn describe(machine: &Machine) -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_else(|_| "unknown\n".to_owned());
    Ok(format!(
        "{machine}\n{}\n\ngovernor: {}load: {}MHz: {}\n{}\n{}\n",
        serde_json::to_string_pretty(machine)?,
        read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        read("/proc/loadavg"),
        megahertz(&read("/proc/cpuinfo")),
        mitigations(),
        output("lscpu", &[]).unwrap_or_else(|| "no lscpu".to_owned()),
    ))
}

/// Of each core, now.
fn megahertz(cpuinfo: &str) -> String {
    let cores = cpuinfo.lines().filter_map(|line| line.strip_prefix("cpu MHz")?.split_once(':'));
    cores.map(|(_, mhz)| mhz.trim()).collect::<Vec<_>>().join(", ")
}

/// What the kernel does against each weakness of the processor.
fn mitigations() -> String {
    let entries = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let line = |entry: fs::DirEntry| {
        let said = fs::read_to_string(entry.path()).unwrap_or_default();
        format!("{}: {}", entry.file_name().to_string_lossy(), said.trim())
    };
    let mut lines: Vec<_> = entries.map(line).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_try_that_lost_least_is_kept_with_its_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let (files, number) = (["part.csv".to_owned()], directory.path().join("part.csv"));
        let tried = |stolen: &[f64]| {
            let mut tries = 0;
            let tried = least_stolen(directory.path(), &files, &AtomicBool::new(false), || {
                fs::write(&number, tries.to_string())?;
                tries += 1;
                let (took, stolen) = (Duration::from_secs(60), Percent(stolen[tries - 1]));
                Ok(Tried { status: ExitStatus::default(), took, stolen, others: Vec::new() })
            });
            let kept = fs::read_to_string(&number).expect("the kept file");
            (
                tried.expect("tries").to_string(),
                kept.parse().expect("a number"),
                fs::read_dir(&directory).unwrap().count(),
            )
        };
        assert_eq!(tried(&[9.9]), ("60 s, 9.9 % stolen, exit status: 0".to_owned(), 0, 1));
        let line = "60 s, 20.0 % stolen, another try 30.0 % stolen, another try 25.0 % stolen, exit status: 0";
        assert_eq!(tried(&[30.0, 20.0, 25.0]), (line.to_owned(), 1, 1));
        assert_eq!(tried(&[30.0, 40.0, 2.0]).1, 2);
    }

    #[test]
    fn every_part_is_a_command_of_ours_and_has_a_name_of_its_own() {
        for (number, each) in PARTS.iter().enumerate() {
            assert_eq!(part(each.name), Ok(&PARTS[number]));
            if cfg!(feature = "peers") || each.arguments != PEERS {
                super::super::cli::check(&each.arguments()).expect(each.name);
            }
        }
        assert!(part("nothing").is_err_and(|error| error.contains("compare, hot")));
    }
}
