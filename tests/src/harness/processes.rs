//! Running processes, read from `/proc` and independent of the product.

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::until;

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Command line, words joined by spaces.
    pub command: String,
}

/// A child process; dropping this value kills it.
#[derive(Debug)]
pub struct OwnedChild(pub Child);

impl Deref for OwnedChild {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for OwnedChild {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns every living process (no zombies) whose working folder is `dir` or below it.
pub fn inside(dir: &Path) -> Vec<Process> {
    living(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir)))
}

/// Returns every living process whose command line contains `text`.
pub fn running(text: &str) -> Vec<Process> {
    living(|pid| command(pid).contains(text))
}

/// Counts the living processes that were started with the environment variable `name`, by the variable's value.
pub fn count_by_variable(name: &str) -> BTreeMap<String, usize> {
    let start = format!("{name}=").into_bytes();
    let mut found = BTreeMap::new();
    for pid in pids().filter(|pid| *pid != std::process::id()) {
        // The environment of a dead process is empty.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let value = environment.split(|byte| *byte == 0).find_map(|word| word.strip_prefix(start.as_slice()));
        if let Some(value) = value.filter(|_| is_living(pid)) {
            *found.entry(String::from_utf8_lossy(value).into_owned()).or_default() += 1;
        }
    }
    found
}

/// Returns the CPU time of all threads of a process, in ticks of 10 ms; 0 if the process has ended.
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Kills a process and waits until it has ended and its locks and sockets are released.
pub fn kill(pid: u32) {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(raw.unwrap_or(Pid::INIT), Signal::KILL).unwrap_or_else(|e| panic!("process {pid}: {e}"));
    // The main thread may end long before the last thread, and the files stay open until then.
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    until("the killed process is gone", || (!is_living(pid) && threads() <= 1).then_some(()));
}

/// Kills every process whose command line begins with a path in `dir`.
pub fn kill_programs_of(dir: &Path) {
    let start = [dir.as_os_str().as_bytes(), b"/"].concat();
    for pid in pids() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| line.starts_with(&start)) {
            // An error says that the process has just ended.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn living(matches: impl Fn(u32) -> bool) -> Vec<Process> {
    pids()
        .filter(|pid| *pid != std::process::id() && is_living(*pid) && matches(*pid))
        .map(|pid| Process { pid, command: command(pid) })
        .collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

fn is_living(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which may contain any character.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}
