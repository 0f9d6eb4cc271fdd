//! A page that people write, with parts that are made: between `<!-- report:begin NAME -->` and `<!-- report:end -->` stands what the data
//! give for NAME, be it a number in a sentence or a table. What stands outside of them is left alone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

/// The page with its parts as they should be. Each of `parts` has to be on it, once or several times, and no other.
pub(super) fn fill(page: &str, parts: &BTreeMap<String, String>) -> Result<String> {
    let mut used = BTreeSet::new();
    let mut out = String::new();
    for piece in pieces(page)? {
        match piece {
            Piece::Ours(text) => out += text,
            Piece::Made { name, begin } => {
                let part = parts.get(name).with_context(|| format!("`{begin}`: there is no part of this name"))?;
                used.insert(name);
                out += &format!("{begin}{part}{END}");
            }
        }
    }
    let unused: Vec<_> = parts.keys().filter(|name| !used.contains(name.as_str())).collect();
    ensure!(unused.is_empty(), "no `{BEGIN} NAME -->` with a `{END}` behind it for {unused:?}");
    Ok(out)
}

/// A table or paragraphs, which stand on lines of their own.
pub(super) fn block(text: &str) -> String {
    format!("\n\n{}\n\n", text.trim_end())
}

/// Numbers with a unit that stand outside of all parts, with their lines: nobody would notice if they were wrong.
pub(super) fn unexplained(page: &str) -> Result<Vec<String>> {
    let ours: String = pieces(page)?
        .into_iter()
        .map(|piece| match piece {
            Piece::Ours(text) => text,
            Piece::Made { .. } => MADE,
        })
        .collect();
    let found = ours.lines().filter(|line| has_measurement(line));
    Ok(found.map(str::to_owned).collect())
}

enum Piece<'a> {
    Ours(&'a str),
    /// With the marker before it.
    Made {
        name: &'a str,
        begin: &'a str,
    },
}

fn pieces(page: &str) -> Result<Vec<Piece<'_>>> {
    let (mut pieces, mut rest) = (Vec::new(), page);
    while let Some(at) = rest.find(BEGIN) {
        let (ours, from) = rest.split_at(at);
        let length = from.find("-->").with_context(|| format!("a `{BEGIN}` without its end"))? + "-->".len();
        let (begin, from) = from.split_at(length);
        let (part, behind) = from.split_once(END).with_context(|| format!("`{begin}`: no `{END}` behind it"))?;
        ensure!(!part.contains(BEGIN) && !ours.contains(END), "`{begin}`: parts lie within each other");
        let name = begin[BEGIN.len()..].trim_end_matches("-->").trim();
        pieces.extend([Piece::Ours(ours), Piece::Made { name, begin }]);
        rest = behind;
    }
    ensure!(!rest.contains(END), "a `{END}` without its beginning");
    pieces.push(Piece::Ours(rest));
    Ok(pieces)
}

/// Whether a number with a unit is in the line. A number that goes on from a word is none: `ADR-003`, `x86-64`.
fn has_measurement(line: &str) -> bool {
    let letters: Vec<char> = line.chars().collect();
    (0..letters.len()).any(|at| {
        let starts = letters[at].is_ascii_digit()
            && (at == 0 || !(letters[at - 1].is_alphanumeric() || matches!(letters[at - 1], '.' | '-' | '_')));
        starts && {
            let number = letters[at..].iter().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ',')).count();
            let behind: String =
                letters[at + number..].iter().skip_while(|c| matches!(c, ' ' | '\u{a0}' | '-')).collect();
            let unit: String = behind.chars().take_while(|c| c.is_alphabetic()).collect();
            behind.starts_with(['%', '×']) || UNITS.contains(&unit.as_str())
        }
    })
}

const BEGIN: &str = "<!-- report:begin";
const END: &str = "<!-- report:end -->";
/// Stands for a part while the text around it is looked at: no digit, no letter.
const MADE: &str = "…";
/// What makes a number a measurement, beside `%` and `×`.
const UNITS: &[&str] = &[
    "ns",
    "µs",
    "μs",
    "us",
    "ms",
    "s",
    "seconds",
    "min",
    "minutes",
    "x",
    "times",
    "fold",
    "percent",
    "calls",
    "lines",
    "blocks",
    "traces",
    "executions",
    "bytes",
    "KiB",
    "cycles",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(parts: &[(&str, &str)]) -> BTreeMap<String, String> {
        parts.iter().map(|(name, part)| ((*name).to_owned(), (*part).to_owned())).collect()
    }

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let page = |part: &str, number: &str| {
            format!("# Mine\n{BEGIN} -->{part}{END}\nmine: {BEGIN} n -->{number}{END}, {BEGIN} n -->{number}{END}.\n")
        };
        let filled = fill(&page("old", ""), &parts(&[("", &block("new\n")), ("n", "3 ms")])).unwrap();
        assert_eq!(filled, page("\n\nnew\n\n", "3 ms"));
        assert_eq!(fill(&filled, &parts(&[("", "newer"), ("n", "4")])).unwrap(), page("newer", "4"));
    }

    #[test]
    fn a_page_with_other_markers_is_refused() {
        let begin = format!("{BEGIN} -->");
        for broken in [
            "no markers".to_owned(),
            format!("{END}{begin}"),
            format!("{begin}{begin}{END}"),
            format!("{begin}{END}{END}"),
            format!("{begin}{END}{BEGIN} other -->{END}"),
            format!("{begin}{END}{BEGIN}"),
        ] {
            assert!(fill(&broken, &parts(&[("", "x")])).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_number_with_a_unit_has_to_be_made() {
        for text in [
            "takes 5 µs",
            "5.63µs",
            "10\u{a0}×",
            "**5 %** of it",
            "(12 ms)",
            "1,200 lines of code",
            "a 32-byte read of 2 calls",
        ] {
            assert_eq!(unexplained(text).unwrap(), [text]);
        }
        for text in [
            "ADR-003 says so",
            "x86-64 seconds",
            "2026-11-26",
            "1. first",
            "of 2024-10-10",
            "Rust 1.88",
            "no number, ms",
        ] {
            assert!(unexplained(text).unwrap().is_empty(), "{text}");
        }
        assert!(unexplained(&format!("takes {BEGIN} n -->5 µs{END}")).unwrap().is_empty());
        assert_eq!(unexplained(&format!("takes {BEGIN} n -->5 µs{END}, or 6 µs")).unwrap().len(), 1);
    }
}
