//! The same pages as one HTML file: plots and style within, nothing to fetch, no script. A number says where it comes from when one
//! points at it, too.

use std::collections::BTreeMap;

use super::page::{Block, Line, Piece, Table, Value};

/// A whole page; `plots` has the SVG of each figure by its name.
pub(super) fn render(title: &str, blocks: &[Block], plots: &BTreeMap<&'static str, String>) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<main>\n",
        escaped(title)
    );
    for block in blocks {
        out += &match block {
            Block::Heading(level, text) => format!("<h{level}>{}</h{level}>\n", escaped(text)),
            Block::Text(text) => format!("<p>{}</p>\n", line(text)),
            Block::List(lines) => {
                let items: String = lines.iter().map(|text| format!("<li>{}</li>\n", line(text))).collect();
                format!("<ul>\n{items}</ul>\n")
            }
            Block::Table(rows) => table(rows),
            Block::Figure { name, title, caption } => format!(
                "<figure id=\"{name}\">\n{}<figcaption><b>{}.</b> {} <a href=\"plots/{name}.csv\">Data</a>.</figcaption>\n</figure>\n",
                labelled(plots.get(name).map_or("", String::as_str), title),
                escaped(title),
                escaped(caption),
            ),
            Block::Printed(text) => format!("<pre>{}</pre>\n", escaped(text.trim_end())),
        };
    }
    out + "</main>\n</body>\n</html>\n"
}

/// The picture with a name for those who do not see it.
fn labelled(svg: &str, title: &str) -> String {
    svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", escaped(title)), 1)
}

fn line(line: &Line) -> String {
    let pieces = line.0.iter().map(|piece| match piece {
        Piece::Text(text) => escaped(text),
        Piece::Strong(text) => format!("<strong>{}</strong>", escaped(text)),
        Piece::Code(text) => format!("<code>{}</code>", escaped(text)),
        Piece::Link { text, to } => format!("<a href=\"{}\">{}</a>", escaped(to), escaped(text)),
        Piece::Value(value) => {
            let mut sources: Vec<_> = value.sources.iter().map(ToString::to_string).collect();
            sources.dedup();
            let shown =
                if sources.is_empty() { String::new() } else { format!(" <small>[{}]</small>", sources.join(", ")) };
            format!("<span{}>{}</span>{shown}", origin(value), escaped(&value.text))
        }
    });
    pieces.collect()
}

fn table(table: &Table) -> String {
    let mut out = "<div class=\"wide\"><table>\n<thead><tr>".to_owned();
    for name in table.header.iter().chain([&table.sources_header()]) {
        out += &format!("<th>{}</th>", escaped(name));
    }
    out += "</tr></thead>\n<tbody>\n";
    for line in &table.rows {
        out += "<tr>";
        for value in line {
            out += &format!("<td{}>{}</td>", origin(value), escaped(&value.text));
        }
        out += &format!("<td>{}</td></tr>\n", escaped(&table.sources(line)));
    }
    out + "</tbody>\n</table></div>\n"
}

/// The attribute that names the columns and rows of a number.
fn origin(value: &Value) -> String {
    let each = value.sources.iter().map(|source| format!("{}.csv, row {}, {}", source.part, source.row, source.column));
    match each.collect::<Vec<_>>().join("; ") {
        none if none.is_empty() => none,
        all => format!(" title=\"{}\"", escaped(&all)),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Plots keep their white ground in the dark: their colours are chosen for it.
const STYLE: &str = "\
:root { color-scheme: light dark; --text: #1b1b1b; --quiet: #595959; --line: #d4d4d4; --ground: #ffffff; --band: #f4f4f2; --link: #005a9c; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --quiet: #a8a8a8; --line: #454545; --ground: #161616; --band: #222222; --link: #7cc4f8; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 1140px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1.6em; line-height: 1.25; }
h2 { font-size: 1.3em; margin: 2em 0 0.5em; padding-top: 0.5em; border-top: 1px solid var(--line); }
h3 { font-size: 1.05em; margin: 1.6em 0 0.4em; }
a { color: var(--link); }
small { color: var(--quiet); font-size: 0.75em; white-space: nowrap; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.88em; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25em 0.7em; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { vertical-align: bottom; background: var(--band); }
th:first-child, td:first-child { text-align: left; }
th:last-child, td:last-child { color: var(--quiet); font-weight: normal; font-size: 0.85em; }
figure { margin: 1.5em 0; max-width: 820px; }
figure svg { display: block; width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line); border-radius: 4px; }
figcaption { color: var(--quiet); font-size: 0.88em; padding-top: 0.4em; }
pre { overflow-x: auto; background: var(--band); padding: 0.8em; font-size: 0.78em; line-height: 1.35; overflow-wrap: normal; }
@media print { body { font-size: 11px; } figure, table, pre { break-inside: avoid; } .wide, pre { overflow: visible; } }
";
