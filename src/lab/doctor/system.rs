//! The build, the virtual machine, mitigations, huge pages.

use std::fs;

use super::{Finding, read};

pub(super) fn look(virtualised: bool) -> Vec<Finding> {
    let entries = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let mut told: Vec<(String, String)> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, read(&entry.path().to_string_lossy())?)))
        .collect();
    told.sort();
    let mut found = vec![machine(virtualised), mitigations(&told)];
    found.extend(huge_pages(&read("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default()));
    found
}

pub(super) fn build(debug: bool) -> Finding {
    if debug {
        Finding::problem(
            "build",
            "without optimisation: no number of it says anything",
            "cargo lab builds with --release",
        )
    } else {
        Finding::ok("build", "optimised")
    }
}

fn machine(virtualised: bool) -> Finding {
    if virtualised {
        Finding::note(
            "machine",
            "virtual: a hypervisor halts its cores, moves them and lends them to others",
            "believe ratios to the floor rather than times; for the times of waking take real hardware",
        )
    } else {
        Finding::ok("machine", "no hypervisor shows itself")
    }
}

/// What the kernel says of each hardware vulnerability.
fn mitigations(told: &[(String, String)]) -> Finding {
    let named = |begins: &str| {
        let names = told.iter().filter(|(_, text)| text.starts_with(begins)).map(|(name, _)| name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let parts: Vec<String> = [("Mitigation", "in force"), ("Vulnerable", "left open"), ("KVM", "for guests")]
        .into_iter()
        .map(|(begins, what)| (named(begins), what))
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, what)| format!("{what}: {names}"))
        .collect();
    match (told.len(), parts.is_empty()) {
        (0, _) => Finding::ok("mitigations", "the system does not say"),
        (all, true) => Finding::ok("mitigations", format!("none in force; vulnerabilities known: {all}")),
        _ => Finding::ok(
            "mitigations",
            format!("{} (system calls cost more with them, sockets therefore too)", parts.join("; ")),
        ),
    }
}

/// Whether memory that processes share may change its pages while it is used.
fn huge_pages(shared: &str) -> Option<Finding> {
    let chosen = shared.split_once('[')?.1.split_once(']')?.0;
    matches!(chosen, "always" | "within_size" | "force").then(|| {
        Finding::note(
            "huge pages",
            format!("{chosen}, for shared memory: a ring's pages may be put together while it is measured"),
            "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn mitigations_are_put_together_by_what_is_done() {
        let told = [
            ("meltdown", "Not affected"),
            ("retbleed", "Mitigation: untrained return thunk; SMT vulnerable"),
            ("spec_store_bypass", "Vulnerable"),
            ("spectre_v1", "Mitigation: usercopy/swapgs barriers"),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()));
        let seen = mitigations(&told).seen;
        assert!(seen.starts_with("in force: retbleed, spectre_v1; left open: spec_store_bypass ("), "{seen}");
        assert_eq!(mitigations(&told[..1]).seen, "none in force; vulnerabilities known: 1");
        assert_eq!(mitigations(&[]).seen, "the system does not say");
    }

    #[test]
    fn huge_pages_matter_where_they_come_by_themselves() {
        assert!(huge_pages("[always] within_size advise never deny force").is_some());
        for harmless in
            ["always within_size [advise] never deny force", "always [never]", "", "[", "]always[", "[always"]
        {
            assert_eq!(huge_pages(harmless), None, "{harmless}");
        }
    }

    #[test]
    fn a_debug_build_is_a_problem() {
        assert_eq!([build(true).level, build(false).level], [Level::Problem, Level::Ok]);
        assert_eq!([machine(true).level, machine(false).level], [Level::Note, Level::Ok]);
    }
}
