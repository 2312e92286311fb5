//! Made-up processes and trees for tests.

use std::sync::Arc;

use tokio::time::Instant;

use super::topology::{Node, descendants};
use super::{Process, Snapshot};

/// Returns a process that has used nothing yet. Its command line is split at blanks.
pub(crate) fn process(pid: u32, parent: u32, command: &str) -> Process {
    let argv: Arc<[String]> = command.split(' ').map(str::to_owned).collect();
    Process {
        pid,
        parent,
        started: u64::from(pid),
        session: pid,
        name: command.into(),
        argv,
        zombie: false,
        exit_code: None,
        cpu_ms: 0,
        memory: 0,
        io: Some(0),
        sent: 0,
        received: 0,
        call_id: None,
    }
}

/// Returns the snapshot of a scan that finds these processes; those whose parent is not among them are below the
/// agent.
pub(crate) fn snapshot(processes: &[Process]) -> Snapshot {
    truncated_snapshot(processes, &[])
}

/// Returns such a snapshot where too many processes were below some of them (`cut`) for all to be kept.
pub(crate) fn truncated_snapshot(processes: &[Process], cut: &[u32]) -> Snapshot {
    let nodes: Vec<Node> = processes
        .iter()
        .map(|process| Node { pid: process.pid, parent: process.parent, started: process.started })
        .collect();
    let tops = processes.iter().map(|process| process.parent);
    let mut tops: Vec<u32> =
        tops.filter(|top| !processes.iter().any(|process| process.pid == *top)).collect();
    tops.sort_unstable();
    tops.dedup();
    let order = descendants(tops, &nodes);
    let sizes = order.iter().map(|below| below.size).collect();
    let ordered = order.iter().map(|below| processes[below.entry].clone()).collect();
    Snapshot::new(Instant::now(), 0, ordered, sizes, cut.iter().copied().collect())
}
