//! Scanner of the processes below the agent.
//!
//! A scan lists `/proc`, reads the `stat` of every process, and keeps the processes below the agent. Other processes
//! are remembered by the inodes of their folders and not read again: an unrelated process can't become a descendant,
//! because an orphan is adopted by one of its own ancestors. (Walking down `/proc/PID/task/TID/children` instead would
//! miss processes whenever a sibling exits.)

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::param::{clock_ticks_per_second, page_size};
use tokio::time::Instant;

use super::cmdline;
use super::process_tree::{Descendant, ProcessNode, descendants};
use super::snapshot::{Process, Snapshot};
use super::sock_diag::SocketBytes;
use super::traffic::TcpTraffic;
use crate::proc_stat::{ProcFs, ProcessStat};

/// Maximum number of processes in a snapshot. Only a fork bomb creates more.
const MAX_PROCESSES: usize = 20_000;
/// Time after a start or an exec during which a process may still change its arguments.
const SETTLE_TIME: Duration = Duration::from_secs(2);
/// Time after which unrelated processes are read again, so that a kernel that reuses an inode can't hide a process
/// for long.
const UNRELATED_TTL: Duration = Duration::from_secs(10);
/// Maximum number of bytes read of `/proc/PID/io`: enough for the lines that are parsed.
const MAX_IO: usize = 512;

/// Scanner with a cache of properties that don't change between scans.
#[derive(Debug)]
pub(super) struct Scanner {
    root_pid: u32,
    proc: ProcFs,
    cache: HashMap<u32, CachedInfo>,
    /// Inodes of the folders of processes that are not below the root.
    unrelated_inodes: HashMap<u32, u64>,
    unrelated_since: Instant,
    traffic: TcpTraffic,
}

/// Properties that stay the same until the process executes another program.
#[derive(Debug, Clone)]
struct CachedInfo {
    start_ticks: u64,
    arguments_address: u64,
    comm: Vec<u8>,
    settles_at: Instant,
    name: Arc<str>,
    argv: Arc<[String]>,
    call_id: Option<Arc<str>>,
}

#[derive(Debug)]
struct ScannedProcess {
    node: ProcessNode,
    inode: u64,
    comm: Vec<u8>,
    session: u32,
    is_zombie: bool,
    cpu_ticks: u64,
    resident_pages: u64,
    arguments_address: u64,
    wait_status: i32,
}

impl ScannedProcess {
    fn new(pid: u32, inode: u64, stat: &ProcessStat<'_>) -> Self {
        Self {
            node: ProcessNode { pid, parent: stat.parent, start_ticks: stat.start_ticks },
            inode,
            comm: stat.name.to_vec(),
            session: stat.session,
            is_zombie: stat.is_zombie,
            cpu_ticks: stat.cpu_ticks,
            resident_pages: stat.resident_pages,
            arguments_address: stat.arguments_address,
            wait_status: stat.wait_status,
        }
    }
}

impl Scanner {
    /// Creates a scanner of everything below `root_pid`.
    pub(super) fn new(root_pid: u32) -> Result<Self, Errno> {
        Ok(Self {
            root_pid,
            proc: ProcFs::open()?,
            cache: HashMap::new(),
            unrelated_inodes: HashMap::new(),
            unrelated_since: Instant::now(),
            traffic: TcpTraffic::default(),
        })
    }

    /// Scans the processes. Counts TCP bytes for `watched` and everything below them.
    pub(super) fn scan(&mut self, watched: &[u32]) -> Snapshot {
        let scanned_at = Instant::now();
        let candidates = self.read_candidates(scanned_at);
        let (order, truncated) = self.find_descendants(&candidates);
        let watched = watched_descendants(watched, &candidates, &order);
        self.traffic.update(scanned_at, &mut self.proc, &watched);
        let mut processes = Vec::with_capacity(order.len());
        for descendant in &order {
            processes.push(self.read_process(scanned_at, &candidates[descendant.node_index]));
        }
        let sizes = order.iter().map(|descendant| descendant.subtree_size).collect();
        let snapshot = Snapshot::new(scanned_at, self.root_pid, processes, sizes, truncated);
        self.cache.retain(|pid, _| snapshot.process(*pid).is_some());
        self.traffic.retain(|pid| snapshot.process(pid).is_some());
        snapshot
    }

    /// Reads all processes that are not known to be unrelated.
    fn read_candidates(&mut self, now: Instant) -> Vec<ScannedProcess> {
        if now.duration_since(self.unrelated_since) >= UNRELATED_TTL {
            self.unrelated_inodes.clear();
            self.unrelated_since = now;
        }
        let mut unrelated_inodes = HashMap::with_capacity(self.unrelated_inodes.len());
        let mut candidates = Vec::with_capacity(self.cache.len());
        for (pid, inode) in self.proc.process_ids() {
            if self.unrelated_inodes.get(&pid) == Some(&inode) {
                unrelated_inodes.insert(pid, inode);
            } else if pid != self.root_pid
                && let Some(stat) = self.proc.stat(pid)
            {
                candidates.push(ScannedProcess::new(pid, inode, &stat));
            }
        }
        self.unrelated_inodes = unrelated_inodes;
        candidates
    }

    /// Returns the processes below the root in tree order, and the roots of truncated trees. Marks all other processes
    /// as unrelated.
    fn find_descendants(&mut self, stats: &[ScannedProcess]) -> (Vec<Descendant>, HashSet<u32>) {
        let mut nodes: Vec<ProcessNode> = stats.iter().map(|process| process.node).collect();
        self.reread_orphans(&mut nodes);
        let order = descendants([self.root_pid], &nodes);
        // A process counts as unrelated only if its whole chain of parents is known; others are read again.
        let roots: Vec<u32> = self.unrelated_inodes.keys().copied().chain([0]).collect();
        for other in descendants(roots, &nodes) {
            let process = &stats[other.node_index];
            self.unrelated_inodes.insert(process.node.pid, process.inode);
        }
        bound_trees(self.root_pid, order, &mut nodes, MAX_PROCESSES)
    }

    /// Reads the processes again whose parent died during the scan: they now have another parent.
    fn reread_orphans(&mut self, nodes: &mut [ProcessNode]) {
        let listed: HashSet<u32> = nodes.iter().map(|node| node.pid).collect();
        let is_known = |pid: u32, unrelated_inodes: &HashMap<u32, u64>| {
            listed.contains(&pid) || unrelated_inodes.contains_key(&pid)
        };
        for node in nodes {
            if node.parent != self.root_pid
                && node.parent != 0
                && !is_known(node.parent, &self.unrelated_inodes)
            {
                let stat = self.proc.stat(node.pid).filter(|stat| stat.start_ticks == node.start_ticks);
                node.parent = stat.map_or(node.parent, |stat| stat.parent);
            }
        }
    }

    fn read_process(&mut self, now: Instant, stat: &ScannedProcess) -> Process {
        let ProcessNode { pid, parent, start_ticks } = stat.node;
        let cached = self.cached_info(now, stat);
        let io = self.proc.read(pid, "io", MAX_IO).and_then(parse_io);
        let SocketBytes { sent, received } = self.traffic.bytes_of(pid, start_ticks);
        // The kernel shows 0 instead of the status to a caller that may not read the I/O counters.
        let status = (stat.is_zombie && (io.is_some() || stat.wait_status != 0)).then_some(stat.wait_status);
        Process {
            pid,
            parent,
            start_ticks,
            session: stat.session,
            argv: cached.argv,
            name: cached.name,
            is_zombie: stat.is_zombie,
            exit_code: status.map(shell_exit_code),
            cpu_ms: stat.cpu_ticks.saturating_mul(1000) / clock_ticks_per_second().max(1),
            memory_bytes: stat.resident_pages.saturating_mul(page_size() as u64),
            io_bytes: io,
            sent_bytes: sent,
            received_bytes: received,
            call_id: cached.call_id,
        }
    }

    /// Returns the name, arguments and call id of a process. They are read again only when they may have changed.
    fn cached_info(&mut self, now: Instant, stat: &ScannedProcess) -> CachedInfo {
        let ProcessNode { pid, parent, start_ticks } = stat.node;
        let cached = self.cache.get(&pid).filter(|cached| cached.start_ticks == start_ticks);
        let has_changed = cached.is_none_or(|cached| {
            // A zombie has no arguments.
            !stat.is_zombie
                && (cached.arguments_address != stat.arguments_address || cached.comm != stat.comm)
        });
        if let Some(cached) =
            cached.filter(|cached| !has_changed && (now >= cached.settles_at || stat.is_zombie))
        {
            return cached.clone();
        }
        let settles_at =
            cached.filter(|_| !has_changed).map_or(now + SETTLE_TIME, |cached| cached.settles_at);
        let argv = self
            .proc
            .read(pid, "cmdline", cmdline::MAX_TOTAL_ARGUMENT_BYTES)
            .map(cmdline::arguments)
            .unwrap_or_default();
        if let Some(cached) = cached.filter(|_| argv.is_empty()) {
            // The process, or its first thread, is ending. The earlier arguments are kept.
            return cached.clone();
        }
        // A fork has its parent's arguments, so it can share the parent's list.
        let shared =
            [cached, self.cache.get(&parent)].into_iter().flatten().find(|other| *other.argv == *argv);
        let argv = shared.map_or_else(|| Arc::from(argv), |shared| Arc::clone(&shared.argv));
        let environ = self.proc.read(pid, "environ", cmdline::MAX_ENVIRONMENT);
        let call_id = environ.and_then(cmdline::call_id).map(Arc::from);
        let name = String::from_utf8_lossy(&stat.comm).as_ref().into();
        let comm = stat.comm.clone();
        let cached = CachedInfo {
            start_ticks,
            arguments_address: stat.arguments_address,
            comm,
            settles_at,
            name,
            argv,
            call_id,
        };
        self.cache.insert(pid, cached.clone());
        cached
    }
}

/// Returns at most `max_processes` processes, and the roots of the trees that were truncated. Only trees larger than
/// their share are truncated, so that a fork bomb in one job hides no process of another. The oldest processes of a
/// tree are kept, with their parents.
fn bound_trees(
    root_pid: u32,
    order: Vec<Descendant>,
    nodes: &mut [ProcessNode],
    max_processes: usize,
) -> (Vec<Descendant>, HashSet<u32>) {
    let mut truncated = HashSet::new();
    if order.len() <= max_processes {
        return (order, truncated);
    }
    let mut trees: Vec<&[Descendant]> = Vec::new();
    let mut rest = order.as_slice();
    while let Some(root) = rest.first() {
        let (tree, others) = rest.split_at(root.subtree_size.min(rest.len()));
        trees.push(tree);
        rest = others;
    }
    let share = max_processes / trees.len().max(1);
    for tree in trees.into_iter().filter(|tree| tree.len() > share) {
        truncated.insert(nodes[tree[0].node_index].pid);
        let mut oldest: Vec<usize> = tree.iter().map(|descendant| descendant.node_index).collect();
        oldest.sort_unstable_by_key(|entry| nodes[*entry].start_ticks);
        for newer in oldest.split_off(share.min(oldest.len())) {
            // Making a process its own parent keeps it out of every tree.
            nodes[newer].parent = nodes[newer].pid;
        }
    }
    (descendants([root_pid], nodes), truncated)
}

/// Returns the ids and start times of the watched processes and everything below them.
fn watched_descendants(watched: &[u32], stats: &[ScannedProcess], order: &[Descendant]) -> Vec<(u32, u64)> {
    let mut processes = Vec::new();
    let mut end = 0;
    for (index, descendant) in order.iter().enumerate() {
        let node = stats[descendant.node_index].node;
        if watched.contains(&node.pid) {
            end = end.max(index + descendant.subtree_size);
        }
        if index < end {
            processes.push((node.pid, node.start_ticks));
        }
    }
    processes
}

/// Returns the sum of the first two lines of `/proc/PID/io`: all bytes read and written.
fn parse_io(text: &[u8]) -> Option<u64> {
    let mut lines = std::str::from_utf8(text).ok()?.lines();
    let read: u64 = lines.next()?.strip_prefix("rchar: ")?.parse().ok()?;
    let written: u64 = lines.next()?.strip_prefix("wchar: ")?.parse().ok()?;
    Some(read.saturating_add(written))
}

/// Returns the exit code that a shell shows for a wait status.
fn shell_exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
