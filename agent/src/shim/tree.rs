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
    let own = rustix::process::getpid().as_raw_nonzero().get();
    alive(below(own, &by_parent()))
}

/// The same in less time where many processes run that are none of ours: it takes as long as this tree is large. One that
/// is just starting, dying or losing its parent can be overlooked, so this is for whoever looks again.
pub(super) fn glance() -> Vec<Entry> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    alive(walk(own).unwrap_or_else(|| below(own, &by_parent())))
}

fn alive(entries: Vec<Entry>) -> Vec<Entry> {
    entries.into_iter().filter(|entry| !entry.zombie).collect()
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

/// All processes of this machine by their parent.
fn by_parent() -> HashMap<i32, Vec<Entry>> {
    let mut children: HashMap<i32, Vec<Entry>> = HashMap::new();
    for found in numbers("/proc").filter_map(stat) {
        children.entry(found.parent).or_default().push(found);
    }
    children
}

/// Every process below `root`, parents before their children.
fn below(root: i32, children: &HashMap<i32, Vec<Entry>>) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            next.push(child.name.pid);
            found.push(*child);
        }
    }
    found
}

/// The same by what the kernel lists below each thread; nothing where it has no such lists.
fn walk(root: i32) -> Option<Vec<Entry>> {
    // Not there in a kernel without CONFIG_PROC_CHILDREN.
    fs::metadata("/proc/thread-self/children").ok()?;
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        let tasks = format!("/proc/{parent}/task");
        for thread in numbers(&tasks) {
            let list = fs::read_to_string(format!("{tasks}/{thread}/children")).unwrap_or_default();
            let children = list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
            // A number can have been given away since it was listed.
            for child in children.filter_map(stat).filter(|child| child.parent == parent) {
                next.push(child.name.pid);
                found.push(child);
            }
        }
    }
    Some(found)
}

/// The numbers that name folders in `dir`.
fn numbers(dir: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
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
    fn both_ways_to_look_see_the_same() {
        let line =
            "sh -c 'kill -STOP $$' & sh -c 'sh -c \"kill -STOP \\$\\$\" & kill -STOP $$' & kill -STOP $$";
        let mut leader = std::process::Command::new("sh").args(["-c", line]).spawn().unwrap();
        let root = i32::try_from(leader.id()).unwrap();
        let numbers = |entries: &[Entry]| {
            let mut numbers: Vec<i32> = entries.iter().map(|entry| entry.name.pid).collect();
            numbers.sort_unstable();
            numbers
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while below(root, &by_parent()).len() < 3 {
            assert!(std::time::Instant::now() < deadline, "its children don't come");
            crate::shim::pause(std::time::Duration::from_millis(5));
        }
        let (all, walked) = (below(root, &by_parent()), walk(root).unwrap());
        assert_eq!(numbers(&all), numbers(&walked));
        for pid in numbers(&all).into_iter().filter_map(Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        leader.kill().unwrap();
        leader.wait().unwrap();
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
