//! Reaping, signalling and killing of the processes below the shim.
//!
//! A process is signalled only through a pidfd that was opened *before* its start time was compared with the one seen
//! earlier. If the process died and its number was reused in between, either the start times differ, or the signal
//! goes to the dead process and fails: no unrelated process is ever hit.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, wait,
};

use super::tree::{self, Leader, ProcessEntry, ProcessKey};

/// Limit of a sweep when processes can't be killed: they belong to another user, or are in an uninterruptible call.
const SWEEP_LIMIT: Duration = Duration::from_secs(3);
/// Limit where only a part is killed: meanwhile the rest of the command is not supervised.
const PART_LIMIT: Duration = Duration::from_millis(500);
/// Time between two scans while processes stop: a fork takes less, unless it has to wait for a processor.
const STOP_POLL: Duration = Duration::from_millis(1);
/// Time that a process may go on while it blocks TERM: starting another program takes less, on a busy machine too.
const MAX_TERM_BLOCKED: Duration = Duration::from_millis(500);
/// Time between two scans while killed processes die: short compared with the 100 ms that an end may take.
const DEATH_POLL: Duration = Duration::from_millis(2);

/// Processes that did not end by themselves. Each one that was sent TERM or KILL counts once.
#[derive(Debug, Default)]
pub(super) struct SignalledProcesses(HashSet<ProcessKey>);

impl SignalledProcesses {
    /// Returns the number of these processes.
    pub(super) fn count(&self) -> u32 {
        count(self.0.len())
    }
}

/// Result of reaping dead children.
#[derive(Debug, Default)]
pub(super) struct Reaped {
    /// True if any child is left. The shim adopts all orphans, so "no child" is the same as "no descendant".
    pub(super) left: bool,
    /// Number of children reaped.
    pub(super) count: u32,
    /// Status of the leader, if it was among them.
    pub(super) leader: Option<WaitStatus>,
}

/// Reaps every child that has died.
pub(super) fn reap(leader: Option<Pid>) -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                reaped.count = reaped.count.saturating_add(1);
                if Some(pid) == leader {
                    reaped.leader = Some(status);
                }
            }
            Ok(None) => {
                reaped.left = true;
                return reaped;
            }
            Err(Errno::INTR) => {}
            Err(_) => return reaped,
        }
    }
}

/// Sends TERM to every living process, and CONT, since a stopped process handles no other signal.
///
/// All processes are stopped meanwhile, for at most about `limit`: a child started between the scan and the signal
/// would not receive it, and would live for the whole grace. Children are continued before their parents, so that the
/// parents never see them stopped.
pub(super) fn terminate(limit: Duration, signalled: &mut SignalledProcesses) {
    for name in terminate_all(Instant::now() + limit, tree::descendants) {
        signalled.0.insert(name);
    }
}

/// Sends TERM to the processes that the leader has started, like [`terminate`]. The leader stays stopped from now on.
pub(super) fn terminate_commands(leader: &Leader, limit: Duration, signalled: &mut SignalledProcesses) {
    // ESRCH: the leader exited by itself, which the next scan sees.
    let _ = pidfd_send_signal(&leader.pidfd, Signal::STOP);
    let until = Instant::now() + limit;
    for name in terminate_all(until, || tree::commands(leader.pid)) {
        signalled.0.insert(name);
    }
}

/// Sends TERM and CONT to all that `look` finds; returns the processes that were signalled.
fn terminate_all(until: Instant, look: impl Fn() -> Vec<ProcessEntry>) -> Vec<ProcessKey> {
    let frozen = freeze(until, look, |fresh| {
        wait_stopped(until, fresh.clone());
        run_until_term_unblocked(until, fresh);
    });
    let signalled =
        frozen.iter().filter(|entry| send_signal(**entry, Signal::TERM)).map(|entry| entry.key).collect();
    for entry in frozen.into_iter().rev() {
        send_signal(entry, Signal::CONT);
    }
    signalled
}

/// Freezes and kills until nothing is left, or only processes that can't be killed. Returns the number of survivors.
///
/// The kernel decides that nothing is left, by having no child to wait for. So a quick scan is enough to find the
/// processes to kill: the next scan finds those that it misses.
pub(super) fn sweep(
    mut leader: impl FnMut(WaitStatus),
    leader_pid: Option<Pid>,
    signalled: &mut SignalledProcesses,
) -> u32 {
    let begun = Instant::now();
    loop {
        let reaped = reap(leader_pid);
        if let Some(status) = reaped.leader {
            leader(status);
        }
        if !reaped.left {
            return 0;
        }
        if begun.elapsed() >= SWEEP_LIMIT {
            return count(tree::descendants().len());
        }
        // No process is waited for: the next scan finds those that are missed now.
        for entry in freeze(begun + SWEEP_LIMIT, tree::quick_descendants, |_| {}) {
            if send_signal(entry, Signal::KILL) {
                signalled.0.insert(entry.key);
            }
        }
        pause(DEATH_POLL);
    }
}

/// Sends TERM to `root` and what it started, and to nothing else; returns the signalled processes. There are none if
/// `root` is gone, or if its number belongs to another process now. The programs that hold a command's sandbox
/// together are skipped: they end with the command.
pub(super) fn terminate_below(root: ProcessKey) -> Vec<ProcessKey> {
    let commands = |mut all: Vec<ProcessEntry>| {
        all.retain(|entry| !entry.is_helper());
        all
    };
    terminate_all(Instant::now() + PART_LIMIT, || commands(tree::subtree(tree::descendants(), root)))
}

/// Kills `root` and what it started, the processes of `names`, and everything that is below them by now.
pub(super) fn kill_below(root: ProcessKey, names: &[ProcessKey]) {
    let until = Instant::now() + PART_LIMIT;
    let part = || {
        let mut part = tree::subtree(tree::descendants(), root);
        part.extend(tree::remaining(tree::descendants(), names));
        part
    };
    for entry in freeze(until, part, |fresh| wait_stopped(until, fresh)) {
        send_signal(entry, Signal::KILL);
    }
}

/// Kills the processes left by a shim that was killed or is stopped: all in its session, and those of `seen` (numbers
/// and starts). Returns the number of killed processes and of survivors. Blocks for at most about [`SWEEP_LIMIT`].
pub(crate) fn sweep_leftover(shim: u32, seen: &[(u32, u64)]) -> (u32, u32) {
    let names: Vec<ProcessKey> = seen.iter().map(|&(pid, started)| ProcessKey { pid, started }).collect();
    let (until, mut signalled) = (Instant::now() + SWEEP_LIMIT, SignalledProcesses::default());
    loop {
        let left = freeze(until, || tree::in_session(shim, &names), |_| {});
        if left.is_empty() {
            return (signalled.count(), 0);
        }
        if Instant::now() >= until {
            return (signalled.count(), count(left.len()));
        }
        for entry in left {
            // When the shim of a stopped process dies, the kernel may hang that process up before: it did not end by
            // itself either.
            send_signal(entry, Signal::KILL);
            signalled.0.insert(entry.key);
        }
        pause(DEATH_POLL);
    }
}

/// Stops all that `look` finds, until it finds no new process: a stopped process can't fork away from the signal.
/// Passes the processes that were sent STOP to `on_signalled` before each further scan. Returns all processes found,
/// parents before the children that they were seen with.
fn freeze(
    until: Instant,
    look: impl Fn() -> Vec<ProcessEntry>,
    on_signalled: impl Fn(Vec<ProcessEntry>),
) -> Vec<ProcessEntry> {
    let (mut known, mut frozen) = (HashSet::new(), Vec::new());
    loop {
        let mut fresh = look();
        fresh.retain(|entry| known.insert(entry.key));
        if fresh.is_empty() {
            return frozen;
        }
        frozen.extend_from_slice(&fresh);
        fresh.retain(|entry| send_signal(*entry, Signal::STOP));
        on_signalled(fresh);
        if Instant::now() >= until {
            return frozen;
        }
    }
}

/// Waits until all of these processes are stopped. One that receives STOP in the middle of a fork completes the fork
/// first (Linux since 4.19), and its child could appear after the next scan.
fn wait_stopped(until: Instant, mut signalled: Vec<ProcessEntry>) {
    loop {
        signalled.retain(|entry| tree::is_runnable(entry.key));
        if signalled.is_empty() || Instant::now() >= until {
            return;
        }
        pause(STOP_POLL);
    }
}

/// Continues the processes that block TERM, until they don't.
///
/// A program blocks its signals while it starts another. It would handle TERM only after that, and the program that it
/// started would not receive it. A process that sleeps meanwhile, or still blocks TERM after `MAX_TERM_BLOCKED`, has
/// other reasons to block it, and is not waited for.
fn run_until_term_unblocked(until: Instant, mut held: Vec<ProcessEntry>) {
    let patience = until.min(Instant::now() + MAX_TERM_BLOCKED);
    let mut waiting = HashSet::new();
    loop {
        held.retain(|entry| !waiting.contains(&entry.key) && tree::blocks_term(entry.key));
        if held.is_empty() || Instant::now() >= patience {
            return;
        }
        held.retain(|entry| send_signal(*entry, Signal::CONT));
        let mut busy = held.clone();
        while !busy.is_empty() && Instant::now() < patience {
            pause(STOP_POLL);
            busy.retain(|entry| {
                let held = tree::blocks_term(entry.key);
                let waits = held && tree::is_waiting(entry.key) && waiting.insert(entry.key);
                held && !waits
            });
        }
        held.retain(|entry| send_signal(*entry, Signal::STOP));
        wait_stopped(until, held.clone());
    }
}

/// Signals one process, if it is still the one that was seen. Returns true on success.
fn send_signal(entry: ProcessEntry, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(entry.key.pid.cast_signed()) else { return false };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // Parents change when they die, start times never do.
    tree::is_alive(entry.key) && pidfd_send_signal(&pidfd, signal).is_ok()
}

/// Waits without a signal handler or a sleep.
pub(crate) fn pause(time: Duration) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    // Interrupted by a signal: the caller checks again anyway.
    let _ = poll(&mut [], Some(&timeout));
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
