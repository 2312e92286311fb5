//! Everything below the shim: who is there, and how it is signalled.
//!
//! A process is signalled only through a pidfd that was opened *before* its place in the tree was looked up. If the
//! process died and its number was given away in between, the signal goes to the dead one and fails: no stranger is
//! ever hit.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, wait,
};

use crate::stat::Proc;

/// How long a sweep goes on when processes can't be killed: by another user's process, or in an uninterruptible call.
const SWEEP_LIMIT: Duration = Duration::from_secs(3);
/// Between two looks while killed processes die: short beside the 100 ms that an end may take.
const DYING: Duration = Duration::from_millis(2);

/// The command's first process.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) killed: u32,
    pub(super) survivors: u32,
}

/// A process below the shim. Number and start together name it for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Entry {
    pid: u32,
    parent: u32,
    zombie: bool,
    started: u64,
}

/// What a look for dead children found.
#[derive(Debug, Default)]
pub(super) struct Reaped {
    /// Whether any child is left. The shim adopts all orphans, so "no child" is the same as "no descendant".
    pub(super) left: bool,
    /// How many were reaped.
    pub(super) count: u32,
    /// The leader's status, if it was among them.
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

/// Sends signals, in order, to every living descendant.
pub(super) fn signal_all(signals: &[Signal]) {
    for entry in descendants().into_iter().filter(|entry| !entry.zombie) {
        for signal in signals {
            send(entry, *signal);
        }
    }
}

/// Freezes and kills until nothing is left, or only what can't be killed.
pub(super) fn sweep(mut leader: impl FnMut(WaitStatus), leader_pid: Option<Pid>) -> Swept {
    let begun = Instant::now();
    let mut killed = HashSet::new();
    loop {
        let reaped = reap(leader_pid);
        if let Some(status) = reaped.leader {
            leader(status);
        }
        if !reaped.left {
            return Swept { killed: count(killed.len()), survivors: 0 };
        }
        if begun.elapsed() >= SWEEP_LIMIT {
            let survivors = descendants().iter().filter(|entry| !entry.zombie).count();
            return Swept { killed: count(killed.len()), survivors: count(survivors) };
        }
        for entry in freeze(begun) {
            if send(entry, Signal::KILL) {
                killed.insert((entry.pid, entry.started));
            }
        }
        pause(DYING);
    }
}

/// Stops everything, until a look finds nobody new: what is stopped can't fork away from the kill.
fn freeze(begun: Instant) -> Vec<Entry> {
    let mut frozen = HashSet::new();
    loop {
        let living: Vec<_> = descendants().into_iter().filter(|entry| !entry.zombie).collect();
        let mut fresh = false;
        for entry in &living {
            if frozen.insert((entry.pid, entry.started)) {
                fresh = true;
                send(*entry, Signal::STOP);
            }
        }
        if !fresh || begun.elapsed() >= SWEEP_LIMIT {
            return living;
        }
    }
}

/// Signals one process, if it is still the one that was seen and still below us. Gives whether that worked.
fn send(entry: Entry, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(entry.pid.cast_signed()) else { return false };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // Parents change when they die, starts never do.
    let now = Proc::open().ok().and_then(|mut proc| proc.stat(entry.pid).map(|now| now.started));
    now == Some(entry.started) && pidfd_send_signal(&pidfd, signal).is_ok()
}

/// Every process below this one.
fn descendants() -> Vec<Entry> {
    let mut children: HashMap<u32, Vec<Entry>> = HashMap::new();
    let Ok(mut proc) = Proc::open() else { return Vec::new() };
    for (pid, _) in proc.processes() {
        if let Some(stat) = proc.stat(pid) {
            let entry = Entry { pid, parent: stat.parent, zombie: stat.zombie, started: stat.started };
            children.entry(stat.parent).or_default().push(entry);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![std::process::id()];
    while let Some(parent) = next.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            next.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// Waits without a signal handler or a sleep.
pub(crate) fn pause(time: Duration) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    // Cut short by a signal: the caller looks again anyway.
    let _ = poll(&mut [], Some(&timeout));
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
