//! [`Baseline`]: whether a build is slower than one whose results were recorded.
//!
//! What was recorded is another day: ratios drift from run to run by more than within one. So a way is judged by its ratio to the floor
//! where it has one, against everything that the directory says of that way in that situation, and it is slower only if its interval
//! lies beyond all of it by more than a tolerance. To tell two builds apart that differ by less, run both of them in turn.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::interval::Interval;
use super::machine::Machine;
use super::rows::Row;

/// Rows that were recorded.
pub(super) struct Baseline(Vec<Value>);

/// How the rows of now stand to those.
pub(super) struct Judged {
    /// Each way, what is compared of it, and how many times as long it takes now.
    ways: Vec<(String, &'static str, Interval)>,
    tolerance: f64,
    /// Rows of which the baseline says nothing.
    unknown: usize,
}

impl Baseline {
    /// Reads the reports in a directory, or one report. They have to be of this machine.
    pub(super) fn read(path: &Path, machine: &Machine, other_machine: bool) -> Result<Self> {
        let mut rows = Vec::new();
        for file in files(path)? {
            let report = fs::read_to_string(&file).map_err(anyhow::Error::from);
            let report: Value = report
                .and_then(|text| Ok(serde_json::from_str(&text)?))
                .with_context(|| format!("cannot read {}", file.display()))?;
            let Some(Value::Array(theirs)) = report.get("rows").filter(|_| report["machine"].is_object()) else {
                continue; // of another verb
            };
            if report["beside"].as_u64().unwrap_or(0) > 0 {
                continue; // measured beside others who computed, which `--baseline` never is
            }
            let here = serde_json::to_value(machine)?;
            for field in ["cpu", "cores", "virtualised", "debug_build"] {
                let (then, now) = (&report["machine"][field], &here[field]);
                ensure!(
                    other_machine || then == now,
                    "{} is of another machine: {field} was {then}, here it is {now}; --other-machine compares all the same",
                    file.display()
                );
            }
            rows.extend(theirs.iter().filter(|row| row["distance"].is_string() || row["p50_ns"].is_number()).cloned());
        }
        ensure!(!rows.is_empty(), "{} has no rows to compare with", path.display());
        Ok(Self(rows))
    }

    /// Compares.
    pub(super) fn judge(&self, rows: &[Row], tolerance: f64) -> Result<Judged> {
        let (mut ways, mut unknown) = (Vec::new(), 0);
        for row in rows {
            let (now, cell) = (serde_json::to_value(row)?, serde_json::to_value(&row.cell)?);
            let cell = cell.as_object().context("a cell has fields")?;
            let same =
                |then: &&Value| cell.keys().all(|name| then[name] == now[name]) && then["distance"] == now["distance"];
            let what = if row.cell.situation.has_distance() { "ratio_floor" } else { "p50_ns" };
            let then = self.0.iter().filter(same);
            let then = then.filter_map(|then| interval(then, what)).reduce(Interval::and);
            match interval(&now, what).zip(then) {
                Some((now, then)) => {
                    let distance = row.distance.map_or_else(String::new, |distance| format!(", {distance}"));
                    ways.push((format!("{}{distance}", row.cell), what, now.over(then)));
                }
                None => unknown += 1,
            }
        }
        ensure!(!ways.is_empty(), "nothing was compared: none of the {unknown} rows is in the baseline with bounds");
        Ok(Judged { ways, tolerance, unknown })
    }
}

/// The bounds of a row, if it has any.
fn interval(row: &Value, what: &str) -> Option<Interval> {
    let (low, high) = match what {
        "p50_ns" => ("p50_low_ns", "p50_high_ns"),
        _ => ("ratio_floor_low", "ratio_floor_high"),
    };
    Some(Interval { low: row[low].as_f64()?, high: row[high].as_f64()? })
}

/// Reports as `--json` writes them.
fn files(path: &Path) -> Result<Vec<std::path::PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut files: Vec<_> = entries.with_context(|| format!("cannot read {}", path.display()))?;
    files.sort_by_key(fs::DirEntry::path);
    let paths = files.iter().map(fs::DirEntry::path);
    let files: Vec<_> = paths.filter(|path| path.extension() == Some("json".as_ref())).collect();
    if files.is_empty() {
        bail!("{} has no report of `compare --json`", path.display());
    }
    Ok(files)
}

impl Judged {
    pub(super) fn slower(&self) -> bool {
        self.ways.iter().any(|(_, _, times)| times.low > 1.0 + self.tolerance)
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Against the baseline, times as long as then (95 % bounds, {:.0} % do not count):",
            self.tolerance * 100.0
        )?;
        for (way, what, Interval { low, high }) in &self.ways {
            let verdict = match (*low, *high) {
                (low, _) if low > 1.0 + self.tolerance => "SLOWER",
                (_, high) if high < 1.0 / (1.0 + self.tolerance) => "faster",
                _ => "no difference shown",
            };
            writeln!(f, "{low:6.2} to {high:.2}  {verdict}: {way} ({what})")?;
        }
        match self.unknown {
            0 => Ok(()),
            unknown => writeln!(f, "{unknown} rows are not in the baseline, or have no bounds there."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::matrix::Placement;
    use crate::lab::rows::rows;
    use crate::lab::rows::tests::{cells, sample};

    /// Rows of both cells that take `p50` nanoseconds.
    fn measured(p50: u64) -> Vec<Row> {
        let samples: Vec<_> =
            (0..30).map(|at| sample(at % 2, at as u32 / 10, p50 + at as u64 % 3, [70.0; 2])).collect();
        rows(&cells(Placement::Split), &samples, &[])
    }

    fn baseline(rows: &[Row]) -> Baseline {
        Baseline(rows.iter().map(|row| serde_json::to_value(row).expect("a row")).collect())
    }

    #[test]
    fn slower_is_slower_by_more_than_the_tolerance_and_the_bounds() {
        let then = baseline(&measured(1000));
        for (now, slower, word) in [
            (1000, false, "no difference shown"),
            (1050, false, "no difference"),
            (1200, true, "SLOWER"),
            (700, false, "faster"),
        ] {
            let judged = then.judge(&measured(now), 0.1).expect("rows");
            assert_eq!((judged.slower(), judged.ways.len(), judged.unknown), (slower, 2, 0), "{judged}");
            assert!(judged.to_string().contains(word), "{judged}");
        }
        // A second recording widens what is usual.
        let mut both = baseline(&measured(1000));
        both.0.extend(baseline(&measured(1300)).0);
        assert!(!both.judge(&measured(1200), 0.1).expect("rows").slower());
    }

    #[test]
    fn what_was_not_recorded_is_counted() {
        let mut then = baseline(&measured(1000));
        then.0.retain(|row| row["transport"] == "uds");
        let judged = then.judge(&measured(5000), 0.1).expect("rows");
        assert_eq!((judged.ways.len(), judged.unknown), (1, 1));
        then.0.retain(|row| row["transport"] == "shm-named");
        let error = then.judge(&measured(5000), 0.1).err().expect("nothing to compare with").to_string();
        assert!(error.contains("none of the 2 rows"), "{error}");
    }

    #[test]
    fn a_baseline_of_another_machine_or_of_nothing_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let read = |other| Baseline::read(directory.path(), &Machine::look(), other).map(|baseline| baseline.0.len());
        assert!(read(false).expect_err("empty").to_string().contains("no report"));
        let report = |cpu: &str| {
            let mut machine = serde_json::to_value(Machine::look()).expect("a machine");
            machine["cpu"] = cpu.into();
            let rows: Vec<_> = measured(1000).iter().map(|row| serde_json::to_value(row).expect("a row")).collect();
            serde_json::json!({ "machine": machine, "rows": rows }).to_string()
        };
        let file = directory.path().join("compare.json");
        fs::write(&file, report("another")).expect("written");
        let error = read(false).expect_err("another machine").to_string();
        assert!(error.contains("cpu was \"another\"") && error.contains("--other-machine"), "{error}");
        assert_eq!(read(true).expect("forced"), 2);
        fs::write(&file, report(&Machine::look().cpu)).expect("written");
        fs::write(directory.path().join("doorbell.json"), "{}").expect("written");
        let beside = report(&Machine::look().cpu).replacen('{', "{\"beside\":1,", 1);
        fs::write(directory.path().join("beside.json"), beside).expect("written");
        assert_eq!(read(false).expect("this machine"), 2);
        fs::write(&file, "nonsense").expect("written");
        assert!(format!("{:#}", read(false).expect_err("nonsense")).contains("cannot read"));
    }
}
