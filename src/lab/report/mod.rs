//! `lab report`: pages and plots of recorded directories, from the files in them alone. Nothing is measured, and nothing that was
//! recorded is changed; what is missing is said to be.
//!
//! | file | what it does |
//! | --- | --- |
//! | `read` | the tables and texts of a directory |
//! | `pick` | which of their rows are shown |
//! | `words` | how rows and numbers are called |
//! | `claims`, `tables`, `charts` | what is said, tabled and plotted |
//! | `page`, `pages` | what a page is made of, and what stands on which |
//! | `markdown`, `html`, `plot` | pages and plots as files |
//! | `files` | writes them, or compares them with those that are there |

mod charts;
mod claims;
mod files;
mod html;
mod markdown;
mod page;
mod pages;
mod pick;
mod plot;
mod read;
mod tables;
mod words;

use std::collections::BTreeMap;
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
pub(super) use read::{Record, Row};

/// Writes `summary.md`, `index.html` and `plots/` into each directory, and a short form of the last one into a README.
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
            let readme = args.readme.clone().or_else(|| beside(directory));
            match readme {
                Some(readme) => add_part(&record, &charts, directory, &readme, &mut files)?,
                None => eprintln!("no README.md beside {}: nothing is written into one", directory.display()),
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
fn add_part(record: &Record, charts: &[Drawn], directory: &Path, readme: &Path, files: &mut Files) -> Result<()> {
    let home = readme.canonicalize().with_context(|| format!("cannot read {}", readme.display()))?;
    let is_beside = directory.canonicalize()?.parent() == home.parent();
    let to = if is_beside { record.name.clone() } else { directory.display().to_string() };
    files.insert_part(readme, &markdown::render(&pages::short(record, charts, &to), &format!("{to}/plots")))
}

fn beside(directory: &Path) -> Option<PathBuf> {
    let readme = directory.join("..").join("README.md");
    readme.exists().then_some(readme)
}
