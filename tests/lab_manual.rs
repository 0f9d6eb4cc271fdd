//! `transport-lab manual`: pages and completions know every verb of the help, and are what `man` and the shells can read. A shell or a
//! `man` that is not installed reads nothing.
#![cfg(feature = "lab")]

mod support;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use support::directory;

const COMPLETIONS: [&str; 3] = ["transport-lab.bash", "_transport-lab", "transport-lab.fish"];

#[test]
fn every_verb_has_a_page_and_is_completed() {
    let directory = directory();
    let written = manual(directory.path());
    let verbs = verbs(&[]);
    assert!(verbs.len() >= 7, "{verbs:?}");
    let main = written("transport-lab.1");
    for verb in &verbs {
        assert!(main.contains(&page_name(&[verb])), "transport-lab.1 does not name {verb}");
        assert!(written(&format!("transport-lab-{verb}.1")).contains(".SH OPTIONS"), "{verb}");
        for script in COMPLETIONS {
            assert!(written(script).contains(verb), "{script} does not know {verb}");
        }
    }
    for study in self::verbs(&["study"]) {
        assert!(written("transport-lab-study.1").contains(&page_name(&["study", &study])), "{study}");
        assert!(written(&format!("transport-lab-study-{study}.1")).contains(".SH OPTIONS"), "{study}");
    }
    // What the lab starts itself as is nobody's business.
    for script in COMPLETIONS {
        assert!(!written(script).contains("worker"), "{script}");
    }
}

#[test]
fn man_and_the_shells_read_them() {
    let directory = directory();
    let written = manual(directory.path());
    let path = |name: &str| directory.path().join("share").join(name).display().to_string();
    if let Some(page) = said("man", &["--warnings=mac", "-E", "ascii", "-l", &path("transport-lab-replay.1")]) {
        assert!(page.contains("--connect <ADDRESS>"), "{page}");
    }
    let complete = "source \"$1\"; COMP_WORDS=(transport-lab rep); COMP_CWORD=1; COMPREPLY=(); \
                    function=$(complete -p transport-lab | grep -o '\\-F [^ ]*' | cut -c 4-); \
                    $function transport-lab rep transport-lab; echo \"${COMPREPLY[@]}\"";
    if let Some(completed) = said("bash", &["-c", complete, "bash", &path("transport-lab.bash")]) {
        let mut completed: Vec<&str> = completed.split_whitespace().collect();
        completed.sort_unstable();
        assert_eq!(completed, ["replay", "report"]);
    }
    assert!(written("_transport-lab").starts_with("#compdef transport-lab"));
    for (shell, name) in [("zsh", "_transport-lab"), ("fish", "transport-lab.fish")] {
        let _ = said(shell, &["-n", &path(name)]);
    }
}

/// Writes into a folder that is not there yet, and hands out what then lies in it.
fn manual(directory: &Path) -> impl Fn(&str) -> String {
    let directory = directory.join("share");
    let target = directory.display().to_string();
    assert_eq!(said(env!("CARGO_BIN_EXE_transport-lab"), &["manual", &target]).as_deref(), Some(""));
    move |name| fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The verbs that `--help` lists.
fn verbs(of: &[&str]) -> Vec<String> {
    let help = said(env!("CARGO_BIN_EXE_transport-lab"), &[of, &["--help"]].concat()).expect("transport-lab");
    let listed = help.split("Commands:\n").nth(1).expect("verbs").split("\n\n").next().expect("a first part");
    let names = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// As pages refer to pages, with dashes that are no hyphens.
fn page_name(verbs: &[&str]) -> String {
    format!("transport\\-lab\\-{}(1)", verbs.join("\\-"))
}

/// What a program says on its standard output; nothing if it is not there. It has to succeed, and to say nothing else.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: there is no {program}");
            return None;
        }
        output => output.expect(program),
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{program} {arguments:?}: {complaints}");
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}
