//! Reaping, signalling and killing of the processes below the shim.
//!
//! A process is signalled only through a pidfd that was opened *before* its start time was compared with the one read
//! earlier. If the process died and its number was reused in between, either the start times differ, or the signal goes
//! to the dead process and fails. No unrelated process is ever signalled.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, wait,
};

use super::tree::{self, Leader, ProcessEntry, ProcessKey};

/// Maximum time for killing all descendants. Some may not die: those of another user, or in an uninterruptible call.
const SWEEP_LIMIT: Duration = Duration::from_secs(3);
/// Maximum time for killing a subtree. The rest of the command is not supervised during that time.
const SUBTREE_KILL_LIMIT: Duration = Duration::from_millis(500);
/// Time between two scans while waiting for processes to stop. A fork usually completes within this time.
const STOP_POLL: Duration = Duration::from_millis(1);
/// Maximum time to let a process that blocks TERM run. Starting another program takes less, even on a busy machine.
const MAX_TERM_BLOCKED_TIME: Duration = Duration::from_millis(500);
/// Time between two scans while killed processes die: short compared with the 100 ms by which a command may end late.
const DEATH_POLL: Duration = Duration::from_millis(2);

/// Processes that did not end by themselves. Each process that was sent TERM or KILL counts once.
#[derive(Debug, Default)]
pub(super) struct SignalledProcesses(HashSet<ProcessKey>);

impl SignalledProcesses {
    /// Returns the number of these processes.
    pub(super) fn count(&self) -> u32 {
        saturating_u32(self.0.len())
    }
}

/// Result of reaping dead children.
#[derive(Debug, Default)]
pub(super) struct ReapResult {
    /// True if any child is left. The shim adopts all orphans, so without a child there is no descendant.
    pub(super) has_children: bool,
    /// Number of children reaped.
    pub(super) count: u32,
    /// Status of the leader, if it was reaped.
    pub(super) leader_status: Option<WaitStatus>,
}

/// Reaps every child that has died.
pub(super) fn reap(leader: Option<Pid>) -> ReapResult {
    let mut reaped = ReapResult::default();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                reaped.count = reaped.count.saturating_add(1);
                if Some(pid) == leader {
                    reaped.leader_status = Some(status);
                }
            }
            Ok(None) => {
                reaped.has_children = true;
                return reaped;
            }
            Err(Errno::INTR) => {}
            Err(_) => return reaped,
        }
    }
}

/// Sends TERM to every living descendant, then CONT, because a stopped process does not handle TERM.
///
/// Stops all these processes before the signal, for at most about `limit`: a child started between the scan and the
/// signal would not receive TERM, and would live for the whole grace. Children are continued before their parents, so
/// that the parents never see them stopped.
pub(super) fn terminate_descendants(limit: Duration, signalled: &mut SignalledProcesses) {
    for key in terminate_all(Instant::now() + limit, tree::descendants) {
        signalled.0.insert(key);
    }
}

/// Sends TERM to the processes that the leader has started, like [`terminate_descendants`]. The leader stays stopped
/// from now on.
pub(super) fn terminate_commands(leader: &Leader, limit: Duration, signalled: &mut SignalledProcesses) {
    // ESRCH: the leader exited by itself, which the next scan sees.
    let _ = pidfd_send_signal(&leader.pidfd, Signal::STOP);
    let deadline = Instant::now() + limit;
    for key in terminate_all(deadline, || tree::leader_commands(leader.pid)) {
        signalled.0.insert(key);
    }
}

/// Sends TERM and CONT to all processes of `list_processes`; returns those that were signalled.
fn terminate_all(deadline: Instant, list_processes: impl Fn() -> Vec<ProcessEntry>) -> Vec<ProcessKey> {
    let frozen = stop_all(deadline, list_processes, |newly_found| {
        wait_stopped(deadline, newly_found.clone());
        run_until_term_unblocked(deadline, newly_found);
    });
    let signalled =
        frozen.iter().filter(|entry| send_signal(**entry, Signal::TERM)).map(|entry| entry.key).collect();
    for entry in frozen.into_iter().rev() {
        send_signal(entry, Signal::CONT);
    }
    signalled
}

/// Stops and kills descendants until none is left, or only those that can't be killed. Returns the number of survivors.
///
/// The loop ends when the kernel reports no child to wait for. So each scan can be a quick one: the next scan finds the
/// processes that it missed.
pub(super) fn kill_descendants(
    mut on_leader_exit: impl FnMut(WaitStatus),
    leader_pid: Option<Pid>,
    signalled: &mut SignalledProcesses,
) -> u32 {
    let begun = Instant::now();
    loop {
        let reaped = reap(leader_pid);
        if let Some(status) = reaped.leader_status {
            on_leader_exit(status);
        }
        if !reaped.has_children {
            return 0;
        }
        if begun.elapsed() >= SWEEP_LIMIT {
            return saturating_u32(tree::descendants().len());
        }
        // No waiting here: the next scan finds the processes that are missed now.
        for entry in stop_all(begun + SWEEP_LIMIT, tree::quick_descendants, |_| {}) {
            if send_signal(entry, Signal::KILL) {
                signalled.0.insert(entry.key);
            }
        }
        pause(DEATH_POLL);
    }
}

/// Sends TERM to `root` and its descendants; returns the signalled processes. Returns none if `root` is gone, or if its
/// id now belongs to another process. The programs of the command's sandbox are skipped: they end with the command.
pub(super) fn terminate_subtree(root: ProcessKey) -> Vec<ProcessKey> {
    let commands = |mut entries: Vec<ProcessEntry>| {
        entries.retain(|entry| !entry.is_helper());
        entries
    };
    terminate_all(Instant::now() + SUBTREE_KILL_LIMIT, || commands(tree::subtree(tree::descendants(), root)))
}

/// Kills `root`, the processes in `known_processes`, and all their current descendants.
pub(super) fn kill_subtree(root: ProcessKey, known_processes: &[ProcessKey]) {
    let deadline = Instant::now() + SUBTREE_KILL_LIMIT;
    let list_processes = || {
        let mut processes = tree::subtree(tree::descendants(), root);
        processes.extend(tree::collect_subtrees(tree::descendants(), known_processes));
        processes
    };
    for entry in stop_all(deadline, list_processes, |newly_found| wait_stopped(deadline, newly_found)) {
        send_signal(entry, Signal::KILL);
    }
}

/// Kills the processes of a shim that was killed or is stopped: those in its session, and `known_processes` (ids and
/// start times). Returns the number of killed processes and of survivors. Blocks for at most about [`SWEEP_LIMIT`].
pub(crate) fn sweep_leftover(shim_pid: u32, known_processes: &[(u32, u64)]) -> (u32, u32) {
    let keys: Vec<ProcessKey> =
        known_processes.iter().map(|&(pid, started)| ProcessKey { pid, start_ticks: started }).collect();
    let (deadline, mut signalled) = (Instant::now() + SWEEP_LIMIT, SignalledProcesses::default());
    loop {
        let remaining = stop_all(deadline, || tree::session_members(shim_pid, &keys), |_| {});
        if remaining.is_empty() {
            return (signalled.count(), 0);
        }
        if Instant::now() >= deadline {
            return (signalled.count(), saturating_u32(remaining.len()));
        }
        for entry in remaining {
            // When the shim dies, the kernel may send HUP to its stopped processes. These count as killed too: they did
            // not end by themselves.
            send_signal(entry, Signal::KILL);
            signalled.0.insert(entry.key);
        }
        pause(DEATH_POLL);
    }
}

/// Stops all processes of `list_processes`, until it returns no new one. A stopped process can't escape a signal by
/// forking. Passes the stopped processes to `on_stopped` before each further scan. Returns all processes found,
/// parents before their children.
fn stop_all(
    deadline: Instant,
    list_processes: impl Fn() -> Vec<ProcessEntry>,
    on_stopped: impl Fn(Vec<ProcessEntry>),
) -> Vec<ProcessEntry> {
    let (mut found_keys, mut frozen) = (HashSet::new(), Vec::new());
    loop {
        let mut newly_found = list_processes();
        newly_found.retain(|entry| found_keys.insert(entry.key));
        if newly_found.is_empty() {
            return frozen;
        }
        frozen.extend_from_slice(&newly_found);
        newly_found.retain(|entry| send_signal(*entry, Signal::STOP));
        on_stopped(newly_found);
        if Instant::now() >= deadline {
            return frozen;
        }
    }
}

/// Waits until all of these processes are stopped. A process that receives STOP during a fork completes the fork first
/// (Linux since 4.19), and its child could appear after the next scan.
fn wait_stopped(deadline: Instant, mut stopping: Vec<ProcessEntry>) {
    loop {
        stopping.retain(|entry| !tree::is_stopped(entry.key));
        if stopping.is_empty() || Instant::now() >= deadline {
            return;
        }
        pause(STOP_POLL);
    }
}

/// Continues the processes that block TERM until they no longer block it.
///
/// A program blocks its signals while it starts another program, and would handle TERM only after that: the new program
/// would not receive it. A process that sleeps, or still blocks TERM after `MAX_TERM_BLOCKED_TIME`, blocks it for other
/// reasons, and is skipped.
fn run_until_term_unblocked(deadline: Instant, mut blocking: Vec<ProcessEntry>) {
    let run_deadline = deadline.min(Instant::now() + MAX_TERM_BLOCKED_TIME);
    let mut waiting_keys = HashSet::new();
    loop {
        blocking.retain(|entry| !waiting_keys.contains(&entry.key) && tree::blocks_term(entry.key));
        if blocking.is_empty() || Instant::now() >= run_deadline {
            return;
        }
        blocking.retain(|entry| send_signal(*entry, Signal::CONT));
        let mut running = blocking.clone();
        while !running.is_empty() && Instant::now() < run_deadline {
            pause(STOP_POLL);
            running.retain(|entry| {
                let blocks_term = tree::blocks_term(entry.key);
                let is_idle = blocks_term && tree::is_waiting(entry.key) && waiting_keys.insert(entry.key);
                blocks_term && !is_idle
            });
        }
        blocking.retain(|entry| send_signal(*entry, Signal::STOP));
        wait_stopped(deadline, blocking.clone());
    }
}

/// Signals a process if its start time is unchanged. Returns true on success.
fn send_signal(entry: ProcessEntry, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(entry.key.pid.cast_signed()) else { return false };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // The parent of a process can change, its start time can't.
    tree::is_alive(entry.key) && pidfd_send_signal(&pidfd, signal).is_ok()
}

/// Pauses this thread; a signal ends the pause early.
pub(crate) fn pause(time: Duration) {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let timeout = Timespec { tv_sec: seconds, tv_nsec: i64::from(time.subsec_nanos()) };
    // If a signal interrupts the pause, the caller checks again anyway.
    let _ = poll(&mut [], Some(&timeout));
}

fn saturating_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
