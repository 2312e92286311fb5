//! Everything below the shim: who is there, as `/proc` shows it.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use rustix::process::Pid;

/// The command's first process.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// What names a process for ever: numbers are given away again, a number and its start are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    /// Its number.
    pub(super) pid: i32,
    /// When it was started, in clock ticks since the machine was.
    pub(super) started: u64,
}

/// A process as `/proc/PID/stat` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Name,
    parent: i32,
    session: i32,
    zombie: bool,
}

/// Every living process below this one.
pub(super) fn living() -> Vec<Entry> {
    descendants().into_iter().filter(|entry| !entry.zombie).collect()
}

/// Of these, `root` and whatever it started: all that is below it, and all in its session if it leads one, wherever
/// that hangs now. Nothing if `root` is not among them.
pub(super) fn part(all: Vec<Entry>, root: Name) -> Vec<Entry> {
    let Some(top) = all.iter().find(|entry| entry.name == root) else { return Vec::new() };
    let session = (top.session == root.pid).then_some(root.pid);
    let mut known = HashSet::from([root.pid]);
    // Parents stand before their children, so one pass finds all.
    let mut belongs = |entry: &Entry| {
        let own = known.contains(&entry.name.pid) || known.contains(&entry.parent);
        let part = own || Some(entry.session) == session;
        if part {
            known.insert(entry.name.pid);
        }
        part
    };
    all.into_iter().filter(|entry| belongs(entry)).collect()
}

/// Every process below this one, parents before their children.
fn descendants() -> Vec<Entry> {
    let mut children: HashMap<u32, Vec<Entry>> = HashMap::new();
    let Ok(mut proc) = Proc::open() else { return Vec::new() };
    for (pid, _) in proc.processes() {
        if let Some(stat) = proc.stat(pid) {
            let entry = Entry { pid, parent: stat.parent, zombie: stat.zombie, started: stat.started };
            children.entry(stat.parent).or_default().push(entry);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![std::process::id()];
    while let Some(parent) = next.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            next.push(child.name.pid);
            found.push(child);
        }
    }
    found
}

/// What the kernel says of a process now.
pub(super) fn stat(pid: i32) -> Option<Entry> {
    // The second field is the program's name, which may hold anything but NUL: not always text.
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &bytes)
}

fn parse(pid: i32, stat: &[u8]) -> Option<Entry> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    // Fields of proc_pid_stat(5): state is 3, the parent 4, the group 5, the session 6, the start 22.
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(15)?.parse().ok()?;
    Some(Entry { name: Name { pid, started }, parent, session, zombie: matches!(state, "Z" | "X") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn entry(pid: i32, parent: i32, session: i32, started: u64) -> Entry {
        Entry { name: Name { pid, started }, parent, session, zombie: false }
    }

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let line = b"42 (a) R 1 (\xff) Z 7 0 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 9000 1 2";
        assert_eq!(parse(42, line), Some(Entry { zombie: true, ..entry(42, 7, 5, 9000) }));
        assert_eq!(parse(42, b"42 (a"), None);
    }

    #[test]
    fn this_process_is_found_with_its_parent() {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        assert_eq!(stat(me).map(|entry| (entry.parent, entry.zombie)), Some((parent, false)));
    }

    #[test]
    fn t05_a_part_is_named_by_number_and_start_and_a_number_alone_is_nobody() {
        let (leader, step, child) = (entry(10, 1, 1, 100), entry(20, 10, 20, 200), entry(21, 20, 20, 201));
        // Started by the step: one fled into a session of its own, one lost its parent.
        let (fled, orphan) = (entry(22, 21, 22, 202), entry(23, 1, 20, 203));
        let (neighbour, old) = (entry(30, 10, 1, 300), Name { pid: 20, started: 199 });
        let all = vec![leader, orphan, step, neighbour, child, fled];
        assert_eq!(part(all.clone(), step.name), [orphan, step, child, fled]);
        assert_eq!(part(all.clone(), child.name), [child, fled]);
        assert_eq!(part(all, old), []);
    }
}
