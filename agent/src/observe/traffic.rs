//! TCP bytes by process.
//!
//! The kernel counts by socket. The process that holds a socket is only visible among its descriptors, and listing
//! those is expensive. So they are listed when that can change the answer: for a new process, for all processes when
//! a connection is new or its holder is gone, and for all now and then, because a socket can be passed on.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rustix::fs::{Dir, OFlags, readlinkat};
use tokio::time::Instant;

use super::sock_diag::{self, Bytes};
use crate::proc_stat::Proc;

/// Longest time that a socket passed to another process goes uncounted there.
const RELIST_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of descriptors of one process that are read.
const MAX_DESCRIPTORS: usize = 4096;

/// Bytes that the watched processes have sent and received.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    processes: HashMap<u32, Counted>,
    /// Connections at the last scan of all descriptors.
    seen: HashSet<u64>,
    listed: Option<Instant>,
}

#[derive(Debug)]
struct Counted {
    started: u64,
    total: Bytes,
    /// Connections of the process, with the last values of their counters.
    sockets: HashMap<u64, Bytes>,
}

impl Traffic {
    /// Counts the bytes of the processes in `watched`: numbers with start times.
    pub(super) fn count(&mut self, now: Instant, proc: &mut Proc, watched: &[(u32, u64)]) {
        if watched.is_empty() {
            return;
        }
        let Some(connections) = sock_diag::tcp_bytes() else { return };
        let all = self.is_stale(now, &connections, watched);
        if all {
            self.list_sockets(now, &connections, watched);
        }
        for (pid, started) in watched {
            let known = self.processes.get_mut(pid).filter(|counted| counted.started == *started);
            match known {
                None => {
                    let held = held_connections(proc, *pid, &connections);
                    // Earlier bytes of these sockets do not count for this process.
                    let sockets = held.into_iter().map(|inode| (inode, connections[&inode])).collect();
                    let counted = Counted { started: *started, total: Bytes::default(), sockets };
                    self.processes.insert(*pid, counted);
                }
                Some(counted) => {
                    let fresh = if all { held_connections(proc, *pid, &connections) } else { Vec::new() };
                    counted.count(&connections, all.then_some(fresh));
                }
            }
        }
    }

    /// Returns the bytes that a process has sent and received since it was first watched.
    pub(super) fn bytes_of(&self, pid: u32, started: u64) -> Bytes {
        let counted = self.processes.get(&pid).filter(|counted| counted.started == started);
        counted.map(|counted| counted.total).unwrap_or_default()
    }

    /// Drops the processes that are gone.
    pub(super) fn retain(&mut self, lives: impl Fn(u32) -> bool) {
        self.processes.retain(|pid, _| lives(*pid));
    }

    fn list_sockets(&mut self, now: Instant, connections: &HashMap<u64, Bytes>, watched: &[(u32, u64)]) {
        self.seen = connections.keys().copied().collect();
        self.listed = Some(now);
        // A process that is not watched any more holds no connection that has to be found again.
        let watched: HashSet<u32> = watched.iter().map(|(pid, _)| *pid).collect();
        for (_, counted) in self.processes.iter_mut().filter(|(pid, _)| !watched.contains(pid)) {
            counted.sockets.clear();
        }
    }

    /// Returns true if a connection may be held by a process that is not known to hold it.
    fn is_stale(&self, now: Instant, connections: &HashMap<u64, Bytes>, watched: &[(u32, u64)]) -> bool {
        if self.listed.is_none_or(|listed| now.duration_since(listed) >= RELIST_INTERVAL) {
            return true;
        }
        let lives: HashMap<u32, u64> = watched.iter().copied().collect();
        let gone = self.processes.iter().filter(|(pid, counted)| lives.get(pid) != Some(&counted.started));
        let mut left_over = gone.flat_map(|(_, counted)| counted.sockets.keys());
        connections.keys().any(|inode| !self.seen.contains(inode))
            || left_over.any(|inode| connections.contains_key(inode))
    }
}

impl Counted {
    /// Adds the bytes of its connections since the last scan; `fresh` are all that it holds, if they were listed.
    fn count(&mut self, connections: &HashMap<u64, Bytes>, fresh: Option<Vec<u64>>) {
        if let Some(fresh) = fresh {
            // A connection that it opened itself is counted from its first byte.
            let stood = |inode: u64| (inode, self.sockets.get(&inode).copied().unwrap_or_default());
            self.sockets = fresh.into_iter().map(stood).collect();
        }
        self.sockets.retain(|inode, stood| {
            let Some(now) = connections.get(inode) else { return false };
            self.total.sent += now.sent.saturating_sub(stood.sent);
            self.total.received += now.received.saturating_sub(stood.received);
            *stood = *now;
            true
        });
    }
}

/// Returns the connections that a process holds, or none if its descriptors can't be read.
fn held_connections(proc: &mut Proc, pid: u32, connections: &HashMap<u64, Bytes>) -> Vec<u64> {
    sockets(proc, pid).into_iter().filter(|inode| connections.contains_key(inode)).collect()
}

/// Returns the inodes of the sockets that a process holds, those of its newest descriptors last.
pub(super) fn sockets(proc: &mut Proc, pid: u32) -> Vec<u64> {
    let folder = proc.open_file(pid, "fd", OFlags::RDONLY | OFlags::DIRECTORY);
    let Some(entries) = folder.as_ref().and_then(|folder| Dir::read_from(folder).ok()) else {
        return Vec::new();
    };
    let (mut found, mut target) = (Vec::new(), Vec::new());
    for entry in entries.flatten().take(MAX_DESCRIPTORS) {
        let read =
            folder.as_ref().map(|folder| readlinkat(folder, entry.file_name(), std::mem::take(&mut target)));
        if let Some(Ok(link)) = read {
            let inode = link.to_str().ok().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
            found.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
            target = link.into_bytes();
        }
    }
    found
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
