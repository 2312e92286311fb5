//! Result of one scan.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

/// One scan of everything below the agent.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Start of the scan.
    pub(crate) scanned_at: Instant,
    root_pid: u32,
    /// All processes, parents before children. Each process is followed by everything below it.
    processes: Vec<Process>,
    /// For each process, the number of processes in its subtree, itself included.
    subtree_sizes: Vec<usize>,
    index_by_pid: HashMap<u32, usize>,
    /// Children of the agent whose trees are incomplete in this snapshot.
    truncated_trees: HashSet<u32>,
}

/// Visible properties of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// Start time in clock ticks since boot: unique together with `pid`.
    pub(crate) start_ticks: u64,
    pub(crate) session: u32,
    /// Arguments, at most 64 words and 4 KiB. A zombie has its last arguments.
    pub(crate) argv: Arc<[String]>,
    /// Name of the program, set by the kernel or the program itself: at most 15 bytes.
    pub(crate) name: Arc<str>,
    pub(crate) is_zombie: bool,
    /// Exit code of a zombie, in a shell's form: 128 + N for signal N. `None` if it can't be read.
    pub(crate) exit_code: Option<i32>,
    /// CPU time of the process and of its waited-for children, in milliseconds, with a resolution of 10 ms.
    pub(crate) cpu_ms: u64,
    /// Resident memory, in bytes.
    pub(crate) memory_bytes: u64,
    /// Bytes read and written by `read`, `write` and similar calls, by the process and its waited-for children. `None`
    /// if they can't be read.
    pub(crate) io_bytes: Option<u64>,
    /// Bytes that the peers of the process's TCP connections have acknowledged since it was first watched. Opening and
    /// closing a connection count as one byte each. Never decreases. 0 for a process that is not watched.
    pub(crate) sent_bytes: u64,
    /// Bytes that the process's TCP connections have received, counted like `sent_bytes`.
    pub(crate) received_bytes: u64,
    /// Id of the Codex call that the process belongs to, if it can be read.
    pub(crate) call_id: Option<Arc<str>>,
}

impl Snapshot {
    /// Creates a snapshot of `processes` with the sizes of their subtrees, both in the order of
    /// [`super::process_tree`].
    pub(super) fn new(
        scanned_at: Instant,
        root_pid: u32,
        processes: Vec<Process>,
        subtree_sizes: Vec<usize>,
        truncated_trees: HashSet<u32>,
    ) -> Self {
        let index = processes.iter().enumerate().map(|(index, process)| (process.pid, index)).collect();
        Self { scanned_at, root_pid, processes, subtree_sizes, index_by_pid: index, truncated_trees }
    }

    pub(crate) fn process(&self, pid: u32) -> Option<&Process> {
        self.index_by_pid.get(&pid).map(|index| &self.processes[*index])
    }

    /// Returns the processes that `pid` has started or adopted, the oldest first. The children of the agent itself
    /// are its shims.
    pub(crate) fn children(&self, pid: u32) -> impl Iterator<Item = &Process> {
        let (mut next, end) = match self.index_by_pid.get(&pid) {
            Some(index) => (index + 1, index + self.subtree_sizes[*index]),
            None if pid == self.root_pid => (0, self.processes.len()),
            None => (0, 0),
        };
        std::iter::from_fn(move || {
            let child = (next < end).then(|| &self.processes[next])?;
            next += self.subtree_sizes[next];
            Some(child)
        })
    }

    /// Returns true if processes below `pid` may be missing.
    pub(crate) fn is_truncated(&self, pid: u32) -> bool {
        let Some(index) = self.index_by_pid.get(&pid).filter(|_| !self.truncated_trees.is_empty()) else {
            return false;
        };
        self.truncated_trees
            .iter()
            .filter_map(|root| self.index_by_pid.get(root))
            .any(|root| (*root..root + self.subtree_sizes[*root]).contains(index))
    }

    /// Returns `pid` and everything below it, parents before children. For the agent itself: all processes.
    pub(crate) fn subtree(&self, pid: u32) -> &[Process] {
        match self.index_by_pid.get(&pid) {
            Some(index) => &self.processes[*index..index + self.subtree_sizes[*index]],
            None if pid == self.root_pid => &self.processes,
            None => &[],
        }
    }
}
