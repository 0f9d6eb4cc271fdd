//! `lab report`: pages and plots of recorded directories, from the files in them alone. Nothing is measured, and nothing that was
//! recorded is changed; what is missing is said to be.
//!
//! | file | what it does |
//! | --- | --- |
//! | `read` | the tables and texts of a directory |
//! | `speed` | the same, as if the machine had been as fast all the while |
//! | `pick` | which of their rows are shown |
//! | `words` | how rows and numbers are called |
//! | `claims`, `targets`, `tables`, `charts` | what is said, tabled and plotted |
//! | `page`, `pages` | what a page is made of, and what stands on which |
//! | `follow_up` | the parts of `ADR-follow-up.md` |
//! | `machines` | the other records, beside this one |
//! | `fill` | puts parts into a page that people wrote |
//! | `markdown`, `html`, `plot` | pages and plots as files |
//! | `files` | writes them, or compares them with those that are there |

mod charts;
mod claims;
mod files;
mod fill;
mod follow_up;
mod html;
mod machines;
mod markdown;
mod page;
mod pages;
mod pick;
mod plot;
mod read;
mod speed;
mod tables;
mod targets;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::show::say;
use charts::Drawn;
pub(super) use charts::{Axis, Chart, Drawing, Look, Point, Scale, Series};
use files::Files;
pub(super) use page::Source;
pub(super) use plot::draw;
pub(super) use read::{PLAYED, Played, Record, Row};

/// Writes `summary.md`, `index.html` and `plots/` into each directory, and what the last one says into a README and, if it lies
/// beside it, into `ADR-follow-up.md`; with that, what other records beside it say.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Directories that `record` made
    #[arg(required = true)]
    directories: Vec<PathBuf>,
    /// Write nothing; fail with exit code 1 when a file is not what the data give
    #[arg(long)]
    check: bool,
    /// The page whose part between `<!-- report:begin -->` and `<!-- report:end -->` is about the last directory
    /// [default: README.md beside it, if there is one]
    #[arg(long, value_name = "FILE")]
    readme: Option<PathBuf>,
}

/// The verb. Every page and plot is made before the first is written or compared.
pub(super) fn run(args: ReportArgs) -> Result<ExitCode> {
    let mut files = Files::default();
    for (number, directory) in args.directories.iter().enumerate() {
        let record = Record::read(directory)?;
        let charts = charts::charts(&record);
        add(&record, &charts, directory, &mut files)?;
        if number + 1 == args.directories.len() {
            let others = machines::beside(directory)?;
            let readme = args.readme.clone().or_else(|| beside(directory, "README.md"));
            match readme {
                Some(readme) => add_part(&record, &others, &charts, directory, &readme, &mut files)?,
                None => eprintln!("no README.md beside {}: nothing is written into one", directory.display()),
            }
            if let Some(page) = beside(directory, "ADR-follow-up.md") {
                add_follow_up(&record, &others, &charts, directory, &page, &mut files)?;
            }
        }
    }
    if !args.check {
        files.write()?;
        return Ok(ExitCode::SUCCESS);
    }
    let differences = files.differences()?;
    say(&differences)?;
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The pages and plots of a directory that was just made, and nothing outside of it.
pub(super) fn pages(directory: &Path) -> Result<()> {
    let (record, mut files) = (Record::read(directory)?, Files::default());
    add(&record, &charts::charts(&record), directory, &mut files)?;
    files.write()
}

/// The files of the record's own directory.
fn add(record: &Record, charts: &[Drawn], directory: &Path, files: &mut Files) -> Result<()> {
    let folder = directory.join("plots");
    let mut plots = BTreeMap::new();
    for chart in charts.iter().flatten() {
        let svg = plot::draw(chart)?;
        files.insert(folder.join(format!("{}.svg", chart.name)), svg.clone());
        files.insert(folder.join(format!("{}.csv", chart.name)), charts::data(chart));
        plots.insert(chart.name, svg);
    }
    let blocks = pages::summary(record, charts);
    files.insert(directory.join("summary.md"), markdown::render(&blocks, "plots"));
    files.insert(directory.join("index.html"), html::render(&record.name, &blocks, &plots));
    files.whole(folder);
    Ok(())
}

/// The record's part of a README.
fn add_part(
    record: &Record,
    others: &[Record],
    charts: &[Drawn],
    directory: &Path,
    readme: &Path,
    files: &mut Files,
) -> Result<()> {
    let to = seen_from(readme, directory, record)?;
    let part = markdown::render(&pages::short(record, others, charts, &to), &format!("{to}/plots"));
    fill_in(readme, &[(String::new(), fill::block(&part))].into(), files)?;
    Ok(())
}

/// The record's parts of the follow-up to ADR-003, whose other text has no number of its own.
fn add_follow_up(
    record: &Record,
    others: &[Record],
    charts: &[Drawn],
    directory: &Path,
    page: &Path,
    files: &mut Files,
) -> Result<()> {
    let to = seen_from(page, directory, record)?;
    let text = fill_in(page, &follow_up::parts(record, others, charts, page, &to)?, files)?;
    follow_up::check(&text).with_context(|| page.display().to_string())
}

/// A page that people wrote, with these parts in it.
fn fill_in(page: &Path, parts: &BTreeMap<String, String>, files: &mut Files) -> Result<String> {
    let text = fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
    let filled = fill::fill(&text, parts).with_context(|| page.display().to_string())?;
    files.insert(page.to_owned(), filled.clone());
    Ok(filled)
}

/// A record as a page links to it.
fn seen_from(page: &Path, directory: &Path, record: &Record) -> Result<String> {
    let home = page.canonicalize().with_context(|| format!("cannot read {}", page.display()))?;
    let is_beside = directory.canonicalize()?.parent() == home.parent();
    Ok(if is_beside { record.name.clone() } else { directory.display().to_string() })
}

fn beside(directory: &Path, name: &str) -> Option<PathBuf> {
    let page = directory.join("..").join(name);
    page.exists().then_some(page)
}
