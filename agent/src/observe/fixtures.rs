//! Processes and trees for tests.

use std::sync::Arc;

use tokio::time::Instant;

use super::process_tree::{ProcessNode, descendants};
use super::{Process, Snapshot};

/// Returns a process without resource usage. Its command line is split at blanks.
pub(crate) fn process(pid: u32, parent: u32, command: &str) -> Process {
    let argv: Arc<[String]> = command.split(' ').map(str::to_owned).collect();
    Process {
        pid,
        parent,
        start_ticks: u64::from(pid),
        session: pid,
        name: command.into(),
        argv,
        is_zombie: false,
        exit_code: None,
        cpu_ms: 0,
        memory_bytes: 0,
        io_bytes: Some(0),
        sent_bytes: 0,
        received_bytes: 0,
        call_id: None,
    }
}

/// Returns the snapshot of a scan that finds these processes. Processes without a parent in the list are children of
/// the agent.
pub(crate) fn snapshot(processes: &[Process]) -> Snapshot {
    truncated_snapshot(processes, &[])
}

/// Returns a snapshot like [`snapshot`], in which the trees below the processes in `truncated` are incomplete.
pub(crate) fn truncated_snapshot(processes: &[Process], truncated: &[u32]) -> Snapshot {
    let nodes: Vec<ProcessNode> = processes
        .iter()
        .map(|process| ProcessNode {
            pid: process.pid,
            parent: process.parent,
            start_ticks: process.start_ticks,
        })
        .collect();
    let roots = processes.iter().map(|process| process.parent);
    let mut roots: Vec<u32> =
        roots.filter(|root| !processes.iter().any(|process| process.pid == *root)).collect();
    roots.sort_unstable();
    roots.dedup();
    let order = descendants(roots, &nodes);
    let sizes = order.iter().map(|descendant| descendant.subtree_size).collect();
    let ordered = order.iter().map(|descendant| processes[descendant.node_index].clone()).collect();
    Snapshot::new(Instant::now(), 0, ordered, sizes, truncated.iter().copied().collect())
}
