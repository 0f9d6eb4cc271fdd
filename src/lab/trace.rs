//! [`Trace`]: recorded executions, built in or read from a CSV file. `benches/traces/README.md` has the form and the source.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::read::GzDecoder;

use crate::protocol::{Method, ResultCode, Revision, StorageMode};

/// A recorded workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) executions: Vec<Execution>,
}

/// One GenVM process life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Execution {
    /// The contract that runs, as the trace numbers accounts.
    pub(super) account: u32,
    /// How it ends.
    pub(super) result: ResultCode,
    pub(super) calls: Vec<Call>,
}

/// One host call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Read {
        mode: StorageMode,
        account: u32,
        slot: u32,
        index: u32,
        len: u32,
    },
    Write {
        slot: u32,
        index: u32,
        len: u32,
    },
    /// `len` variable bytes in the request, `reply` in the answer.
    Other {
        method: Method,
        account: u32,
        index: u32,
        len: u32,
        reply: u32,
    },
}

impl Call {
    pub(super) fn method(&self) -> Method {
        match self {
            Self::Read { .. } => Method::StorageRead,
            Self::Write { .. } => Method::StorageWrite,
            Self::Other { method, .. } => *method,
        }
    }
}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        const BUILT_IN: &[(&str, &[u8])] =
            &[$(($name, include_bytes!(concat!("../../benches/traces/", $name, ".csv.gz")))),*];
    };
}

built_in!(
    "dynarray_read",
    "erc20",
    "escrow_evm",
    "football_bets",
    "intelligent_oracle",
    "llm_erc20",
    "multi_tenant",
    "prediction_market",
    "prediction_market_validator",
    "storage",
    "treemap_1k",
    "upgradable_storage",
    "user_storage",
    "wizard_of_coin",
    "wizard_of_coin_validator",
);

const TRANSACTIONS: &[u8] = include_bytes!("../../benches/traces/transactions.csv.gz");

impl Trace {
    /// The names of the traces that are built in.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A trace that is built in.
    pub(super) fn built_in(name: &str) -> Result<Self> {
        let Some((_, bytes)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
            bail!("no trace `{name}`; known: {}", Self::names().collect::<Vec<_>>().join(", "));
        };
        let endings = endings(BufReader::new(GzDecoder::new(TRANSACTIONS)), name)?;
        parse(BufReader::new(GzDecoder::new(*bytes)), name, &endings)
    }

    /// A trace from a CSV file, plain or gzip. A `transactions.csv` (or `.csv.gz`) beside it says how executions ended; without
    /// one they all returned.
    pub(super) fn from_file(path: &Path) -> Result<Self> {
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = file_name.split('.').next().unwrap_or(&file_name).to_owned();
        let beside = ["transactions.csv", "transactions.csv.gz"].map(|name| path.with_file_name(name));
        let endings = match beside.iter().find(|path| path.exists()) {
            Some(path) => endings(open(path)?, &name).with_context(|| path.display().to_string())?,
            None => HashMap::new(),
        };
        parse(open(path)?, &name, &endings).with_context(|| path.display().to_string())
    }

    /// The trace that was asked for, by name or by file.
    pub(super) fn load(name: Option<&str>, file: Option<&Path>) -> Result<Self> {
        match (name, file) {
            (_, Some(path)) => Self::from_file(path),
            (Some(name), None) => Self::built_in(name),
            (None, None) => bail!("name a trace: --trace NAME or --trace-file FILE"),
        }
    }
}

impl Trace {
    /// What is played of it to measure: few enough for the slowest way to play each of them again and again.
    pub(super) fn measured(&self) -> Self {
        self.only(&self.played()).expect("executions that it has")
    }

    /// These executions of it, by number.
    pub(super) fn only(&self, executions: &[usize]) -> Result<Self> {
        let one = |at: &usize| {
            let have = self.executions.len();
            self.executions.get(*at).cloned().with_context(|| format!("{} has no execution {at} of {have}", self.name))
        };
        Ok(Self { name: self.name.clone(), executions: executions.iter().map(one).collect::<Result<_>>()? })
    }

    /// The executions that [`measured`](Self::measured) plays, by number: sorted by how many calls they have and cut into equal groups,
    /// of each group the one that is nearest to its mean. So those that are played have about as many calls as all, and their spread.
    pub(super) fn played(&self) -> Vec<usize> {
        let calls = |at: &usize| self.executions[*at].calls.len();
        let mut sorted: Vec<usize> = (0..self.executions.len()).collect();
        sorted.sort_by_key(calls);
        let all: usize = sorted.iter().map(calls).sum();
        // Four, unless they are so long that few slices would have room for each.
        let groups = (CALLS_PLAYED * sorted.len() / all.max(1)).clamp(1, GROUPS).min(sorted.len());
        let nearest = |group: usize| {
            let group = &sorted[sorted.len() * group / groups..sorted.len() * (group + 1) / groups];
            let sum: usize = group.iter().map(calls).sum();
            *group
                .iter()
                .min_by_key(|at| (calls(at) * group.len()).abs_diff(sum))
                .expect("no more groups than executions")
        };
        let mut played: Vec<usize> = (0..groups).map(nearest).collect();
        played.sort_unstable();
        played
    }

    /// Writes it into `directory`, in the form that [`from_file`](Self::from_file) reads. Returns where.
    pub(super) fn save(&self, directory: &Path) -> Result<PathBuf> {
        let path = directory.join(format!("{}.csv", self.name));
        let mut calls = HEADER.to_owned();
        let mut endings = String::from("trace,tx,kind,addr,contract,method,result,calls\n");
        for (number, execution) in self.executions.iter().enumerate() {
            for (at, call) in execution.calls.iter().enumerate() {
                let tx = if at == 0 { number.to_string() } else { String::new() };
                calls += &match *call {
                    Call::Read { mode, account, slot, index, len } => {
                        format!("\n{tx},r,{},{account},{slot},{index},{len},", mode as u8)
                    }
                    Call::Write { slot, index, len } => format!("\n{tx},w,,,{slot},{index},{len},"),
                    Call::Other { method, account, index, len, reply } => {
                        format!("\n{tx},{},,{account},,{index},{len},{reply}", method.name())
                    }
                };
            }
            let (account, code) = (execution.account, result_name(execution.result)?);
            endings += &format!("{},{number},,{account},,,{code},{}\n", self.name, execution.calls.len());
        }
        std::fs::write(&path, calls + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        std::fs::write(path.with_file_name("transactions.csv"), endings)?;
        Ok(path)
    }
}

/// Of how many groups one execution each is played, and how many calls those should have together at most.
const GROUPS: usize = 4;
const CALLS_PLAYED: usize = 8000;

const HEADER: &str = "tx,op,mode,addr,slot,index,len,reply";

/// How executions end, as `transactions.csv` says it.
const RESULTS: [(&str, ResultCode); 3] =
    [("return", ResultCode::Return), ("user_error", ResultCode::UserError), ("vm_error", ResultCode::VmError)];

fn result_name(code: ResultCode) -> Result<&'static str> {
    let known = RESULTS.iter().find(|(_, known)| *known == code);
    known.map(|(name, _)| *name).with_context(|| format!("an execution that ended with {code:?}"))
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?);
    let compressed = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let inner: Box<dyn Read> = if compressed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    Ok(Box::new(BufReader::new(inner)))
}

/// How each execution of a trace ended, and which contract it ran.
fn endings(csv: impl BufRead, trace: &str) -> Result<HashMap<usize, (u32, ResultCode)>> {
    let mut endings = HashMap::new();
    for (number, line) in csv.lines().enumerate().skip(1) {
        let line = line?;
        let cells: Vec<&str> = line.split(',').collect();
        ensure!(cells.len() == 8, "line {}: {} columns, expected 8", number + 1, cells.len());
        if cells[0] != trace {
            continue;
        }
        let Some((_, code)) = RESULTS.iter().find(|(name, _)| *name == cells[6]) else {
            bail!("line {}: unknown result `{}`", number + 1, cells[6]);
        };
        endings.insert(cells[1].parse()?, (cells[3].parse()?, *code));
    }
    Ok(endings)
}

fn parse(csv: impl BufRead, name: &str, endings: &HashMap<usize, (u32, ResultCode)>) -> Result<Trace> {
    let mut executions: Vec<Execution> = Vec::new();
    for (number, line) in csv.lines().enumerate() {
        let line = line?;
        if number == 0 {
            ensure!(line == HEADER, "line 1: not the header of a trace: `{line}`");
            continue;
        }
        let row = Row { line: number + 1, cells: line.split(',').collect() };
        ensure!(row.cells.len() == 8, "line {}: {} columns, expected 8", row.line, row.cells.len());
        if !row.cells[0].is_empty() {
            let tx = row.number("tx", 0)? as usize;
            ensure!(tx == executions.len(), "line {}: execution {tx} where {} is due", row.line, executions.len());
            let first = row.number_or("addr", 3, 0)?;
            let (account, result) = endings.get(&tx).copied().unwrap_or((first, ResultCode::Return));
            executions.push(Execution { account, result, calls: Vec::new() });
        }
        let execution =
            executions.last_mut().with_context(|| format!("line {}: a call before any execution", row.line))?;
        execution.calls.push(row.call()?);
    }
    let last = |execution: &Execution| execution.calls.last().map(Call::method) == Some(Method::ConsumeResult);
    if let Some(at) = executions.iter().position(|execution| !last(execution)) {
        bail!("execution {at} does not end with consume_result");
    }
    ensure!(!executions.is_empty(), "no executions");
    Ok(Trace { name: name.to_owned(), executions })
}

struct Row<'a> {
    line: usize,
    cells: Vec<&'a str>,
}

impl Row<'_> {
    fn call(&self) -> Result<Call> {
        let (account, index) = (self.number_or("addr", 3, 0)?, self.number_or("index", 5, 0)?);
        let len = self.number_or("len", 6, 0)?;
        let call = match self.cells[1] {
            "r" => {
                let mode = self.number("mode", 2)?;
                let mode = u8::try_from(mode).ok().and_then(|byte| StorageMode::try_from(byte).ok());
                let mode = mode.with_context(|| format!("line {}: mode is 0, 1 or 2", self.line))?;
                Call::Read { mode, account, slot: self.number("slot", 4)?, index, len }
            }
            "w" => Call::Write { slot: self.number("slot", 4)?, index, len },
            other => {
                let methods = Revision::One.methods();
                let method = methods.iter().copied().find(|method| method.name() == other);
                let method = method.with_context(|| format!("line {}: unknown op `{other}`", self.line))?;
                Call::Other { method, account, index, len, reply: self.number_or("reply", 7, 0)? }
            }
        };
        if let Call::Read { index, len, .. } | Call::Write { index, len, .. } = call {
            ensure!(u64::from(index) + u64::from(len) <= 1 << 32, "line {}: reaches beyond 2^32", self.line);
        }
        Ok(call)
    }

    fn number(&self, column: &str, at: usize) -> Result<u32> {
        let cell = self.cells[at];
        cell.parse().map_err(|_| anyhow!("line {}: {column} is `{cell}`, expected a number", self.line))
    }

    fn number_or(&self, column: &str, at: usize, default: u32) -> Result<u32> {
        if self.cells[at].is_empty() { Ok(default) } else { self.number(column, at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_traces_are_whole() {
        let (mut executions, mut calls, mut reads) = (0, 0, 0);
        for name in Trace::names() {
            let trace = Trace::built_in(name).unwrap();
            executions += trace.executions.len();
            calls += trace.executions.iter().map(|execution| execution.calls.len()).sum::<usize>();
            let all = trace.executions.iter().flat_map(|execution| &execution.calls);
            reads += all.filter(|call| call.method() == Method::StorageRead).count();
        }
        // Counted in the CSV files by another program.
        assert_eq!((executions, calls, reads), (3866, 349_855, 308_627));
    }

    #[test]
    fn one_trace_has_the_shape_that_its_table_says() {
        let trace = Trace::built_in("erc20").unwrap();
        let calls: Vec<_> = trace.executions.iter().map(|execution| execution.calls.len()).collect();
        assert_eq!((calls.len(), calls.iter().sum::<usize>(), calls.iter().max()), (1176, 164_321, Some(&280)));
        let failed = Trace::built_in("upgradable_storage").unwrap();
        assert!(failed.executions.iter().any(|execution| execution.result != ResultCode::Return));
    }

    #[test]
    fn what_is_played_has_about_as_many_calls_as_all_and_survives_a_file() {
        for name in Trace::names() {
            let trace = Trace::built_in(name).unwrap();
            let (played, measured) = (trace.played(), trace.measured());
            assert_eq!(played.len(), if name == "treemap_1k" { 2 } else { 4 }, "{name}");
            assert!(played.is_sorted_by(|a, b| a < b), "{name}: {played:?}");
            assert!(played.iter().zip(&measured.executions).all(|(at, one)| trace.executions[*at] == *one));
            let mean = |trace: &Trace| {
                let calls: usize = trace.executions.iter().map(|execution| execution.calls.len()).sum();
                calls as f64 / trace.executions.len() as f64
            };
            let share = mean(&measured) / mean(&trace);
            // Four of its 33 executions make nine tenths of its calls.
            let within = if name == "dynarray_read" { 0.3..=0.5 } else { 0.85..=1.1 };
            assert!(within.contains(&share), "{name}: {share}");
            let directory = tempfile::tempdir().unwrap();
            assert_eq!(Trace::from_file(&measured.save(directory.path()).unwrap()).unwrap(), measured);
        }
    }

    #[test]
    fn a_bad_row_is_named() {
        let parse = |rows: &str| {
            let csv = format!("tx,op,mode,addr,slot,index,len,reply\n{rows}");
            parse(csv.as_bytes(), "t", &HashMap::new()).unwrap_err().to_string()
        };
        assert_eq!(parse("0,r,3,0,0,0,4,\n"), "line 2: mode is 0, 1 or 2");
        assert_eq!(parse("0,r,0,0,x,0,4,\n"), "line 2: slot is `x`, expected a number");
        assert_eq!(parse("0,r,0,0,0,0,4\n"), "line 2: 7 columns, expected 8");
        assert_eq!(parse("1,r,0,0,0,0,4,\n"), "line 2: execution 1 where 0 is due");
        assert_eq!(parse(",r,0,0,0,0,4,\n"), "line 2: a call before any execution");
        assert_eq!(parse("0,jump,,,,,,\n"), "line 2: unknown op `jump`");
        assert_eq!(parse("0,r,0,0,0,4294967295,4,\n"), "line 2: reaches beyond 2^32");
        assert_eq!(parse("0,r,0,0,0,0,4,\n"), "execution 0 does not end with consume_result");
        assert_eq!(parse(""), "no executions");
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let error = Trace::built_in("erc21").unwrap_err().to_string();
        assert!(error.starts_with("no trace `erc21`; known: dynarray_read, erc20"), "{error}");
    }
}
