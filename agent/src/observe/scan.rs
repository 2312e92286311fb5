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
use super::topology::{Below, Place, below};
use super::traffic::Traffic;
use crate::proc_stat::{Proc, Stat};

/// Most processes in a snapshot. Beyond it, there can only be a fork bomb.
const PROCESSES: usize = 20_000;
/// Time after its start, or its start of another program, in which a process may still change its arguments.
const UNSETTLED: Duration = Duration::from_secs(2);
/// Time after which unrelated processes are read again, so that a kernel that reuses an inode can't hide a process
/// for long.
const STRANGERS: Duration = Duration::from_secs(10);
/// Bytes of `/proc/PID/io` that are read: all that are of interest.
const IO: usize = 512;

/// Scanner that remembers what does not change between scans.
#[derive(Debug)]
pub(super) struct Scanner {
    root: u32,
    proc: Proc,
    known: HashMap<u32, Known>,
    /// Inodes of the folders of processes that are not below.
    strangers: HashMap<u32, u64>,
    strangers_since: Instant,
    traffic: Traffic,
}

/// Properties that stay the same until the process executes another program.
#[derive(Debug, Clone)]
struct Known {
    started: u64,
    arguments: u64,
    comm: Vec<u8>,
    settled: Instant,
    name: Arc<str>,
    argv: Arc<[String]>,
    call_id: Option<Arc<str>>,
}

/// One process in this scan.
#[derive(Debug)]
struct Seen {
    place: Place,
    inode: u64,
    comm: Vec<u8>,
    session: u32,
    zombie: bool,
    cpu_ticks: u64,
    resident_pages: u64,
    arguments: u64,
    wait_status: i32,
}

impl Seen {
    fn new(pid: u32, inode: u64, stat: &Stat<'_>) -> Self {
        Self {
            place: Place { pid, parent: stat.parent, started: stat.started },
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
    ///
    /// # Errors
    /// There is no `/proc`.
    pub(super) fn new(root: u32) -> Result<Self, Errno> {
        Ok(Self {
            root,
            proc: Proc::open()?,
            known: HashMap::new(),
            strangers: HashMap::new(),
            strangers_since: Instant::now(),
            traffic: Traffic::default(),
        })
    }

    /// Scans. TCP bytes are counted for `watched` and everything below them.
    pub(super) fn look(&mut self, watched: &[u32]) -> Snapshot {
        let at = Instant::now();
        let seen = self.everybody(at);
        let (order, cut) = self.ours(&seen);
        let connected = watched_below(watched, &seen, &order);
        self.traffic.look(at, &mut self.proc, &connected);
        let mut processes = Vec::with_capacity(order.len());
        for below in &order {
            processes.push(self.process(at, &seen[below.entry]));
        }
        let sizes = order.iter().map(|below| below.size).collect();
        let snapshot = Snapshot::new(at, self.root, processes, sizes, cut);
        self.known.retain(|pid, _| snapshot.process(*pid).is_some());
        self.traffic.retain(|pid| snapshot.process(pid).is_some());
        snapshot
    }

    /// Reads all processes that are not known to be unrelated.
    fn everybody(&mut self, now: Instant) -> Vec<Seen> {
        if now.duration_since(self.strangers_since) >= STRANGERS {
            self.strangers.clear();
            self.strangers_since = now;
        }
        let mut strangers = HashMap::with_capacity(self.strangers.len());
        let mut seen = Vec::with_capacity(self.known.len());
        for (pid, inode) in self.proc.processes() {
            if self.strangers.get(&pid) == Some(&inode) {
                strangers.insert(pid, inode);
            } else if pid != self.root
                && let Some(stat) = self.proc.stat(pid)
            {
                seen.push(Seen::new(pid, inode, &stat));
            }
        }
        self.strangers = strangers;
        seen
    }

    /// Returns the processes below, in order, and the trees of which some were left out. The others count as
    /// unrelated from now on.
    fn ours(&mut self, seen: &[Seen]) -> (Vec<Below>, HashSet<u32>) {
        let mut places: Vec<Place> = seen.iter().map(|seen| seen.place).collect();
        self.find_lost(&mut places);
        let order = below([self.root], &places);
        // A process is unrelated only if its chain of parents proves it: one with a broken chain is read again.
        let tops: Vec<u32> = self.strangers.keys().copied().chain([0]).collect();
        for stranger in below(tops, &places) {
            let seen = &seen[stranger.entry];
            self.strangers.insert(seen.place.pid, seen.inode);
        }
        bounded(self.root, order, &mut places, PROCESSES)
    }

    /// Reads those again whose parent is gone: it died during the scan, and they have another now.
    fn find_lost(&mut self, places: &mut [Place]) {
        let there: HashSet<u32> = places.iter().map(|place| place.pid).collect();
        let is_known =
            |pid: u32, strangers: &HashMap<u32, u64>| there.contains(&pid) || strangers.contains_key(&pid);
        for place in places {
            if place.parent != self.root && place.parent != 0 && !is_known(place.parent, &self.strangers) {
                let now = self.proc.stat(place.pid).filter(|stat| stat.started == place.started);
                place.parent = now.map_or(place.parent, |stat| stat.parent);
            }
        }
    }

    fn process(&mut self, now: Instant, seen: &Seen) -> Process {
        let Place { pid, parent, started } = seen.place;
        let known = self.known(now, seen);
        let io = self.proc.read(pid, "io", IO).and_then(io);
        let Bytes { sent, received } = self.traffic.of(pid, started);
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
    fn known(&mut self, now: Instant, seen: &Seen) -> Known {
        let Place { pid, parent, started } = seen.place;
        let known = self.known.get(&pid).filter(|known| known.started == started);
        let changed = known.is_none_or(|known| {
            // A zombie has no arguments any more.
            !seen.zombie && (known.arguments != seen.arguments || known.comm != seen.comm)
        });
        if let Some(known) = known.filter(|known| !changed && (now >= known.settled || seen.zombie)) {
            return known.clone();
        }
        let settled = known.filter(|_| !changed).map_or(now + UNSETTLED, |known| known.settled);
        let argv =
            self.proc.read(pid, "cmdline", cmdline::ARGUMENTS).map(cmdline::arguments).unwrap_or_default();
        if let Some(known) = known.filter(|_| argv.is_empty()) {
            // The process, or its first thread, is ending. The earlier arguments are kept.
            return known.clone();
        }
        // Most are forks of their parents: a thousand of them share one list.
        let same = [known, self.known.get(&parent)].into_iter().flatten().find(|other| *other.argv == *argv);
        let argv = same.map_or_else(|| Arc::from(argv), |same| Arc::clone(&same.argv));
        let environ = self.proc.read(pid, "environ", cmdline::ENVIRONMENT);
        let call_id = environ.and_then(cmdline::call_id).map(Arc::from);
        let name = String::from_utf8_lossy(&seen.comm).as_ref().into();
        let comm = seen.comm.clone();
        let known = Known { started, arguments: seen.arguments, comm, settled, name, argv, call_id };
        self.known.insert(pid, known.clone());
        known
    }
}

/// Returns at most `most` of the processes, and the trees directly below the root of which some were left out: those
/// that have more than their share, so that a fork bomb in one job hides no process of another. The older processes
/// stay, such as those that ran before the bomb, and with them their parents.
fn bounded(root: u32, order: Vec<Below>, places: &mut [Place], most: usize) -> (Vec<Below>, HashSet<u32>) {
    let mut cut = HashSet::new();
    if order.len() <= most {
        return (order, cut);
    }
    let mut trees: Vec<&[Below]> = Vec::new();
    let mut rest = order.as_slice();
    while let Some(top) = rest.first() {
        let (tree, behind) = rest.split_at(top.size.min(rest.len()));
        trees.push(tree);
        rest = behind;
    }
    let share = most / trees.len().max(1);
    for tree in trees.into_iter().filter(|tree| tree.len() > share) {
        cut.insert(places[tree[0].entry].pid);
        let mut oldest: Vec<usize> = tree.iter().map(|below| below.entry).collect();
        oldest.sort_unstable_by_key(|entry| places[*entry].started);
        for newer in oldest.split_off(share.min(oldest.len())) {
            // Made its own parent: it is below no top.
            places[newer].parent = places[newer].pid;
        }
    }
    (below([root], places), cut)
}

/// Returns the numbers and start times of the watched processes and everything below them.
fn watched_below(watched: &[u32], seen: &[Seen], order: &[Below]) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    let mut end = 0;
    for (at, below) in order.iter().enumerate() {
        let place = seen[below.entry].place;
        if watched.contains(&place.pid) {
            end = end.max(at + below.size);
        }
        if at < end {
            found.push((place.pid, place.started));
        }
    }
    found
}

/// Returns the bytes read and written, from any source: the first two lines.
fn io(text: &[u8]) -> Option<u64> {
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
