//! Counters and limits of the agent's cgroup, which also holds its workers, in the formats of both cgroup versions. If
//! the agent has no cgroup of its own, they are unknown.

use std::fs;
use std::path::{Path, PathBuf};

/// Mount point of the cgroups.
const MOUNT: &str = "/sys/fs/cgroup";
/// Threshold for "no limit": version 1 reports no limit of memory as a huge number.
const UNLIMITED: u64 = 1 << 60;

/// Files of a controller.
#[derive(Debug)]
pub(crate) struct ControllerFiles {
    /// Name of the controller.
    pub(crate) name: &'static str,
    /// Names of the files with the counters and with the limit, in version 1.
    pub(crate) version_1: [&'static str; 2],
    /// Names of these files in version 2.
    pub(crate) version_2: [&'static str; 2],
    /// Name of the counter.
    pub(crate) counter: &'static str,
}

/// Controller of a cgroup.
#[derive(Debug)]
pub(crate) struct Controller {
    /// File with a line for each counter.
    events_file: PathBuf,
    limit_file: PathBuf,
    counter: &'static str,
}

impl Controller {
    /// Returns the controller of this process's cgroup, if there is one.
    pub(crate) fn of_this_process(files: &ControllerFiles) -> Option<Self> {
        Self::find(files, Path::new(MOUNT), &fs::read_to_string("/proc/self/cgroup").ok()?)
    }

    /// Returns the controller of a process from the content of its `/proc/PID/cgroup`.
    fn find(files: &ControllerFiles, mount: &Path, cgroup: &str) -> Option<Self> {
        let lines = || cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let version_1 =
            lines().find(|(controllers, _)| controllers.split(',').any(|name| name == files.name));
        let (mount, [events, limit], path) = if let Some((_, path)) = version_1 {
            (mount.join(files.name), files.version_1, path)
        } else {
            let (_, path) = lines().find(|(controllers, _)| controllers.is_empty())?;
            (mount.to_owned(), files.version_2, path)
        };
        // In a container, the path can be one on the host, while the mount shows only the container's own cgroup.
        let candidates = [mount.join(path.trim_start_matches('/')), mount];
        let dir =
            candidates.into_iter().find(|dir| read_counter(&dir.join(events), files.counter).is_some())?;
        Some(Self { events_file: dir.join(events), limit_file: dir.join(limit), counter: files.counter })
    }

    /// Returns the value of the counter.
    pub(crate) fn count(&self) -> u64 {
        read_counter(&self.events_file, self.counter).unwrap_or(0)
    }

    /// Returns the limit, or `None` without a limit.
    pub(crate) fn limit(&self) -> Option<u64> {
        let limit = fs::read_to_string(&self.limit_file).ok()?.trim().parse().ok()?;
        (limit < UNLIMITED).then_some(limit)
    }
}

fn read_counter(events: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(events).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: ControllerFiles = ControllerFiles {
        name: "memory",
        version_1: ["memory.oom_control", "memory.limit_in_bytes"],
        version_2: ["memory.events", "memory.max"],
        counter: "oom_kill",
    };

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
        Controller::find(&MEMORY, dir.path(), cgroup).map(|memory| (memory.count(), memory.limit()))
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
    fn a_cgroup_without_files_of_the_controller_has_none() {
        let dir = create_files(&[("memory.stat", "")]);
        assert_eq!(find_values(&dir, "0::/\n"), None);
        assert_eq!(find_values(&dir, ""), None);
        assert_eq!(find_values(&dir, "garbage"), None);
    }
}
