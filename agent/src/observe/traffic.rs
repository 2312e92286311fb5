//! Count of the TCP bytes of each process.
//!
//! The kernel counts bytes by socket. To find the process that holds a socket, the descriptors of processes have to be
//! listed, which is expensive. So descriptors are listed only when needed: those of a new process; those of all
//! processes when a connection is new or its holder is gone; and those of all processes periodically, because a process
//! can pass a socket to another.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rustix::fs::{Dir, OFlags, readlinkat};
use tokio::time::Instant;

use super::sock_diag::{self, SocketBytes};
use crate::proc_stat::ProcFs;

/// Maximum delay until a socket that was passed to another process is counted there.
const RELIST_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of descriptors of one process that are read.
const MAX_DESCRIPTORS: usize = 4096;

/// Bytes that the watched processes have sent and received.
#[derive(Debug, Default)]
pub(super) struct TcpTraffic {
    processes: HashMap<u32, ProcessTraffic>,
    /// Connections that existed when all descriptors were last listed.
    known_connections: HashSet<u64>,
    last_listed: Option<Instant>,
}

#[derive(Debug)]
struct ProcessTraffic {
    start_ticks: u64,
    total_bytes: SocketBytes,
    /// The process's connections by inode, with the last values of their counters.
    bytes_by_socket: HashMap<u64, SocketBytes>,
}

impl TcpTraffic {
    /// Counts the bytes of the processes in `watched`, which are ids and start times.
    pub(super) fn update(&mut self, now: Instant, proc: &mut ProcFs, watched: &[(u32, u64)]) {
        if watched.is_empty() {
            return;
        }
        let Some(connections) = sock_diag::tcp_bytes() else { return };
        let lists_all = self.is_stale(now, &connections, watched);
        if lists_all {
            self.begin_listing(now, &connections, watched);
        }
        for (pid, start_ticks) in watched {
            let traffic = self.processes.get_mut(pid).filter(|traffic| traffic.start_ticks == *start_ticks);
            match traffic {
                None => {
                    let sockets = held_connections(proc, *pid, &connections);
                    // Bytes that these sockets transferred earlier do not count for this process.
                    let sockets = sockets.into_iter().map(|inode| (inode, connections[&inode])).collect();
                    let traffic = ProcessTraffic {
                        start_ticks: *start_ticks,
                        total_bytes: SocketBytes::default(),
                        bytes_by_socket: sockets,
                    };
                    self.processes.insert(*pid, traffic);
                }
                Some(traffic) => {
                    let sockets =
                        if lists_all { held_connections(proc, *pid, &connections) } else { Vec::new() };
                    traffic.update(&connections, lists_all.then_some(sockets));
                }
            }
        }
    }

    /// Returns the bytes that a process has sent and received since it was first watched.
    pub(super) fn bytes_of(&self, pid: u32, start_ticks: u64) -> SocketBytes {
        let traffic = self.processes.get(&pid).filter(|traffic| traffic.start_ticks == start_ticks);
        traffic.map(|traffic| traffic.total_bytes).unwrap_or_default()
    }

    /// Drops the processes that are gone.
    pub(super) fn retain(&mut self, is_alive: impl Fn(u32) -> bool) {
        self.processes.retain(|pid, _| is_alive(*pid));
    }

    /// Records that the sockets of all watched processes are listed now, and forgets those of other processes.
    fn begin_listing(
        &mut self,
        now: Instant,
        connections: &HashMap<u64, SocketBytes>,
        watched: &[(u32, u64)],
    ) {
        self.known_connections = connections.keys().copied().collect();
        self.last_listed = Some(now);
        let watched: HashSet<u32> = watched.iter().map(|(pid, _)| *pid).collect();
        for (_, traffic) in self.processes.iter_mut().filter(|(pid, _)| !watched.contains(pid)) {
            traffic.bytes_by_socket.clear();
        }
    }

    /// Returns true if the descriptors must be listed again to find the holders of the connections.
    fn is_stale(
        &self,
        now: Instant,
        connections: &HashMap<u64, SocketBytes>,
        watched: &[(u32, u64)],
    ) -> bool {
        if self.last_listed.is_none_or(|listed| now.duration_since(listed) >= RELIST_INTERVAL) {
            return true;
        }
        let watched_starts: HashMap<u32, u64> = watched.iter().copied().collect();
        let dropped = self
            .processes
            .iter()
            .filter(|(pid, traffic)| watched_starts.get(pid) != Some(&traffic.start_ticks));
        let mut orphaned = dropped.flat_map(|(_, traffic)| traffic.bytes_by_socket.keys());
        connections.keys().any(|inode| !self.known_connections.contains(inode))
            || orphaned.any(|inode| connections.contains_key(inode))
    }
}

impl ProcessTraffic {
    /// Adds the bytes of the process's connections since the last scan. `listed_sockets` are all sockets of the
    /// process, if they were listed.
    fn update(&mut self, connections: &HashMap<u64, SocketBytes>, listed_sockets: Option<Vec<u64>>) {
        if let Some(sockets) = listed_sockets {
            // A connection that was not known before counts from its first byte: the process opened it.
            let previous =
                |inode: u64| (inode, self.bytes_by_socket.get(&inode).copied().unwrap_or_default());
            self.bytes_by_socket = sockets.into_iter().map(previous).collect();
        }
        self.bytes_by_socket.retain(|inode, previous| {
            let Some(now) = connections.get(inode) else { return false };
            self.total_bytes.sent += now.sent.saturating_sub(previous.sent);
            self.total_bytes.received += now.received.saturating_sub(previous.received);
            *previous = *now;
            true
        });
    }
}

/// Returns the connections that a process holds, or none if its descriptors can't be read.
fn held_connections(proc: &mut ProcFs, pid: u32, connections: &HashMap<u64, SocketBytes>) -> Vec<u64> {
    socket_inodes(proc, pid).into_iter().filter(|inode| connections.contains_key(inode)).collect()
}

/// Returns the inodes of the sockets that a process holds, in the order of the descriptors, newest last.
pub(super) fn socket_inodes(proc: &mut ProcFs, pid: u32) -> Vec<u64> {
    let folder = proc.open_file(pid, "fd", OFlags::RDONLY | OFlags::DIRECTORY);
    let Some(entries) = folder.as_ref().and_then(|folder| Dir::read_from(folder).ok()) else {
        return Vec::new();
    };
    let (mut inodes, mut target) = (Vec::new(), Vec::new());
    for entry in entries.flatten().take(MAX_DESCRIPTORS) {
        let read =
            folder.as_ref().map(|folder| readlinkat(folder, entry.file_name(), std::mem::take(&mut target)));
        if let Some(Ok(link)) = read {
            let inode = link.to_str().ok().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
            inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
            target = link.into_bytes();
        }
    }
    inodes
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
