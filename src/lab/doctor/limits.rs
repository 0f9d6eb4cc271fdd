//! What this process may use: CPU time and memory of its control group, room for named segments, descriptors, the size of files.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::{Finding, read};
use crate::RingCapacity;

pub(super) fn look(cores: usize) -> Vec<Finding> {
    let (cgroup, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
    let (cgroup, mounts) = (cgroup.unwrap_or_default(), mounts.unwrap_or_default());
    let file = |group: &Path, name: &str| read(&group.join(name).to_string_lossy());
    let quotas = groups(&cgroup, &mounts, "cpu").into_iter().filter_map(|group| {
        let text = file(&group, "cpu.max").or_else(|| {
            Some(format!("{} {}", file(&group, "cpu.cfs_quota_us")?, file(&group, "cpu.cfs_period_us")?))
        })?;
        quota(&text)
    });
    let memories = groups(&cgroup, &mounts, "memory")
        .into_iter()
        .filter_map(|group| bytes(&file(&group, "memory.max").or_else(|| file(&group, "memory.limit_in_bytes"))?));
    let room =
        rustix::fs::statvfs("/dev/shm").map(|stat| (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize));
    vec![
        cpu(quotas.min_by(f64::total_cmp), cores),
        memory(memories.min()),
        shm(room.ok()),
        descriptors(getrlimit(Resource::Nofile).current),
        file_size(getrlimit(Resource::Fsize).current),
    ]
}

fn cpu(quota: Option<f64>, cores: usize) -> Finding {
    match quota {
        None => Finding::ok("CPU quota", "none"),
        Some(quota) if quota >= cores as f64 => {
            Finding::ok("CPU quota", format!("{quota:.2} cores' worth, of {cores}"))
        }
        Some(quota) => Finding::note(
            "CPU quota",
            format!(
                "{quota:.2} cores' worth, of {cores}: whoever has used it up stands still for the rest of the period"
            ),
            "take the quota off (no --cpus) and give whole cores (--cpuset-cpus): ends that poll use it up",
        ),
    }
}

fn memory(limit: Option<u64>) -> Finding {
    match limit {
        None => Finding::ok("memory limit", "none"),
        Some(limit) if limit >= ENOUGH_MEMORY => Finding::ok("memory limit", mib(limit)),
        Some(limit) => Finding::note(
            "memory limit",
            format!("{}; rings count, and whoever is beyond it is killed or waits for memory", mib(limit)),
            format!("allow {}, or measure with few connections and small rings", mib(ENOUGH_MEMORY)),
        ),
    }
}

/// Bytes that are free in `/dev/shm`, and all of them.
fn shm(room: Option<(u64, u64)>) -> Finding {
    let each = 2 * u64::from(RingCapacity::DEFAULT.bytes());
    match room {
        None => {
            Finding::note("/dev/shm", "missing; shm-named:// has its segments there", "mount -t tmpfs tmpfs /dev/shm")
        }
        Some((free, all)) if free >= CONNECTIONS * each => {
            Finding::ok("/dev/shm", format!("{} free of {}", mib(free), mib(all)))
        }
        Some((free, all)) => Finding::note(
            "/dev/shm",
            format!("{} free of {}: the rings of {} connections over shm-named://", mib(free), mib(all), free / each),
            "mount -o remount,size=1g /dev/shm, or --shm-size=1g of a container; shm:// does not need it",
        ),
    }
}

fn descriptors(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit) if limit < 4 * CONNECTIONS => Finding::note(
            "descriptors",
            format!("{limit} a process; a host with {CONNECTIONS} connections needs several for each"),
            format!("ulimit -n {}", 16 * CONNECTIONS),
        ),
        limit => Finding::ok("descriptors", limit.map_or("no limit".to_owned(), |limit| format!("{limit} a process"))),
    }
}

fn file_size(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit) if limit < LARGEST_SEGMENT => Finding::note(
            "file size",
            format!("at most {limit} bytes; segments are files, and the kernel ends who makes a larger one (SIGXFSZ)"),
            "ulimit -f unlimited",
        ),
        limit => {
            Finding::ok("file size", limit.map_or("no limit".to_owned(), |limit| format!("at most {}", mib(limit))))
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// The directories of this process's control group for `controller`, the group's own first, then those that it lies in: a limit of
/// any of them holds. From `/proc/self/cgroup` and `/proc/self/mountinfo`, of both versions of control groups.
fn groups(cgroup: &str, mountinfo: &str, controller: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for line in cgroup.lines() {
        // number:controllers:path; version 2 names no controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let unified = controllers.is_empty();
        if !unified && !controllers.split(',').any(|name| name == controller) {
            continue;
        }
        let mount = mountinfo.lines().find_map(|line| {
            // id parent device root place options … - type source options
            let (place, kind) = line.split_once(" - ")?;
            let (mut place, mut kind) = (place.split(' ').skip(3), kind.split(' '));
            let (root, place, kind, options) = (place.next()?, place.next()?, kind.next()?, kind.nth(1)?);
            let wanted = match kind {
                "cgroup2" => unified,
                "cgroup" => !unified && options.split(',').any(|name| name == controller),
                _ => false,
            };
            wanted.then_some((root, Path::new(place)))
        });
        let Some((root, place)) = mount else { continue };
        // Where only a part of the tree is mounted, as in a container, that part is all that can be seen.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let group = place.join(below);
        all.extend(group.ancestors().take_while(|group| group.starts_with(place)).map(Path::to_owned));
    }
    all
}

/// Cores' worth of time, of `quota period` in microseconds; `None` for no limit (`max` or -1) and for what says nothing.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

/// `None` for no limit: `max`, or in version 1 as good as all that there are numbers for.
fn bytes(text: &str) -> Option<u64> {
    text.parse().ok().filter(|bytes| *bytes < 1 << 60)
}

/// As many as the lab opens at once.
const CONNECTIONS: u64 = 256;
/// Two processes, such a number of connections, and room for the recorded executions.
const ENOUGH_MEMORY: u64 = 1 << 30;
/// The largest ring that `lab record` tries, and its header.
const LARGEST_SEGMENT: u64 = (4096 + 4) << 10;

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn groups_of_version_2_with_those_above() {
        let mounts =
            "23 1 0:22 / /sys rw - sysfs sysfs rw\n30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw";
        assert_eq!(
            groups("0::/user.slice/lab.scope\n", mounts, "cpu"),
            ["/sys/fs/cgroup/user.slice/lab.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"].map(PathBuf::from)
        );
        assert_eq!(groups("0::/\n", mounts, "memory"), [PathBuf::from("/sys/fs/cgroup/")]);
    }

    #[test]
    fn groups_of_version_1_and_of_a_container() {
        let mounts = "32 31 0:29 /docker/ab /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpuacct,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        let cgroup = "4:memory:/docker/ab\n2:cpuacct,cpu:/docker/ab\n1:cpuset:/\n0::/\n";
        assert_eq!(groups(cgroup, mounts, "cpu"), [PathBuf::from("/sys/fs/cgroup/cpu/")]);
        let memory = ["docker/ab", "docker", ""].map(|group| PathBuf::from("/sys/fs/cgroup/memory").join(group));
        assert_eq!(groups(cgroup, mounts, "memory"), memory);
    }

    #[test]
    fn nothing_comes_of_broken_tables() {
        for broken in ["", "0", "0:", ":::", "0::/x", "a\nb"] {
            assert_eq!(
                groups(broken, "30 23 0:26 / - cgroup2\n - cgroup2 a b\n-", "cpu"),
                Vec::<PathBuf>::new(),
                "{broken}"
            );
        }
    }

    #[test]
    fn quotas_and_bytes() {
        assert_eq!(quota("150000 100000"), Some(1.5));
        for unlimited in ["max 100000", "-1 100000", "", "100000", "1 0", "a b"] {
            assert_eq!(quota(unlimited), None, "{unlimited}");
        }
        assert_eq!(bytes("1073741824"), Some(1 << 30));
        for unlimited in ["max", "9223372036854771712", "", "-1"] {
            assert_eq!(bytes(unlimited), None, "{unlimited}");
        }
    }

    #[test]
    fn what_is_tight_is_noted() {
        let levels = |findings: &[Finding]| findings.iter().map(|finding| finding.level).collect::<Vec<_>>();
        let wide = [
            cpu(None, 2),
            cpu(Some(2.0), 2),
            memory(None),
            memory(Some(1 << 31)),
            shm(Some((1 << 30, 1 << 30))),
            descriptors(None),
            descriptors(Some(1024)),
            file_size(None),
        ];
        assert_eq!(levels(&wide), [Level::Ok; 8]);
        let tight = [
            cpu(Some(1.5), 2),
            memory(Some(64 << 20)),
            shm(Some((32 << 20, 64 << 20))),
            shm(None),
            descriptors(Some(256)),
            file_size(Some(1 << 20)),
        ];
        assert_eq!(levels(&tight), [Level::Note; 6]);
        assert!(tight[2].seen.starts_with("32 MiB free of 64 MiB: the rings of 128 connections"), "{:?}", tight[2]);
    }
}
