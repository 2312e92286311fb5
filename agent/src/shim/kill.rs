//! How the processes below the shim are reaped, signalled and killed.
//!
//! A process is signalled only through a pidfd that was opened *before* its start was compared with the one that was
//! seen. If the process died and its number was given away in between, the starts differ, or the signal goes to the
//! dead one and fails: no stranger is ever hit.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, wait,
};

use super::tree::{self, Entry, Leader, Name};

/// How long a sweep goes on when processes can't be killed: by another user's process, or in an uninterruptible call.
const SWEEP_LIMIT: Duration = Duration::from_secs(3);
/// The same where only a part is killed: meanwhile the rest of the command is not looked after.
const PART_LIMIT: Duration = Duration::from_millis(500);
/// Between two looks while processes stop: a fork takes less, unless it has to wait for a processor.
const SETTLING: Duration = Duration::from_millis(1);
/// How long a process may go on that holds TERM back: starting another program takes less, on a busy machine too.
const HELD_BACK: Duration = Duration::from_millis(500);
/// Between two looks while killed processes die: short beside the 100 ms that an end may take.
const DYING: Duration = Duration::from_millis(2);

/// Who did not end by itself: each process that was sent TERM or KILL counts once.
#[derive(Debug, Default)]
pub(super) struct Toll(HashSet<Name>);

impl Toll {
    /// How many.
    pub(super) fn count(&self) -> u32 {
        count(self.0.len())
    }
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

/// Sends TERM to everything that lives, and CONT, since what is stopped hears nothing else.
///
/// All stand still meanwhile, for at most about `limit`: a child that is started between the look and the signal would hear
/// nothing, and live for the whole grace. Children go on before their parents, who so never see them stopped.
pub(super) fn terminate(limit: Duration, toll: &mut Toll) {
    for name in terminate_all(Instant::now() + limit, tree::living) {
        toll.0.insert(name);
    }
}

/// Tells what the leader has started to end, like [`terminate`]. The leader stands still from now on.
pub(super) fn quiet(leader: &Leader, limit: Duration, toll: &mut Toll) {
    // ESRCH: it exited by itself, which the next look sees.
    let _ = pidfd_send_signal(&leader.pidfd, Signal::STOP);
    let until = Instant::now() + limit;
    for name in terminate_all(until, || tree::commands(leader.pid)) {
        toll.0.insert(name);
    }
}

/// TERM and CONT to all that `look` finds; gives who was told.
fn terminate_all(until: Instant, look: impl Fn() -> Vec<Entry>) -> Vec<Name> {
    let frozen = freeze(until, look, |fresh| {
        settle(until, fresh.clone());
        pass(until, fresh);
    });
    let told = frozen.iter().filter(|entry| send(**entry, Signal::TERM)).map(|entry| entry.name).collect();
    for entry in frozen.into_iter().rev() {
        send(entry, Signal::CONT);
    }
    told
}

/// Freezes and kills until nothing is left, or only what can't be killed. Gives how many survive.
///
/// That nothing is left is what the kernel says when there is no child to wait for. So a glance is enough to find whom
/// to kill: whoever it overlooks is found by the next.
pub(super) fn sweep(mut leader: impl FnMut(WaitStatus), leader_pid: Option<Pid>, toll: &mut Toll) -> u32 {
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
            return count(tree::living().len());
        }
        // Nobody is waited for: who is missed now is found by the next look.
        for entry in freeze(begun + SWEEP_LIMIT, tree::glance, |_| {}) {
            if send(entry, Signal::KILL) {
                toll.0.insert(entry.name);
            }
        }
        pause(DYING);
    }
}

/// Tells `root` and what it started to end, and nothing else; gives whom. Nobody if it is gone, or its number is another's
/// now. What holds a command's sandbox together is passed over: it ends with the command.
pub(super) fn terminate_below(root: Name) -> Vec<Name> {
    let commands = |mut all: Vec<Entry>| {
        all.retain(|entry| !entry.is_helper());
        all
    };
    terminate_all(Instant::now() + PART_LIMIT, || commands(tree::part(tree::living(), root)))
}

/// Kills `root` and what it started, those of `names`, and all that is below them by now.
pub(super) fn kill_below(root: Name, names: &[Name]) {
    let until = Instant::now() + PART_LIMIT;
    let part = || {
        let mut part = tree::part(tree::living(), root);
        part.extend(tree::still(tree::living(), names));
        part
    };
    for entry in freeze(until, part, |fresh| settle(until, fresh)) {
        send(entry, Signal::KILL);
    }
}

/// Kills what a shim has left that was killed, or that stands still: all in its session, and those of `seen` (numbers and
/// starts). Gives how many were killed and how many survive. Blocks for at most about [`SWEEP_LIMIT`].
pub(crate) fn sweep_left(shim: u32, seen: &[(u32, u64)]) -> (u32, u32) {
    let names: Vec<Name> = seen.iter().map(|&(pid, started)| Name { pid, started }).collect();
    let (until, mut toll) = (Instant::now() + SWEEP_LIMIT, Toll::default());
    loop {
        let left = freeze(until, || tree::of_session(shim, &names), |_| {});
        if left.is_empty() {
            return (toll.count(), 0);
        }
        if Instant::now() >= until {
            return (toll.count(), count(left.len()));
        }
        for entry in left {
            // One that stands still when its shim dies can be hung up by the kernel before: it did not end by itself either.
            send(entry, Signal::KILL);
            toll.0.insert(entry.name);
        }
        pause(DYING);
    }
}

/// Stops whatever `look` finds, until it finds nobody new: what is stopped can't fork away from the signal. Hands those
/// that were told to stop to `told` before it looks again. Gives all that were found, parents before the children that they
/// were seen with.
fn freeze(until: Instant, look: impl Fn() -> Vec<Entry>, told: impl Fn(Vec<Entry>)) -> Vec<Entry> {
    let (mut known, mut frozen) = (HashSet::new(), Vec::new());
    loop {
        let mut fresh = look();
        fresh.retain(|entry| known.insert(entry.name));
        if fresh.is_empty() {
            return frozen;
        }
        frozen.extend_from_slice(&fresh);
        fresh.retain(|entry| send(*entry, Signal::STOP));
        told(fresh);
        if Instant::now() >= until {
            return frozen;
        }
    }
}

/// Waits until all of these stand still. One that is told to stop in the middle of a fork ends that first (Linux since
/// 4.19), and its child could come after the next look.
fn settle(until: Instant, mut told: Vec<Entry>) {
    loop {
        told.retain(|entry| tree::moves(entry.name));
        if told.is_empty() || Instant::now() >= until {
            return;
        }
        pause(SETTLING);
    }
}

/// Lets those that hold TERM back go on until they don't.
///
/// A program holds its signals back while it starts another. It would take TERM only after that, and what it started would
/// have heard nothing. One that waits meanwhile, or that takes long, holds it back for other reasons.
fn pass(until: Instant, mut held: Vec<Entry>) {
    let patience = until.min(Instant::now() + HELD_BACK);
    let mut waiting = HashSet::new();
    loop {
        held.retain(|entry| !waiting.contains(&entry.name) && tree::holds_term_back(entry.name));
        if held.is_empty() || Instant::now() >= patience {
            return;
        }
        held.retain(|entry| send(*entry, Signal::CONT));
        let mut busy = held.clone();
        while !busy.is_empty() && Instant::now() < patience {
            pause(SETTLING);
            busy.retain(|entry| {
                let held = tree::holds_term_back(entry.name);
                let waits = held && tree::waits(entry.name) && waiting.insert(entry.name);
                held && !waits
            });
        }
        held.retain(|entry| send(*entry, Signal::STOP));
        settle(until, held.clone());
    }
}

/// Signals one process, if it is still the one that was seen. Gives whether that worked.
fn send(entry: Entry, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(entry.name.pid.cast_signed()) else { return false };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // Parents change when they die, starts never do.
    tree::lives(entry.name) && pidfd_send_signal(&pidfd, signal).is_ok()
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
