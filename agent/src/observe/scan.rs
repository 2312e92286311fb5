//! One scan of everything below the agent.
//!
//! A scan lists `/proc`, reads the `stat` of every process, and keeps those below the agent. The folders of all
//! others are remembered by their inodes and not read again: a process that is not below can't get there, because an
//! orphan is adopted by an ancestor. (Walking down `/proc/PID/task/TID/children` instead would miss processes
//! whenever a sibling exits.)

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::param::{clock_ticks_per_second, page_size};
use tokio::time::Instant;

use super::cmdline;
use super::snapshot::{Process, Snapshot};
use super::sock_diag::Bytes;
use super::topology::{Descendant, Node, descendants};
use super::traffic::Traffic;
use crate::proc_stat::{Proc, Stat};

/// Maximum number of processes in a snapshot. Only a fork bomb creates more.
const MAX_PROCESSES: usize = 20_000;
/// Time after its start, or its start of another program, in which a process may still change its arguments.
const SETTLE_TIME: Duration = Duration::from_secs(2);
/// Time after which unrelated processes are read again, so that a kernel that reuses an inode can't hide a process
/// for long.
const UNRELATED_FOR: Duration = Duration::from_secs(10);
/// Bytes of `/proc/PID/io` that are read: all that are of interest.
const MAX_IO: usize = 512;

/// Scanner that remembers what does not change between scans.
#[derive(Debug)]
pub(super) struct Scanner {
    root: u32,
    proc: Proc,
    cache: HashMap<u32, CachedInfo>,
    /// Inodes of the folders of processes that are not below.
    unrelated: HashMap<u32, u64>,
    unrelated_since: Instant,
    traffic: Traffic,
}

/// Properties that stay the same until the process executes another program.
#[derive(Debug, Clone)]
struct CachedInfo {
    started: u64,
    arguments: u64,
    comm: Vec<u8>,
    settled: Instant,
    name: Arc<str>,
    argv: Arc<[String]>,
    call_id: Option<Arc<str>>,
}

#[derive(Debug)]
struct ProcessStat {
    node: Node,
    inode: u64,
    comm: Vec<u8>,
    session: u32,
    zombie: bool,
    cpu_ticks: u64,
    resident_pages: u64,
    arguments: u64,
    wait_status: i32,
}

impl ProcessStat {
    fn new(pid: u32, inode: u64, stat: &Stat<'_>) -> Self {
        Self {
            node: Node { pid, parent: stat.parent, started: stat.started },
            inode,
            comm: stat.name.to_vec(),
            session: stat.session,
            zombie: stat.zombie,
            cpu_ticks: stat.cpu_ticks,
            resident_pages: stat.resident_pages,
            arguments: stat.arguments,
            wait_status: stat.wait_status,
        }
    }
}

impl Scanner {
    /// Creates a scanner of everything below `root`.
    pub(super) fn new(root: u32) -> Result<Self, Errno> {
        Ok(Self {
            root,
            proc: Proc::open()?,
            cache: HashMap::new(),
            unrelated: HashMap::new(),
            unrelated_since: Instant::now(),
            traffic: Traffic::default(),
        })
    }

    /// Scans. TCP bytes are counted for `watched` and everything below them.
    pub(super) fn scan(&mut self, watched: &[u32]) -> Snapshot {
        let at = Instant::now();
        let seen = self.read_candidates(at);
        let (order, cut) = self.find_descendants(&seen);
        let connected = watched_below(watched, &seen, &order);
        self.traffic.count(at, &mut self.proc, &connected);
        let mut processes = Vec::with_capacity(order.len());
        for descendant in &order {
            processes.push(self.process(at, &seen[descendant.entry]));
        }
        let sizes = order.iter().map(|descendant| descendant.size).collect();
        let snapshot = Snapshot::new(at, self.root, processes, sizes, cut);
        self.cache.retain(|pid, _| snapshot.process(*pid).is_some());
        self.traffic.retain(|pid| snapshot.process(pid).is_some());
        snapshot
    }

    /// Reads all processes that are not known to be unrelated.
    fn read_candidates(&mut self, now: Instant) -> Vec<ProcessStat> {
        if now.duration_since(self.unrelated_since) >= UNRELATED_FOR {
            self.unrelated.clear();
            self.unrelated_since = now;
        }
        let mut unrelated = HashMap::with_capacity(self.unrelated.len());
        let mut seen = Vec::with_capacity(self.cache.len());
        for (pid, inode) in self.proc.processes() {
            if self.unrelated.get(&pid) == Some(&inode) {
                unrelated.insert(pid, inode);
            } else if pid != self.root
                && let Some(stat) = self.proc.stat(pid)
            {
                seen.push(ProcessStat::new(pid, inode, &stat));
            }
        }
        self.unrelated = unrelated;
        seen
    }

    /// Returns the processes below, in order, and the trees of which some were left out. The others count as
    /// unrelated from now on.
    fn find_descendants(&mut self, seen: &[ProcessStat]) -> (Vec<Descendant>, HashSet<u32>) {
        let mut nodes: Vec<Node> = seen.iter().map(|seen| seen.node).collect();
        self.reread_orphans(&mut nodes);
        let order = descendants([self.root], &nodes);
        // A process is unrelated only if its chain of parents proves it: one with a broken chain is read again.
        let tops: Vec<u32> = self.unrelated.keys().copied().chain([0]).collect();
        for other in descendants(tops, &nodes) {
            let seen = &seen[other.entry];
            self.unrelated.insert(seen.node.pid, seen.inode);
        }
        bound_trees(self.root, order, &mut nodes, MAX_PROCESSES)
    }

    /// Reads those again whose parent is gone: it died during the scan, and they have another now.
    fn reread_orphans(&mut self, nodes: &mut [Node]) {
        let there: HashSet<u32> = nodes.iter().map(|node| node.pid).collect();
        let is_known =
            |pid: u32, unrelated: &HashMap<u32, u64>| there.contains(&pid) || unrelated.contains_key(&pid);
        for node in nodes {
            if node.parent != self.root && node.parent != 0 && !is_known(node.parent, &self.unrelated) {
                let now = self.proc.stat(node.pid).filter(|stat| stat.started == node.started);
                node.parent = now.map_or(node.parent, |stat| stat.parent);
            }
        }
    }

    fn process(&mut self, now: Instant, seen: &ProcessStat) -> Process {
        let Node { pid, parent, started } = seen.node;
        let known = self.cached_info(now, seen);
        let io = self.proc.read(pid, "io", MAX_IO).and_then(parse_io);
        let Bytes { sent, received } = self.traffic.bytes_of(pid, started);
        // The kernel shows the status to those who may see the bytes, and 0 to others.
        let status = (seen.zombie && (io.is_some() || seen.wait_status != 0)).then_some(seen.wait_status);
        Process {
            pid,
            parent,
            started,
            session: seen.session,
            argv: known.argv,
            name: known.name,
            zombie: seen.zombie,
            exit_code: status.map(exit_code),
            cpu_ms: seen.cpu_ticks.saturating_mul(1000) / clock_ticks_per_second().max(1),
            memory: seen.resident_pages.saturating_mul(page_size() as u64),
            io,
            sent,
            received,
            call_id: known.call_id,
        }
    }

    /// Returns name, arguments and call, which are read again when they may have changed.
    fn cached_info(&mut self, now: Instant, seen: &ProcessStat) -> CachedInfo {
        let Node { pid, parent, started } = seen.node;
        let known = self.cache.get(&pid).filter(|known| known.started == started);
        let changed = known.is_none_or(|known| {
            // A zombie has no arguments any more.
            !seen.zombie && (known.arguments != seen.arguments || known.comm != seen.comm)
        });
        if let Some(known) = known.filter(|known| !changed && (now >= known.settled || seen.zombie)) {
            return known.clone();
        }
        let settled = known.filter(|_| !changed).map_or(now + SETTLE_TIME, |known| known.settled);
        let argv = self
            .proc
            .read(pid, "cmdline", cmdline::MAX_ARGUMENTS)
            .map(cmdline::arguments)
            .unwrap_or_default();
        if let Some(known) = known.filter(|_| argv.is_empty()) {
            // The process, or its first thread, is ending. The earlier arguments are kept.
            return known.clone();
        }
        // Most are forks of their parents: a thousand of them share one list.
        let same = [known, self.cache.get(&parent)].into_iter().flatten().find(|other| *other.argv == *argv);
        let argv = same.map_or_else(|| Arc::from(argv), |same| Arc::clone(&same.argv));
        let environ = self.proc.read(pid, "environ", cmdline::MAX_ENVIRONMENT);
        let call_id = environ.and_then(cmdline::call_id).map(Arc::from);
        let name = String::from_utf8_lossy(&seen.comm).as_ref().into();
        let comm = seen.comm.clone();
        let known = CachedInfo { started, arguments: seen.arguments, comm, settled, name, argv, call_id };
        self.cache.insert(pid, known.clone());
        known
    }
}

/// Returns at most `most` of the processes, and the trees directly below the root of which some were left out: those
/// that have more than their share, so that a fork bomb in one job hides no process of another. The older processes
/// stay, such as those that ran before the bomb, and with them their parents.
fn bound_trees(
    root: u32,
    order: Vec<Descendant>,
    nodes: &mut [Node],
    most: usize,
) -> (Vec<Descendant>, HashSet<u32>) {
    let mut cut = HashSet::new();
    if order.len() <= most {
        return (order, cut);
    }
    let mut trees: Vec<&[Descendant]> = Vec::new();
    let mut rest = order.as_slice();
    while let Some(top) = rest.first() {
        let (tree, behind) = rest.split_at(top.size.min(rest.len()));
        trees.push(tree);
        rest = behind;
    }
    let share = most / trees.len().max(1);
    for tree in trees.into_iter().filter(|tree| tree.len() > share) {
        cut.insert(nodes[tree[0].entry].pid);
        let mut oldest: Vec<usize> = tree.iter().map(|descendant| descendant.entry).collect();
        oldest.sort_unstable_by_key(|entry| nodes[*entry].started);
        for newer in oldest.split_off(share.min(oldest.len())) {
            // Made its own parent: it is below no top.
            nodes[newer].parent = nodes[newer].pid;
        }
    }
    (descendants([root], nodes), cut)
}

/// Returns the numbers and start times of the watched processes and everything below them.
fn watched_below(watched: &[u32], seen: &[ProcessStat], order: &[Descendant]) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    let mut end = 0;
    for (at, descendant) in order.iter().enumerate() {
        let node = seen[descendant.entry].node;
        if watched.contains(&node.pid) {
            end = end.max(at + descendant.size);
        }
        if at < end {
            found.push((node.pid, node.started));
        }
    }
    found
}

/// Returns the bytes read and written, from any source: the first two lines.
fn parse_io(text: &[u8]) -> Option<u64> {
    let mut lines = std::str::from_utf8(text).ok()?.lines();
    let read: u64 = lines.next()?.strip_prefix("rchar: ")?.parse().ok()?;
    let written: u64 = lines.next()?.strip_prefix("wchar: ")?.parse().ok()?;
    Some(read.saturating_add(written))
}

/// Returns a wait status as a shell shows it.
fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
