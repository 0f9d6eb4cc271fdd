//! Files as they should be: written where they differ from what is there, or told apart from it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Made, but not yet written.
#[derive(Debug, Default)]
pub(super) struct Files {
    texts: BTreeMap<PathBuf, String>,
    /// Folders in which nothing else may lie.
    whole: Vec<PathBuf>,
}

impl Files {
    pub(super) fn insert(&mut self, path: PathBuf, text: String) {
        self.texts.insert(path, text);
    }

    /// Files in this folder that were not inserted are left over from an earlier report.
    pub(super) fn whole(&mut self, folder: PathBuf) {
        self.whole.push(folder);
    }

    /// Writes what is not there as it should be, and says what it wrote. What is left over stays and is named.
    pub(super) fn write(&self) -> Result<()> {
        for (path, text) in &self.texts {
            if existing(path)?.as_ref() != Some(text) {
                let folder = path.parent().unwrap_or(Path::new(""));
                fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
                fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
                eprintln!("wrote {}", path.display());
            }
        }
        for path in self.left_over()? {
            eprintln!("left over, no part of the report: {}", path.display());
        }
        Ok(())
    }

    /// What differs, as a `diff` would say it; empty if nothing does.
    pub(super) fn differences(&self) -> Result<String> {
        let mut out = String::new();
        for (path, text) in &self.texts {
            match existing(path)? {
                None => out += &format!("missing: {}\n", path.display()),
                Some(existing) if existing == *text => {}
                Some(existing) => {
                    out += &format!("--- {}\n+++ what the data give\n{}", path.display(), difference(&existing, text))
                }
            }
        }
        for path in self.left_over()? {
            out += &format!("left over: {}\n", path.display());
        }
        Ok(out)
    }

    fn left_over(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for folder in self.whole.iter().filter(|folder| folder.exists()) {
            for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
                let path = folder.join(entry?.file_name());
                if !self.texts.contains_key(&path) {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

fn existing(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The lines between the first and the last that differ, a few of them from both sides.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let alike = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let behind = old[alike..].iter().rev().zip(new[alike..].iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[alike..old.len() - behind], &new[alike..new.len() - behind]);
    let mut out = format!("@@ line {} @@\n", alike + 1);
    for (sign, lines) in [('-', old), ('+', new)] {
        for line in lines.iter().take(SHOWN) {
            let cut: String = line.chars().take(WIDTH).collect();
            out += &format!("{sign}{cut}{}\n", if cut.len() < line.len() { "…" } else { "" });
        }
        if lines.len() > SHOWN {
            out += &format!("{sign} and {} lines more\n", lines.len() - SHOWN);
        }
    }
    out
}

/// Lines of a difference from either side, and letters of each.
const SHOWN: usize = 8;
const WIDTH: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_differs() {
        assert_eq!(difference("a\nb\nc\nd\n", "a\nB\nd\n"), "@@ line 2 @@\n-b\n-c\n+B\n");
        assert_eq!(difference("a\n", "a\nb\n"), "@@ line 2 @@\n+b\n");
        let long = "x\n".repeat(20);
        assert_eq!(difference(&long, "").lines().count(), 2 + SHOWN);
    }

    #[test]
    fn what_is_missing_or_left_over_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let plots = directory.path().join("plots");
        fs::create_dir(&plots).unwrap();
        fs::write(plots.join("old.svg"), "").unwrap();
        let mut files = Files::default();
        files.insert(plots.join("new.svg"), String::new());
        files.whole(plots.clone());
        let said = format!("missing: {0}/new.svg\nleft over: {0}/old.svg\n", plots.display());
        assert_eq!(files.differences().unwrap(), said);
    }
}
