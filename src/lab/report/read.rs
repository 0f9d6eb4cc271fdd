//! A recorded directory as it lies on disk. Columns are found by name: a table may have more of them than are read here, and the
//! newer ones may be absent. Nothing is judged and nothing is computed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// What `lab record` left in a directory, of all parts that are there.
#[derive(Debug)]
pub(in crate::lab) struct Record {
    /// The directory's own name.
    pub(super) name: String,
    /// All of `machine.txt`.
    machine: String,
    pub(super) commands: Vec<Command>,
    /// Measurements, by the name of their part.
    pub(super) parts: BTreeMap<String, Part>,
    /// What each command printed, by the name of its part.
    pub(super) printed: BTreeMap<String, String>,
    /// What was played of each trace: `executions.csv`, if it is there.
    pub(super) played: Vec<Played>,
}

/// An execution that was played.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::lab) struct Played {
    pub(in crate::lab) trace: String,
    /// Its number in the trace, from 0.
    pub(in crate::lab) execution: usize,
    pub(in crate::lab) calls: usize,
    /// How many executions the trace has, and how many calls they have together.
    pub(in crate::lab) of_executions: usize,
    pub(in crate::lab) of_calls: usize,
}

/// A line of `commands.txt`.
#[derive(Debug, PartialEq)]
pub(super) struct Command {
    pub(super) part: String,
    pub(super) command: String,
    /// Time and exit status, as they were written down.
    pub(super) outcome: String,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) rows: Vec<Row>,
    /// Of some rows, by number: upper ends of buckets in nanoseconds, ascending, and how many calls each has.
    pub(super) histograms: BTreeMap<usize, Vec<(f64, u64)>>,
}

/// A measurement, with what its table says of it.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::lab) struct Row {
    #[serde(skip)]
    pub(in crate::lab) part: String,
    /// Its place in the file; the first row below the header is 0.
    #[serde(skip)]
    pub(in crate::lab) number: usize,
    pub(in crate::lab) transport: String,
    pub(in crate::lab) wait: String,
    pub(in crate::lab) host: String,
    #[serde(default)]
    pub(in crate::lab) spin_us: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) yield_us: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) ring_kib: Option<u32>,
    #[serde(default)]
    pub(in crate::lab) cache: Option<u32>,
    pub(in crate::lab) workload: String,
    pub(in crate::lab) placement: String,
    pub(in crate::lab) think_us: u64,
    pub(in crate::lab) in_flight: u32,
    pub(in crate::lab) connections: u32,
    #[serde(default)]
    pub(in crate::lab) distance: Option<String>,
    pub(in crate::lab) slices: u64,
    #[serde(default)]
    pub(in crate::lab) moved: u64,
    #[serde(default)]
    pub(in crate::lab) steal: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) p50_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) p50_low_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) p50_high_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) p99_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) p999_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) clock_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) mean_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) calls_per_s: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) execution_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) execution_calls: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) floor_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) copy_floor_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) ratio_floor: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) ratio_floor_low: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) ratio_floor_high: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) ratio_copy_floor: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) ratio_uds: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) ratio_uds_low: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) ratio_uds_high: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) client_cpu_ns: Option<f64>,
    #[serde(default)]
    pub(in crate::lab) host_cpu_ns: Option<f64>,
    pub(in crate::lab) errors: u64,
    #[serde(default)]
    pub(in crate::lab) error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Bucket {
    row: usize,
    upper_ns: f64,
    count: u64,
}

impl Record {
    /// Reads `machine.txt`, `commands.txt` and every `NAME.csv` and `NAME.txt` of the directory. A table of another kind than
    /// `compare`'s, which has no column `transport`, is passed over.
    pub(in crate::lab) fn read(directory: &Path) -> Result<Self> {
        let name = directory.canonicalize().with_context(|| format!("cannot read {}", directory.display()))?;
        let name = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (mut parts, mut printed) = (BTreeMap::new(), BTreeMap::new());
        for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
            let path = entry?.path();
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            match file.rsplit_once('.') {
                Some((part, "csv")) if !part.ends_with(HISTOGRAMS) => {
                    if let Some(rows) = rows(part, &path)? {
                        let histograms = histograms(&directory.join(format!("{part}{HISTOGRAMS}.csv")), rows.len())?;
                        parts.insert(part.to_owned(), Part { rows, histograms });
                    }
                }
                Some((part, "txt")) if part != "machine" && part != "commands" => {
                    _ = printed.insert(part.to_owned(), text(&path)?)
                }
                _ => {}
            }
        }
        let commands = text(&directory.join("commands.txt"))?;
        let commands = commands.lines().map(Command::parse).collect::<Result<_>>()?;
        let machine = text(&directory.join("machine.txt"))?;
        ensure!(!parts.is_empty(), "{}: no table of measurements in it", directory.display());
        let played = played(&directory.join(PLAYED))?;
        Ok(Self { name, machine, commands, parts, printed, played })
    }

    /// The first line of `machine.txt`.
    pub(super) fn machine(&self) -> &str {
        self.machine.lines().next().unwrap_or_default()
    }

    /// What `machine.txt` has behind `NAME:`, in its JSON or in plain text.
    pub(in crate::lab) fn fact(&self, name: &str) -> Option<&str> {
        self.machine.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            let value = value.trim().trim_end_matches(',').trim_matches('"');
            (key.trim().trim_matches('"') == name && !value.is_empty() && value != "null").then_some(value)
        })
    }

    pub(in crate::lab) fn rows(&self, part: &str) -> &[Row] {
        self.parts.get(part).map_or(&[], |part| &part.rows)
    }

    /// The executions of a trace that were played, by number.
    pub(in crate::lab) fn played(&self, trace: &str) -> Result<Vec<usize>> {
        let of_trace = self.played.iter().filter(|played| played.trace == trace);
        let played: Vec<_> = of_trace.map(|played| played.execution).collect();
        ensure!(!played.is_empty(), "{}: {PLAYED} does not say what was played of {trace}", self.name);
        Ok(played)
    }

    pub(super) fn histogram(&self, row: &Row) -> Option<&[(f64, u64)]> {
        Some(self.parts.get(&row.part)?.histograms.get(&row.number)?)
    }
}

impl Command {
    fn parse(line: &str) -> Result<Self> {
        let parsed = line.split_once(": ").zip(line.rsplit_once('#'));
        let Some(((file, rest), (_, outcome))) = parsed else {
            bail!("commands.txt: `{line}` is not `NAME.txt: COMMAND    # OUTCOME`");
        };
        let command = rest.rsplit_once('#').map_or(rest, |(command, _)| command).trim();
        let part = file.trim_end_matches(".txt").to_owned();
        Ok(Self { part, command: command.to_owned(), outcome: outcome.trim().to_owned() })
    }
}

impl Row {
    /// Whether none of its calls was timed.
    pub(super) fn is_empty(&self) -> bool {
        self.slices == 0
    }

    /// CPU time of both processes, a call.
    pub(in crate::lab) fn cpu_ns(&self) -> Option<f64> {
        Some(self.client_cpu_ns? + self.host_cpu_ns?)
    }

    /// The median call without the clock, where the record says what that adds.
    pub(in crate::lab) fn median_call(&self) -> Option<f64> {
        Some(self.p50_ns? - self.clock_ns.unwrap_or(0.0))
    }

    /// What the workload is about: a whole execution, or one call.
    pub(super) fn time_ns(&self) -> Option<f64> {
        if self.trace().is_some() { self.execution_ns } else { self.p50_ns }
    }

    /// The recorded executions that were played.
    pub(in crate::lab) fn trace(&self) -> Option<&str> {
        self.workload.strip_prefix("trace:")
    }
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn rows(part: &str, path: &Path) -> Result<Option<Vec<Row>>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !reader.headers().with_context(|| path.display().to_string())?.iter().any(|name| name == "transport") {
        return Ok(None);
    }
    let read = |(number, row): (usize, csv::Result<Row>)| {
        let row = row.with_context(|| path.display().to_string())?;
        Ok(Row { part: part.to_owned(), number, ..row })
    };
    reader.deserialize().enumerate().map(read).collect::<Result<_>>().map(Some)
}

fn played(path: &Path) -> Result<Vec<Played>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let rows = csv::Reader::from_path(path).and_then(|mut reader| reader.deserialize().collect());
    rows.with_context(|| format!("cannot read {}", path.display()))
}

fn histograms(path: &Path, rows: usize) -> Result<BTreeMap<usize, Vec<(f64, u64)>>> {
    let mut histograms: BTreeMap<usize, Vec<(f64, u64)>> = BTreeMap::new();
    if !path.exists() {
        return Ok(histograms);
    }
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    for bucket in reader.deserialize() {
        let Bucket { row, upper_ns, count } = bucket.with_context(|| path.display().to_string())?;
        ensure!(row < rows, "{}: a bucket of row {row}, but the table has {rows} rows", path.display());
        let buckets = histograms.entry(row).or_default();
        let last = buckets.last().map_or(f64::NEG_INFINITY, |(upper, _)| *upper);
        ensure!(upper_ns > last, "{}: buckets of row {row}: {upper_ns} ns after {last} ns", path.display());
        buckets.push((upper_ns, count));
    }
    Ok(histograms)
}

/// Which executions of each trace were played.
pub(in crate::lab) const PLAYED: &str = "executions.csv";

/// Between the name of a part and `.csv`: the histograms of its rows.
const HISTOGRAMS: &str = ".histograms";
