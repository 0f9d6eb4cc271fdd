//! Where numbers come from: machine, kernel, build.

use std::fs;
use std::process::Command;

use serde::Serialize;

use super::process::cores;

/// What a reader needs to know before comparing numbers with those of another machine.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    /// Cores that this process may use.
    pub(super) cores: usize,
    /// Whether a hypervisor runs this machine: its cores halt and move.
    pub(super) virtualised: bool,
    pub(super) memory_kib: u64,
    pub(super) kernel: String,
    pub(super) version: &'static str,
    pub(super) features: Vec<&'static str>,
    pub(super) debug_build: bool,
    /// The commit that the working directory is at, if it is a checkout.
    pub(super) commit: Option<String>,
    pub(super) rustc: Option<String>,
}

impl Machine {
    pub(super) fn look() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemTotal"));
        let flags = field(&cpuinfo, "flags").unwrap_or_default();
        let features = [
            ("uds", cfg!(feature = "uds")),
            ("shm", cfg!(feature = "shm")),
            ("shm-named", cfg!(feature = "shm-named")),
            ("tcp", cfg!(feature = "tcp")),
            ("prefer-shm", cfg!(feature = "prefer-shm")),
            ("capi", cfg!(feature = "capi")),
            ("metrics", cfg!(feature = "metrics")),
            ("lab", true),
            ("peers", cfg!(feature = "peers")),
        ];
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: cores().len(),
            virtualised: flags.split_whitespace().any(|flag| flag == "hypervisor"),
            memory_kib: memory.and_then(|text| text.trim_end_matches(" kB").parse().ok()).unwrap_or(0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            features: features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect(),
            debug_build: cfg!(debug_assertions),
            commit: output("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
            rustc: output("rustc", &["--version"]),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let virtualised = if self.virtualised { "virtual machine" } else { "bare metal" };
        write!(f, "{}, {} cores, {virtualised}, Linux {}", processor(&self.cpu), self.cores, self.kernel)?;
        if self.debug_build { write!(f, ", DEBUG BUILD") } else { Ok(()) }
    }
}

/// What tells a processor from others, without trade marks and what all of them are: a line has room for it then.
pub(super) fn processor(cpu: &str) -> String {
    let cpu = cpu.split('@').next().unwrap_or_default().replace("(R)", " ").replace("(TM)", " ");
    cpu.split_whitespace().filter(|word| !["CPU", "Processor"].contains(word)).collect::<Vec<_>>().join(" ")
}

/// What a program prints, if it is there and content.
pub(super) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_processor_is_called_what_people_call_it() {
        for (cpu, called) in [
            ("Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz", "Intel Xeon Platinum 8488C"),
            ("Intel(R) Xeon(R) Processor", "Intel Xeon"),
            ("Intel(R) Core(TM) i7-1365U", "Intel Core i7-1365U"),
            ("AMD EPYC", "AMD EPYC"),
            ("aarch64", "aarch64"),
        ] {
            assert_eq!(super::processor(cpu), called);
        }
    }
}
