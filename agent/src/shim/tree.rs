//! Processes below the shim, read from `/proc`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, Signal};

use crate::proc_stat::ProcFs;

/// Bit of TERM in the kernel's signal sets.
const TERM_BIT: u64 = 1 << (Signal::TERM.as_raw() - 1);
/// Number of bytes read of `/proc/PID/status`: enough to contain the signal sets.
const MAX_STATUS: usize = 4096;

/// First process of the command.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// Unique key of a process. The id alone can be reused; the id with the start time can't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProcessKey {
    /// Process id.
    pub(super) pid: u32,
    /// Start time, in clock ticks since boot.
    pub(super) start_ticks: u64,
}

/// Properties of a process from `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessEntry {
    pub(super) key: ProcessKey,
    parent: u32,
    session: u32,
    is_zombie: bool,
    /// True for a program of Codex or of a sandbox whose end would also end the command.
    is_sandbox_helper: bool,
}

impl ProcessEntry {
    /// Returns true for a program of a sandbox, and for a helper of Codex.
    pub(super) fn is_helper(&self) -> bool {
        self.is_sandbox_helper
    }
}

/// Returns every living process below this one.
pub(super) fn descendants() -> Vec<ProcessEntry> {
    let all =
        ProcFs::open().map(|mut proc| descendants_of(std::process::id(), &children_by_parent(&mut proc)));
    keep_living(all.unwrap_or_default())
}

/// Returns the living processes below this one like [`descendants`], in a time that depends only on the size of this
/// tree. The result can lack a process that is starting, dying or losing its parent, so the caller has to scan again.
pub(super) fn quick_descendants() -> Vec<ProcessEntry> {
    let Ok(mut proc) = ProcFs::open() else { return Vec::new() };
    let own_pid = std::process::id();
    let all = walk_children(own_pid, &mut proc);
    keep_living(all.unwrap_or_else(|| descendants_of(own_pid, &children_by_parent(&mut proc))))
}

fn keep_living(entries: Vec<ProcessEntry>) -> Vec<ProcessEntry> {
    entries.into_iter().filter(|entry| !entry.is_zombie).collect()
}

/// Returns every living command that the leader has started: all processes below this one, except the leader and helper
/// programs.
pub(super) fn leader_commands(leader: Pid) -> Vec<ProcessEntry> {
    let leader = leader.as_raw_nonzero().get().unsigned_abs();
    let mut commands = descendants();
    commands.retain(|entry| entry.key.pid != leader && !entry.is_sandbox_helper);
    commands
}

/// Returns the processes of `entries` that are in `keys`, and all their current descendants.
pub(super) fn collect_subtrees(entries: Vec<ProcessEntry>, keys: &[ProcessKey]) -> Vec<ProcessEntry> {
    let mut member_keys: HashSet<ProcessKey> = keys.iter().copied().collect();
    let mut pids: HashSet<u32> = HashSet::new();
    // Parents come before their children, so one pass finds all.
    let mut belongs = |entry: &ProcessEntry| {
        let belongs = member_keys.contains(&entry.key) || pids.contains(&entry.parent);
        if belongs {
            member_keys.insert(entry.key);
            pids.insert(entry.key.pid);
        }
        belongs
    };
    entries.into_iter().filter(|entry| belongs(entry)).collect()
}

/// Returns every living process in a session, every process in `keys`, and all their descendants, without the first
/// process of the session.
pub(super) fn session_members(session: u32, keys: &[ProcessKey]) -> Vec<ProcessEntry> {
    let Ok(mut proc) = ProcFs::open() else { return Vec::new() };
    let children = children_by_parent(&mut proc);
    let roots = children.values().flatten();
    let roots = roots.filter(|entry| entry.session == session || keys.contains(&entry.key));
    let roots: Vec<ProcessEntry> = roots.copied().collect();
    let mut seen_keys = HashSet::new();
    let mut members = Vec::new();
    for root in roots {
        let descendants = descendants_of(root.key.pid, &children);
        members.extend([root].into_iter().chain(descendants).filter(|entry| seen_keys.insert(entry.key)));
    }
    members.retain(|entry| entry.key.pid != session);
    keep_living(members)
}

/// Returns `root` and the processes of `entries` that it started: its descendants, and the members of its session if it
/// leads one. Returns nothing if `root` is not in `entries`.
pub(super) fn subtree(entries: Vec<ProcessEntry>, root: ProcessKey) -> Vec<ProcessEntry> {
    let Some(root_entry) = entries.iter().find(|entry| entry.key == root) else { return Vec::new() };
    let session = (root_entry.session == root.pid).then_some(root.pid);
    let mut member_pids = HashSet::from([root.pid]);
    // Parents come before their children, so one pass finds all.
    let mut belongs = |entry: &ProcessEntry| {
        let is_descendant = member_pids.contains(&entry.key.pid) || member_pids.contains(&entry.parent);
        let belongs = is_descendant || Some(entry.session) == session;
        if belongs {
            member_pids.insert(entry.key.pid);
        }
        belongs
    };
    entries.into_iter().filter(|entry| belongs(entry)).collect()
}

/// Returns all processes of this machine by their parent.
fn children_by_parent(proc: &mut ProcFs) -> HashMap<u32, Vec<ProcessEntry>> {
    let mut children: HashMap<u32, Vec<ProcessEntry>> = HashMap::new();
    for (pid, _) in proc.process_ids() {
        if let Some(entry) = read_entry(proc, pid) {
            children.entry(entry.parent).or_default().push(entry);
        }
    }
    children
}

/// Returns every process below `root`, parents before their children.
fn descendants_of(root: u32, children: &HashMap<u32, Vec<ProcessEntry>>) -> Vec<ProcessEntry> {
    let mut found = Vec::new();
    let mut stack = vec![root];
    while let Some(parent) = stack.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            stack.push(child.key.pid);
            found.push(*child);
        }
    }
    found
}

/// Does the same as [`descendants_of`] with the kernel's list of each thread's children; returns `None` if the kernel
/// has no such lists.
fn walk_children(root: u32, proc: &mut ProcFs) -> Option<Vec<ProcessEntry>> {
    // This file is missing in a kernel without CONFIG_PROC_CHILDREN.
    fs::metadata("/proc/thread-self/children").ok()?;
    let mut found = Vec::new();
    let mut stack = vec![root];
    while let Some(parent) = stack.pop() {
        for thread in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for pid in list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
                // The kernel may have reused this id since it was listed.
                let child = read_entry(proc, pid).filter(|child| child.parent == parent);
                stack.extend(child.map(|child| child.key.pid));
                found.extend(child);
            }
        }
    }
    Some(found)
}

/// Returns true if the process with this key has not ended.
pub(super) fn is_alive(key: ProcessKey) -> bool {
    let current = ProcFs::open().ok().and_then(|mut proc| read_entry(&mut proc, key.pid));
    current.is_some_and(|entry| entry.key == key && !entry.is_zombie)
}

/// Returns true if every thread of the process with this key is stopped or has ended, or the process is gone.
///
/// A thread in an uninterruptible call may be in the middle of a fork (which waits for memory or for a disk), so it
/// does not count as stopped. The exception is the parent of a `vfork` whose child is stopped: it waits for that child.
pub(super) fn is_stopped(key: ProcessKey) -> bool {
    let Ok(mut proc) = ProcFs::open() else { return true };
    let states = thread_states(&mut proc, key);
    !states.iter().any(|state| matches!(state, b'R' | b'S'))
        && (!states.contains(&b'D') || has_stopped_child(&mut proc, key.pid))
}

/// Returns true if every thread of the process with this key waits for an outside event.
pub(super) fn is_waiting(key: ProcessKey) -> bool {
    ProcFs::open().is_ok_and(|mut proc| thread_states(&mut proc, key).iter().all(|state| *state == b'S'))
}

/// Returns true if no thread of the process with this key would handle TERM at the moment.
pub(super) fn blocks_term(key: ProcessKey) -> bool {
    let Ok(mut proc) = ProcFs::open() else { return false };
    let mut threads = thread_ids(&mut proc, key).into_iter();
    let blocked_signals = |status: &[u8]| {
        let mask = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"SigBlk:"))?;
        u64::from_str_radix(std::str::from_utf8(mask).ok()?.trim(), 16).ok()
    };
    // A thread that has ended handles no signal.
    threads.len() > 0
        && threads.all(|thread| {
            proc.read(thread, "status", MAX_STATUS)
                .and_then(blocked_signals)
                .is_none_or(|mask| mask & TERM_BIT != 0)
        })
}

/// Returns the state of each thread of the process with this key; empty if the process is gone.
fn thread_states(proc: &mut ProcFs, key: ProcessKey) -> Vec<u8> {
    let threads = thread_ids(proc, key);
    threads.into_iter().filter_map(|thread| Some(proc.stat(thread)?.state)).collect()
}

fn thread_ids(proc: &mut ProcFs, key: ProcessKey) -> Vec<u32> {
    if proc.stat(key.pid).is_none_or(|now| now.start_ticks != key.start_ticks) {
        return Vec::new();
    }
    let threads = fs::read_dir(format!("/proc/{}/task", key.pid)).into_iter().flatten().flatten();
    threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok()).collect()
}

fn has_stopped_child(proc: &mut ProcFs, parent: u32) -> bool {
    let mut processes = proc.process_ids();
    processes
        .any(|(pid, _)| proc.stat(pid).is_some_and(|child| child.parent == parent && child.state == b'T'))
}

fn read_entry(proc: &mut ProcFs, pid: u32) -> Option<ProcessEntry> {
    let stat = proc.stat(pid)?;
    let key = ProcessKey { pid, start_ticks: stat.start_ticks };
    let is_sandbox_helper = stat.name == b"bwrap" || stat.name.starts_with(b"codex");
    Some(ProcessEntry {
        key,
        parent: stat.parent,
        session: stat.session,
        is_zombie: stat.is_zombie,
        is_sandbox_helper,
    })
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    const fn entry(pid: u32, parent: u32, session: u32, started: u64) -> ProcessEntry {
        ProcessEntry {
            key: ProcessKey { pid, start_ticks: started },
            parent,
            session,
            is_zombie: false,
            is_sandbox_helper: false,
        }
    }

    #[test]
    fn both_ways_to_list_descendants_find_the_same_processes() {
        let line =
            "sh -c 'kill -STOP $$' & sh -c 'sh -c \"kill -STOP \\$\\$\" & kill -STOP $$' & kill -STOP $$";
        let mut leader = std::process::Command::new("sh").args(["-c", line]).spawn().unwrap();
        let root = leader.id();
        let mut proc = ProcFs::open().unwrap();
        let numbers = |entries: &[ProcessEntry]| {
            let mut numbers: Vec<u32> = entries.iter().map(|entry| entry.key.pid).collect();
            numbers.sort_unstable();
            numbers
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        while descendants_of(root, &children_by_parent(&mut proc)).len() < 3 {
            assert!(std::time::Instant::now() < deadline, "its children did not start");
            crate::shim::pause(std::time::Duration::from_millis(5));
        }
        let (all, walked) =
            (descendants_of(root, &children_by_parent(&mut proc)), walk_children(root, &mut proc).unwrap());
        assert_eq!(numbers(&all), numbers(&walked));
        for pid in numbers(&all).into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        }
        leader.kill().unwrap();
        leader.wait().unwrap();
    }

    #[test]
    fn a_vfork_parent_counts_as_stopped_once_its_child_is_stopped() {
        // Between fork and exec the child opens a FIFO that no other process opens. Its parent waits as it would in a
        // fork.
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let script = "import os, sys\n\
            os.posix_spawn('/bin/true', ['true'], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])";
        let mut parent =
            std::process::Command::new("python3").args(["-c", script]).arg(&fifo).spawn().unwrap();
        let mut proc = ProcFs::open().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        let wait_until = |what: &str, condition: &mut dyn FnMut() -> bool| {
            while !condition() {
                assert!(std::time::Instant::now() < deadline, "{what}");
                crate::shim::pause(std::time::Duration::from_millis(5));
            }
        };
        let key = ProcessKey { pid: parent.id(), start_ticks: proc.stat(parent.id()).unwrap().start_ticks };
        let mut child = None;
        wait_until("it waits for a child", &mut || {
            child = descendants_of(key.pid, &children_by_parent(&mut proc)).first().copied();
            child.is_some() && proc.stat(key.pid).is_some_and(|now| now.state == b'D')
        });
        assert!(!is_stopped(key));
        let child = child.unwrap().key;
        let child_pid = Pid::from_raw(child.pid.cast_signed()).unwrap();
        rustix::process::kill_process(child_pid, Signal::STOP).unwrap();
        wait_until("the child stops", &mut || is_stopped(child));
        assert!(is_stopped(key));
        rustix::process::kill_process(child_pid, Signal::KILL).unwrap();
        parent.kill().unwrap();
        parent.wait().unwrap();
    }

    #[test]
    fn t05_a_subtree_is_found_by_id_and_start_time_and_never_by_the_id_alone() {
        let (leader, step, child) = (entry(10, 1, 1, 100), entry(20, 10, 20, 200), entry(21, 20, 20, 201));
        // The step has started both: one is now in a session of its own, the other has lost its parent.
        let (with_own_session, orphan) = (entry(22, 21, 22, 202), entry(23, 1, 20, 203));
        let (neighbour, old) = (entry(30, 10, 1, 300), ProcessKey { pid: 20, start_ticks: 199 });
        let all = vec![leader, orphan, step, neighbour, child, with_own_session];
        assert_eq!(subtree(all.clone(), step.key), [orphan, step, child, with_own_session]);
        assert_eq!(subtree(all.clone(), child.key), [child, with_own_session]);
        assert_eq!(subtree(all, old), []);
    }
}
