//! Memory, CPU time and children of a process, read from `/proc`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use relay_tests::harness::Site;

use crate::Fallible;

/// Returns the process id of the agent of a site with engine `local`.
pub(crate) fn agent_pid(site: &Site) -> Fallible<u32> {
    let lock = fs::read_to_string(site.agent().join("agent.lock"))?;
    Ok(lock.trim().parse()?)
}

/// Returns the resident memory of a process in MiB, with shared pages counted in full.
pub(crate) fn resident_mib(pid: u32) -> Fallible<f64> {
    read_mib(pid, "status", "VmRSS:")
}

/// Returns the proportional memory of a process in MiB: a page that n processes share counts 1/n.
pub(crate) fn proportional_mib(pid: u32) -> Fallible<f64> {
    read_mib(pid, "smaps_rollup", "Pss:")
}

fn read_mib(pid: u32, file: &str, field: &str) -> Fallible<f64> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).ok_or("no such field")?;
    Ok(kibibytes.parse::<f64>()? / 1024.0)
}

/// Returns the children of a process.
pub(crate) fn children(pid: u32) -> Fallible<Vec<u32>> {
    let mut children = Vec::new();
    for task in tasks(pid)? {
        let list = fs::read_to_string(task.join("children"))?;
        children.extend(list.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(children)
}

/// Returns the CPU time of all threads of a process. The file `schedstat` counts in nanoseconds. `stat` counts in ticks
/// of 10 ms, but an idle process needs less than that in ten seconds.
pub(crate) fn cpu_time(pid: u32) -> Fallible<Duration> {
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
