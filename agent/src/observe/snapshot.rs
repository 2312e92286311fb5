//! Result of one scan.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

/// One scan of everything below the agent.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Start of the scan.
    pub(crate) at: Instant,
    root: u32,
    /// Parents before children, each followed by everything below it.
    processes: Vec<Process>,
    /// For each process, the number of processes in its subtree, itself included.
    sizes: Vec<usize>,
    index: HashMap<u32, usize>,
    /// Children of the agent below which there are more processes than are kept.
    truncated: HashSet<u32>,
}

/// A process, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// Start time in clock ticks since boot: together with `pid` a unique name of the process.
    pub(crate) started: u64,
    pub(crate) session: u32,
    /// At most 64 words and 4 KiB. For a zombie, its last arguments.
    pub(crate) argv: Arc<[String]>,
    /// Name of the program, as the kernel or the program itself has set it: at most 15 bytes.
    pub(crate) name: Arc<str>,
    pub(crate) zombie: bool,
    /// Exit code of a zombie as a shell shows it: 128 + N for signal N. `None` if it can't be read.
    pub(crate) exit_code: Option<i32>,
    /// CPU time of the process and of the children it has waited for, in milliseconds, to 10 ms.
    pub(crate) cpu_ms: u64,
    /// Resident memory, in bytes.
    pub(crate) memory: u64,
    /// Bytes read and written through `read`, `write` and the like, by the process and the children it has waited
    /// for. `None` if they can't be read.
    pub(crate) io: Option<u64>,
    /// Bytes that the peers of its TCP connections have acknowledged since it was first watched; the opening of a
    /// connection and its end count as one byte each. Never decreases. 0 unless the network is watched.
    pub(crate) sent: u64,
    /// Bytes that its TCP connections have received, counted likewise.
    pub(crate) received: u64,
    /// Codex's id of the call that the process belongs to, if it can be read.
    pub(crate) call_id: Option<Arc<str>>,
}

impl Snapshot {
    /// Creates a snapshot of `processes` with their sizes, in the order of [`super::topology`].
    pub(super) fn new(
        at: Instant,
        root: u32,
        processes: Vec<Process>,
        sizes: Vec<usize>,
        cut: HashSet<u32>,
    ) -> Self {
        let index = processes.iter().enumerate().map(|(at, process)| (process.pid, at)).collect();
        Self { at, root, processes, sizes, index, truncated: cut }
    }

    pub(crate) fn process(&self, pid: u32) -> Option<&Process> {
        self.index.get(&pid).map(|at| &self.processes[*at])
    }

    /// Returns the processes that `pid` has started or adopted, the oldest first. The children of the agent itself
    /// are its shims.
    pub(crate) fn children(&self, pid: u32) -> impl Iterator<Item = &Process> {
        let (mut next, end) = match self.index.get(&pid) {
            Some(at) => (at + 1, at + self.sizes[*at]),
            None if pid == self.root => (0, self.processes.len()),
            None => (0, 0),
        };
        std::iter::from_fn(move || {
            let child = (next < end).then(|| &self.processes[next])?;
            next += self.sizes[next];
            Some(child)
        })
    }

    /// Returns true if there may be more processes below `pid` than are kept.
    pub(crate) fn is_truncated(&self, pid: u32) -> bool {
        let Some(at) = self.index.get(&pid).filter(|_| !self.truncated.is_empty()) else { return false };
        self.truncated
            .iter()
            .filter_map(|top| self.index.get(top))
            .any(|top| (*top..top + self.sizes[*top]).contains(at))
    }

    /// Returns `pid` and everything below it, parents before children. For the agent itself: all processes.
    pub(crate) fn subtree(&self, pid: u32) -> &[Process] {
        match self.index.get(&pid) {
            Some(at) => &self.processes[*at..at + self.sizes[*at]],
            None if pid == self.root => &self.processes,
            None => &[],
        }
    }
}
