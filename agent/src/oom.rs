//! The kernel's memory accounting for the agent's cgroup, which also holds its workers: the number of processes
//! killed for lack of memory, and the memory limit.
//!
//! cgroup version 2 has these values in `memory.events` and `memory.max`, version 1 in `memory.oom_control` and
//! `memory.limit_in_bytes`. If the agent has no cgroup of its own, these values are unknown.

use std::fs;
use std::path::{Path, PathBuf};

/// Mount point of the cgroups.
const MOUNT: &str = "/sys/fs/cgroup";
/// Threshold for "no limit", in bytes: version 1 reports no limit as a huge number.
const UNLIMITED: u64 = 1 << 60;

/// Files with the memory values of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MemoryController {
    /// File with a line `oom_kill N`.
    events_file: PathBuf,
    limit_file: PathBuf,
}

impl MemoryController {
    /// Returns the controller of this process's cgroup, if there is one.
    fn of_this_process() -> Option<Self> {
        Self::find(Path::new(MOUNT), &fs::read_to_string("/proc/self/cgroup").ok()?)
    }

    /// Returns the controller of a process from the content of its `/proc/PID/cgroup`.
    fn find(mount: &Path, cgroup: &str) -> Option<Self> {
        let lines = || cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let version_1 = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
        let (mount, events, limit, path) = if let Some((_, path)) = version_1 {
            (mount.join("memory"), "memory.oom_control", "memory.limit_in_bytes", path)
        } else {
            let (_, path) = lines().find(|(controllers, _)| controllers.is_empty())?;
            (mount.to_owned(), "memory.events", "memory.max", path)
        };
        // In a container, the path can be one on the host, while the mount shows only the container's own cgroup.
        let candidates = [mount.join(path.trim_start_matches('/')), mount];
        let dir = candidates.into_iter().find(|dir| read_kill_count(&dir.join(events)).is_some())?;
        Some(Self { events_file: dir.join(events), limit_file: dir.join(limit) })
    }

    /// Returns the number of processes that the kernel has killed for lack of memory.
    fn kill_count(&self) -> u64 {
        read_kill_count(&self.events_file).unwrap_or(0)
    }

    /// Returns the memory limit in bytes, or `None` without a limit.
    fn limit(&self) -> Option<u64> {
        let limit = fs::read_to_string(&self.limit_file).ok()?.trim().parse().ok()?;
        (limit < UNLIMITED).then_some(limit)
    }
}

/// Watches for processes that the kernel kills for lack of memory while a command runs.
#[derive(Debug)]
pub(crate) struct OomWatch {
    controller: Option<MemoryController>,
    initial_kill_count: u64,
    is_only_job: bool,
}

/// Kill of a process by the kernel for lack of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OomKill {
    /// Memory limit in bytes; `None` if the machine itself ran out of memory.
    pub(crate) memory_limit: Option<u64>,
    /// True if the memory limit is that of a single job.
    pub(crate) is_only_job: bool,
}

impl OomWatch {
    /// Starts to watch. `is_only_job` is true if the agent runs no other job.
    pub(crate) fn start(is_only_job: bool) -> Self {
        let memory = MemoryController::of_this_process();
        Self {
            initial_kill_count: memory.as_ref().map_or(0, MemoryController::kill_count),
            controller: memory,
            is_only_job,
        }
    }

    /// Returns a kill if the kernel has killed a process for lack of memory since [`start`](Self::start).
    pub(crate) fn oom_kill(&self) -> Option<OomKill> {
        let memory =
            self.controller.as_ref().filter(|memory| memory.kill_count() > self.initial_kill_count)?;
        Some(OomKill { memory_limit: memory.limit(), is_only_job: self.is_only_job })
    }
}

fn read_kill_count(events: &Path) -> Option<u64> {
    let text = fs::read_to_string(events).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create_files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn find_values(dir: &tempfile::TempDir, cgroup: &str) -> Option<(u64, Option<u64>)> {
        MemoryController::find(dir.path(), cgroup).map(|memory| (memory.kill_count(), memory.limit()))
    }

    #[test]
    fn version_2_is_read_on_a_host_and_in_a_container() {
        let dir = create_files(&[
            ("user.slice/memory.events", "low 0\noom 2\noom_kill 2\noom_group_kill 0\n"),
            ("user.slice/memory.max", "max\n"),
            ("memory.events", "oom_kill 1\n"),
            ("memory.max", "314572800\n"),
        ]);
        assert_eq!(find_values(&dir, "0::/user.slice\n"), Some((2, None)));
        assert_eq!(find_values(&dir, "0::/\n"), Some((1, Some(314_572_800))));
        assert_eq!(find_values(&dir, "0::/docker/5b\n"), Some((1, Some(314_572_800))), "a path of the host");
    }

    #[test]
    fn version_1_is_read_also_beside_version_2() {
        let dir = create_files(&[
            ("memory/docker/5b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            ("memory/docker/5b/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        let cgroup = "5:devices:/x\n4:cpu,memory:/docker/5b\n0::/docker/5b\n";
        assert_eq!(find_values(&dir, cgroup), Some((3, None)));
    }

    #[test]
    fn a_cgroup_without_memory_files_has_no_controller() {
        let dir = create_files(&[("memory.stat", "")]);
        assert_eq!(find_values(&dir, "0::/\n"), None);
        assert_eq!(find_values(&dir, ""), None);
        assert_eq!(find_values(&dir, "garbage"), None);
    }
}
