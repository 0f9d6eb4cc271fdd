//! The house is in order: the layers hold, unsafe code is where it is said to be, and files are short.
//!
//! The layers are those of the table in `docs/architecture.md`. What is looked at are the paths in `src/` that begin with `crate`,
//! `super` or `self`, whether imported or used in place; a module's paths into its own children are not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Compiled for tests, the model checker or the fuzzer only; these look into everything.
const TESTS: [&str; 5] = ["shm::documented", "shm::fuzzing", "shm::model", "shm::orders", "shm::tests"];

#[derive(Debug)]
struct Layer {
    name: String,
    modules: Vec<String>,
    uses: Vec<String>,
}

#[test]
fn no_layer_uses_one_that_it_should_not() {
    let layers = layers();
    let public = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let mut forbidden = Vec::new();
    let mut arrows = 0;
    for file in files("src") {
        let module = module_of(&file);
        if module.is_empty() || module == "bin::transport-lab" || TESTS.contains(&module.as_str()) {
            continue;
        }
        let own = layer_of(&layers, &module)
            .unwrap_or_else(|| panic!("{module} is in no layer of the table in docs/architecture.md"));
        let text = fs::read_to_string(&file).expect("a source");
        for path in paths(&module, &text) {
            arrows += 1;
            let allowed = match layer_of(&layers, &path) {
                Some(layer) if layer.name == own.name => true,
                // What the root re-exports is public. So is what lies in a public module, unless it says otherwise.
                None => own.name == "lab",
                Some(_) if own.name == "lab" => is_public(&public, &path),
                Some(layer) => own.uses.contains(&layer.name),
            };
            if !allowed {
                forbidden.push(format!("{} ({}) uses {path}", file.display(), own.name));
            }
        }
    }
    assert!(forbidden.is_empty(), "against docs/architecture.md:\n{}", forbidden.join("\n"));
    assert!(arrows > 400, "{arrows} paths were found; there used to be more");
}

#[test]
fn unsafe_code_is_where_it_is_said_to_be() {
    let documented: BTreeSet<String> = table("file").into_iter().map(|row| unquoted(&row[0])).collect();
    let allowing = files("src").into_iter().filter(|file| {
        let text = fs::read_to_string(file).expect("a source");
        text.lines().any(|line| line.trim_start().starts_with("#![allow(unsafe_code"))
    });
    let allowing: BTreeSet<String> = allowing.map(|file| relative(&file)).collect();
    assert_eq!(allowing, documented);
}

#[test]
fn files_are_short() {
    let long: Vec<String> = ["src", "tests", "benches", "examples", "fuzz/targets"]
        .into_iter()
        .flat_map(files)
        .filter(|file| fs::read_to_string(file).expect("a source").lines().count() > 500)
        .map(|file| relative(&file))
        .collect();
    assert!(long.is_empty(), "of more than 500 lines: {long:?}");
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = "use super::ring::{Consumer, Producer as P};\n// crate::comment\nuse crate::{\n    a::{self, B},\n    c,\n};\n\
                fn f() { crate::socket::poll(x) }\nmod inner {\n    use super::*;\n    super::super::up::f();\n}\n\
                mod tests {\n    use crate::never;\n}\n";
    let expected = [
        "shm::ring::Consumer",
        "shm::ring::Producer",
        "a::self",
        "a::B",
        "c",
        "socket::poll",
        "shm::doorbell::*",
        "shm::up::f",
    ];
    assert_eq!(paths("shm::doorbell", text), expected);
}

/// The table of the layers. A layer may use those above it only, so that there is no circle.
fn layers() -> Vec<Layer> {
    let list = |cell: &str| cell.split(',').map(unquoted).filter(|name| !name.is_empty()).collect::<Vec<_>>();
    let mut layers: Vec<Layer> = Vec::new();
    for row in table("layer") {
        let uses = if row[2] == "the public API" { Vec::new() } else { list(&row[2]) };
        for name in &uses {
            assert!(layers.iter().any(|layer| layer.name == *name), "{} uses {name}, which is not above it", row[0]);
        }
        let layer = Layer { name: row[0].clone(), modules: list(&row[1]), uses };
        for module in &layer.modules {
            let file = module.replace("::", "/");
            let exists = |tail: &str| root().join(format!("src/{file}{tail}")).is_file();
            assert!(exists(".rs") || exists("/mod.rs"), "docs/architecture.md names {module}, which is not there");
        }
        layers.push(layer);
    }
    assert!(layers.len() > 10, "{layers:?}");
    layers
}

/// The layer whose module is the longest beginning of `path`.
fn layer_of<'l>(layers: &'l [Layer], path: &str) -> Option<&'l Layer> {
    let inside = |module: &str| path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let modules = layers.iter().flat_map(|layer| layer.modules.iter().map(move |module| (module, layer)));
    modules.filter(|(module, _)| inside(module)).max_by_key(|(module, _)| module.len()).map(|(_, layer)| layer)
}

/// Whether what lies at `path` can be named from outside, as far as its module's text shows.
fn is_public(lib: &str, path: &str) -> bool {
    let mut segments = path.split("::");
    let module = segments.next().expect("a segment");
    if !lib.lines().any(|line| line == format!("pub mod {module};")) {
        return false;
    }
    let Some(item) = segments.next() else { return true };
    let place = |tail: &str| fs::read_to_string(root().join(format!("src/{module}{tail}"))).ok();
    let text = place(".rs").or_else(|| place("/mod.rs")).expect("a module's file");
    let names = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == item);
    !text.lines().any(|line| line.contains("pub(crate)") && names(line))
}

/// The paths in a module's text that begin in this crate, from the root on. Relies on the text being formatted: what begins with
/// `mod NAME {` in the first column ends with `}` there.
fn paths(module: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inline: Option<String> = None;
    let mut part = String::new();
    let mut end = |inline: &Option<String>, part: &mut String| {
        let code = std::mem::take(part);
        match inline.as_deref() {
            Some("tests") => {}
            Some(name) => find(&format!("{module}::{name}"), &code, &mut found),
            None => find(module, &code, &mut found),
        }
    };
    for line in text.lines() {
        let name = line.strip_suffix(" {").and_then(|line| line.rsplit_once("mod ")).map(|(_, name)| name);
        match name {
            Some(name) if !line.starts_with([' ', '/']) => {
                end(&inline, &mut part);
                inline = Some(name.to_owned());
            }
            _ if line == "}" && inline.is_some() => {
                end(&inline, &mut part);
                inline = None;
            }
            _ => {
                part += line.split("//").next().unwrap_or_default();
                part.push('\n');
            }
        }
    }
    end(&inline, &mut part);
    found
}

fn find(module: &str, code: &str, found: &mut Vec<String>) {
    for (at, _) in code.match_indices("::") {
        let before = &code[..at];
        let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        // The first segment of a path only.
        if before[..start].ends_with("::") {
            continue;
        }
        let base = match &before[start..] {
            "crate" => String::new(),
            "self" => module.to_owned(),
            "super" => parent(module).to_owned(),
            _ => continue,
        };
        tree(&base, &mut &code[at + 2..], found);
    }
}

/// A path, or a tree of them, from behind its first `::` on; leaves `rest` behind it.
fn tree(base: &str, rest: &mut &str, found: &mut Vec<String>) {
    *rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('{') {
        *rest = inner.trim_start();
        while !rest.starts_with('}') {
            tree(base, rest, found);
            // Up to the next branch: `as NAME`, a comma.
            let next = rest.find([',', '}']).expect("a closed brace");
            *rest = rest[next..].trim_start_matches(',').trim_start();
        }
        *rest = &rest[1..];
        return;
    }
    let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(rest.len());
    let (segment, behind) = rest.split_at(length);
    let path = match segment {
        "super" => parent(base).to_owned(),
        _ if base.is_empty() => segment.to_owned(),
        _ => format!("{base}::{segment}"),
    };
    *rest = behind;
    match behind.strip_prefix("::") {
        Some(deeper) if !deeper.starts_with('<') => {
            *rest = deeper;
            tree(&path, rest, found);
        }
        _ => found.push(path),
    }
}

fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}

/// A table of `docs/architecture.md` by its first heading, without the headings.
fn table(first: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md");
    let rows = text.lines().skip_while(|line| !line.starts_with(&format!("| {first} |"))).skip(2);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches('`').to_owned()
}

fn module_of(file: &Path) -> String {
    let path = relative(file);
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    if path == "lib" { String::new() } else { path.trim_end_matches("/mod").replace('/', "::") }
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).expect("inside").to_str().expect("UTF-8").to_owned()
}

/// The sources of a directory, sorted; packages inside it are others'.
fn files(directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut todo = vec![root().join(directory)];
    while let Some(directory) = todo.pop() {
        // A package that was published comes without what is not its own.
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.join("Cargo.toml").exists() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
