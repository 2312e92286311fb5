//! Who runs in a folder, read from `/proc` and not from what the product says.

use std::fs;
use std::path::Path;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line, words joined by spaces.
    pub command: String,
}

/// Every living process (zombies left out) whose current folder is `dir` or below it.
pub fn inside(dir: &Path) -> Vec<Process> {
    living(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir)))
}

/// Every living process whose command line holds `text`.
pub fn running(text: &str) -> Vec<Process> {
    living(|pid| command(pid).contains(text))
}

fn living(matches: impl Fn(u32) -> bool) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()));
    pids.filter(|pid| *pid != std::process::id() && is_living(*pid) && matches(*pid))
        .map(|pid| Process { pid, command: command(pid) })
        .collect()
}

fn is_living(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name, which may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}
