//! Figures of a process in `/proc`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use relay_tests::harness::Site;

use crate::Fallible;

/// Process id of the agent of a site with engine `local`.
pub(crate) fn agent(site: &Site) -> Fallible<u32> {
    let lock = fs::read_to_string(site.agent().join("agent.lock"))?;
    Ok(lock.trim().parse()?)
}

/// Resident memory of a process in MiB, with shared pages counted in full.
pub(crate) fn resident(pid: u32) -> Fallible<f64> {
    mebibytes(pid, "status", "VmRSS:")
}

/// Proportional memory of a process in MiB: a page that several processes share counts in parts.
pub(crate) fn share(pid: u32) -> Fallible<f64> {
    mebibytes(pid, "smaps_rollup", "Pss:")
}

fn mebibytes(pid: u32, file: &str, field: &str) -> Fallible<f64> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).ok_or("no such field")?;
    Ok(kibibytes.parse::<f64>()? / 1024.0)
}

/// Processes that a process has started.
pub(crate) fn children(pid: u32) -> Fallible<Vec<u32>> {
    let mut children = Vec::new();
    for task in tasks(pid)? {
        let list = fs::read_to_string(task.join("children"))?;
        children.extend(list.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(children)
}

/// CPU time of all threads of a process. `stat` counts in clock ticks of 10 ms, which is more than an idle process
/// needs in ten seconds; `schedstat` counts in nanoseconds.
pub(crate) fn cpu(pid: u32) -> Fallible<Duration> {
    let mut nanos = 0;
    for task in tasks(pid)? {
        let stat = fs::read_to_string(task.join("schedstat"))?;
        nanos += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn tasks(pid: u32) -> Fallible<Vec<PathBuf>> {
    let dir = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&dir).map_err(|e| format!("{dir}: {e}"))?;
    Ok(entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
}
