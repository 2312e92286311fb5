//! What one look found.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

/// One look at everything below the agent.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// When the look began.
    pub(crate) at: Instant,
    root: u32,
    /// Parents before children, each followed by everything below it.
    processes: Vec<Process>,
    /// For each of them, how many it and everything below it are.
    sizes: Vec<usize>,
    index: HashMap<u32, usize>,
    /// Children of the agent below which there are more processes than are kept.
    cut: HashSet<u32>,
}

/// A process, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// Clock ticks from boot to its start: with `pid` it names a process for ever.
    pub(crate) started: u64,
    pub(crate) session: u32,
    /// At most 64 words and 4 KiB. What it had last, once it is a zombie.
    pub(crate) argv: Arc<[String]>,
    /// The program's name, as the kernel or the program itself has set it: at most 15 bytes.
    pub(crate) name: Arc<str>,
    pub(crate) zombie: bool,
    /// How a zombie ended, as a shell shows it: 128 + N for signal N. `None` where it can't be read.
    pub(crate) exit_code: Option<i32>,
    /// CPU time of its own and of the children it has waited for, in milliseconds, to 10 ms.
    pub(crate) cpu_ms: u64,
    /// Resident bytes.
    pub(crate) memory: u64,
    /// Bytes read and written through `read`, `write` and the like, of its own and of the children it has waited for.
    /// `None` where it can't be read.
    pub(crate) io: Option<u64>,
    /// Bytes that the other ends of its TCP connections have acknowledged since it was first watched; the opening of a
    /// connection and its end count as one byte each. Only grows. 0 unless the network is watched.
    pub(crate) sent: u64,
    /// Bytes that its TCP connections have received, likewise.
    pub(crate) received: u64,
    /// Codex's name for the call that it belongs to, where that can be read.
    pub(crate) call_id: Option<Arc<str>>,
}

impl Snapshot {
    /// `processes` with their sizes, in the order that [`super::order`] gives.
    pub(super) fn new(
        at: Instant,
        root: u32,
        processes: Vec<Process>,
        sizes: Vec<usize>,
        cut: HashSet<u32>,
    ) -> Self {
        let index = processes.iter().enumerate().map(|(at, process)| (process.pid, at)).collect();
        Self { at, root, processes, sizes, index, cut }
    }

    /// One process.
    pub(crate) fn process(&self, pid: u32) -> Option<&Process> {
        self.index.get(&pid).map(|at| &self.processes[*at])
    }

    /// What it started and has adopted, the oldest first. Those of the agent itself are its shims.
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

    /// Whether there may be more processes below `pid` than are kept.
    pub(crate) fn is_cut(&self, pid: u32) -> bool {
        let Some(at) = self.index.get(&pid).filter(|_| !self.cut.is_empty()) else { return false };
        self.cut
            .iter()
            .filter_map(|top| self.index.get(top))
            .any(|top| (*top..top + self.sizes[*top]).contains(at))
    }

    /// `pid` and everything below it, parents before children. Of the agent itself: all.
    pub(crate) fn subtree(&self, pid: u32) -> &[Process] {
        match self.index.get(&pid) {
            Some(at) => &self.processes[*at..at + self.sizes[*at]],
            None if pid == self.root => &self.processes,
            None => &[],
        }
    }
}
