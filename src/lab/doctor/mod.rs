//! `lab doctor`: what on this machine will disturb a measurement and what to do about it, and whether every mechanism that the
//! transports need works here.
//!
//! It reads what the system says of itself, probes for a second what it may not say truly, and tries every mechanism out. It
//! changes nothing and measures no transport. Disturbances are advice: the exit code speaks of mechanisms only.
//!
//! | file | what it looks at |
//! | --- | --- |
//! | `cores` | how many, which are threads of one, how far apart, whether they move |
//! | `power` | frequency, idle cores, the clock |
//! | `watch` | a second of this machine: other programs, stolen time, probes of the distance |
//! | `limits` | quotas of the control group, room and limits for segments and descriptors |
//! | `system` | build, virtual machine, mitigations, huge pages |
//! | `mechanisms`, `attempts` | what the transports need, and how it is tried out |

use std::fmt;
use std::fs;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::machine::Machine;
use super::process::cores as usable_cores;
use super::show::say;

mod attempts;
mod cores;
mod limits;
mod mechanisms;
mod power;
mod system;
mod watch;

/// Takes about two seconds.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Lines for people
    Table,
    /// Every field, and the machine
    Json,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Finding {
    level: Level,
    what: &'static str,
    seen: String,
    /// What to do about it.
    advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    Ok,
    /// Worth knowing when numbers are read.
    Note,
    /// Numbers are worth nothing, or a mechanism does not work.
    Problem,
}

impl Finding {
    fn ok(what: &'static str, seen: impl Into<String>) -> Self {
        Self { level: Level::Ok, what, seen: seen.into(), advice: None }
    }

    fn note(what: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Note, what, seen: seen.into(), advice: Some(advice.into()) }
    }

    fn problem(what: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Problem, what, seen: seen.into(), advice: Some(advice.into()) }
    }
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    machine: Machine,
    disturbances: Vec<Finding>,
    mechanisms: Vec<Finding>,
}

/// The verb. Fails if a mechanism does not work.
pub(super) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let (machine, cores) = (Machine::look(), usable_cores());
    let watched = watch::Watched::a_second(&cores);
    let mut disturbances = vec![system::build(machine.debug_build)];
    disturbances.extend(cores::look(&cores, &watched.lines));
    disturbances.extend(watched.findings());
    disturbances.extend(power::look(&cores, machine.virtualised));
    disturbances.extend(system::look(machine.virtualised));
    disturbances.extend(limits::look(cores.len()));
    let diagnosis = Diagnosis { machine, disturbances, mechanisms: mechanisms::try_out() };
    say(&match args.format {
        Format::Table => diagnosis.to_string(),
        Format::Json => serde_json::to_string_pretty(&diagnosis)? + "\n",
    })?;
    let works = diagnosis.mechanisms.iter().all(|finding| finding.level < Level::Problem);
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        wrap(&self.machine.to_string(), WIDTH).into_iter().try_for_each(|line| writeln!(f, "{line}"))?;
        section(f, "What will disturb a measurement", &self.disturbances)?;
        section(f, "Whether what the transports need works, tried out", &self.mechanisms)?;
        let count = |level| {
            let all = self.disturbances.iter().chain(&self.mechanisms);
            all.filter(|finding| finding.level == level).count()
        };
        let failed = self.mechanisms.iter().filter(|finding| finding.level == Level::Problem).count();
        match failed {
            0 => write!(f, "\nEvery mechanism works here")?,
            n => write!(f, "\nDoes not work here: {n} of {} mechanisms", self.mechanisms.len())?,
        }
        writeln!(f, "; problems: {}, notes: {}.", count(Level::Problem), count(Level::Note))
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, findings: &[Finding]) -> fmt::Result {
    writeln!(f, "\n{title}")?;
    for Finding { level, what, seen, advice } in findings {
        let said = wrap(seen, WIDTH - INDENT).into_iter();
        let advised = advice.iter().flat_map(|advice| wrap(&format!("→ {advice}"), WIDTH - INDENT));
        for (number, line) in said.chain(advised).enumerate() {
            let level = match level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Problem => "problem",
            };
            let (level, what) = if number == 0 { (level, *what) } else { ("", "") };
            writeln!(f, "{level:7}  {what:16}  {line}")?;
        }
    }
    Ok(())
}

/// Lines of at most so many characters, if no word is longer.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("one at least");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.extend([" ", word]);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// What a file of the system says, without the blanks around it.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

const WIDTH: usize = 80;
/// The columns of the level and of what was looked at.
const INDENT: usize = 7 + 2 + 16 + 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_lines_short() {
        assert_eq!(wrap("one two  three\nfour", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("µs µs µs", 5), ["µs µs", "µs"]);
        assert_eq!(wrap("a-word-beyond a b", 4), ["a-word-beyond", "a b"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn every_line_of_a_finding_stands_in_its_column() {
        let diagnosis = Diagnosis {
            machine: Machine::look(),
            disturbances: vec![
                Finding::ok("cores", "0 to 7"),
                Finding::note("clock", "slow ".repeat(20), "wind it up ".repeat(10)),
            ],
            mechanisms: vec![Finding::problem("futex", "ENOSYS", "a seccomp filter?")],
        };
        let text = diagnosis.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH && line == line.trim_end()), "{text}");
        assert!(text.contains("ok       cores             0 to 7\nnote     clock             slow slow"), "{text}");
        assert!(text.contains("\n                           → wind it up wind"), "{text}");
        assert!(text.ends_with("Does not work here: 1 of 1 mechanisms; problems: 1, notes: 1.\n"), "{text}");
    }
}
