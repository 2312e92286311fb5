//! Steps and the live process tree, joined. Pure: a look in, events and verdicts out.
//!
//! ```text
//!  item of Codex ──the process with its call id──► root ──┬─ npm ci      a higher level: a step of its own
//!  setup, check, shell ──the command's leader────► root   └─ sh, make    the same step
//! ```
//!
//! A process opens a step only below one of a lower level ([`level`]), so a compiler inside a test is the test.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::event::{EventBody, StepOutcome};

use super::book::{Due, Steps};
use super::evidence::{self, Look};
use super::open::{Known, Open, Tree};
use super::rules::{Work, level};
use super::verdict::Verdict;
use crate::observe::{Process, Snapshot};

/// Steps out of processes that one job may open: a worker that starts thousands of `npm` is told apart no further.
const MAX_PARTS: u32 = 500;
/// Looks after which a process that does not wait for the network becomes a step: most compilers live shorter.
const LOOKS: u32 = 2;
/// The network kinds.
const NETWORK: u8 = 3;

/// A process that should be a step, and the step it is part of.
struct Part {
    pid: u32,
    started: u64,
    parent: u32,
    work: Work,
}

impl Steps {
    /// Takes a look at the tree below `leader`, the command that runs.
    pub(crate) fn look(&mut self, now: Duration, tree: &Snapshot, leader: u32, look: Look<'_>) -> Vec<Due> {
        self.learn(tree, leader);
        self.find_roots(tree, leader);
        let mut due: Vec<Due> = self.end_parts(now, tree).into_iter().map(Due::Event).collect();
        due.extend(self.open_parts(now, tree).into_iter().map(Due::Event));
        due.extend(self.measure(now, tree, look));
        due
    }

    /// The roots of the steps that wait for the network, where bytes of sockets tell whether they move.
    pub(crate) fn network_roots(&self) -> Vec<u32> {
        let network = self.open.iter().filter(|step| step.kind.is_network());
        network.filter_map(|step| step.tree.root().map(|(pid, _)| pid)).collect()
    }

    /// Finds out what each process is, once for each command line it has.
    fn learn(&mut self, tree: &Snapshot, leader: u32) {
        let mut known = std::mem::take(&mut self.known);
        for process in tree.subtree(leader) {
            let key = (process.pid, process.started);
            let same = known.remove(&key).filter(|known| Arc::ptr_eq(&known.argv, &process.argv));
            let entry = match same {
                Some(known) => Known { looks: known.looks.saturating_add(1), ..known },
                None => Known {
                    argv: Arc::clone(&process.argv),
                    work: self.rules.of_process(&process.argv),
                    looks: 1,
                },
            };
            self.known.insert(key, entry);
        }
    }

    /// Gives each command of Codex its process: by the command line, else in the order of their starts.
    fn find_roots(&mut self, tree: &Snapshot, leader: u32) {
        for step in &mut self.open {
            if let Tree::Root { pid, started: started @ None } = &mut step.tree {
                *started = tree.process(*pid).map(|process| process.started);
            }
        }
        let roots: Vec<_> = self.open.iter().filter_map(|step| step.tree.root()).collect();
        let mut commands = commands(tree, leader);
        commands.retain(|process| !roots.contains(&(process.pid, process.started)));
        commands.sort_by_key(|process| (process.started, process.pid));
        for step in &mut self.open {
            let Tree::Wanted { argv } = &step.tree else { continue };
            let rules = &self.rules;
            let fits = |process: &&Process| {
                tree.subtree(process.pid).iter().any(|below| rules.shows_as(&below.argv, argv))
            };
            if let Some(at) = commands.iter().position(fits) {
                step.tree = rooted(commands.remove(at));
            }
        }
        // A shell that had one thing to do has become it, and its command line is lost.
        let mut wanting: Vec<&mut Open> =
            self.open.iter_mut().filter(|step| matches!(step.tree, Tree::Wanted { .. })).collect();
        // The newest items are the best known to live.
        let late = wanting.len().saturating_sub(commands.len());
        for (step, process) in wanting.drain(late..).zip(commands) {
            step.tree = rooted(process);
        }
    }

    /// Ends the parts whose process is gone.
    fn end_parts(&mut self, now: Duration, tree: &Snapshot) -> Vec<EventBody> {
        let over: Vec<(u32, Option<i32>)> = self
            .open
            .iter()
            .filter(|step| step.parent.is_some())
            .filter_map(|step| {
                let (pid, started) = step.tree.root()?;
                let process = tree.process(pid).filter(|process| process.started == started);
                let gone = process.is_none_or(|process| process.zombie);
                gone.then(|| (step.n, process.and_then(|process| process.exit_code)))
            })
            .collect();
        let mut events = Vec::new();
        for (n, exit_code) in over {
            let outcome = match exit_code {
                Some(0) => StepOutcome::Ok,
                Some(_) => StepOutcome::Failed,
                None => StepOutcome::Unknown,
            };
            events.extend(self.finish(now, n, outcome, exit_code));
        }
        events
    }

    /// Begins steps for processes that do work of a higher level than the step they are in.
    fn open_parts(&mut self, now: Duration, tree: &Snapshot) -> Vec<EventBody> {
        let mut events = Vec::new();
        for part in self.new_parts(tree) {
            let root = Tree::Root { pid: part.pid, started: Some(part.started) };
            let (_, event) = self.begin(now, &part.work, root, Some(part.parent));
            self.parts += 1;
            events.push(event);
        }
        events
    }

    /// The processes that should be steps and are none yet, those that hold others first.
    fn new_parts(&self, tree: &Snapshot) -> Vec<Part> {
        let rooted = |part: bool| {
            let steps = self.open.iter().filter(move |step| step.parent.is_some() == part);
            steps.filter_map(|step| Some((step.tree.root()?, (step.n, level(step.kind)))))
        };
        let parts: HashMap<(u32, u64), (u32, u8)> = rooted(true).collect();
        let mut next: Vec<(&Process, u32, u8)> =
            rooted(false).filter_map(|((pid, _), (n, level))| Some((tree.process(pid)?, n, level))).collect();
        let mut new: Vec<Part> = Vec::new();
        let room = MAX_PARTS.saturating_sub(self.parts) as usize;
        while let Some((process, mut n, mut above)) = next.pop() {
            let key = (process.pid, process.started);
            if let Some(own) = parts.get(&key) {
                (n, above) = *own;
            } else if let Some(work) = self.work_above(process, above).filter(|_| new.len() < room) {
                let (pid, started) = key;
                new.push(Part { pid, started, parent: n, work: work.clone() });
                // They get their numbers in this order.
                n = self.last.saturating_add(u32::try_from(new.len()).unwrap_or(u32::MAX));
                above = level(work.kind);
            }
            next.extend(tree.children(process.pid).map(|child| (child, n, above)));
        }
        new
    }

    /// What a process does, if that deserves a step within one of the level `above`.
    fn work_above(&self, process: &Process, above: u8) -> Option<&Work> {
        let known = self.known.get(&(process.pid, process.started)).filter(|_| !process.zombie)?;
        let work = known.work.as_ref()?;
        let level = level(work.kind);
        (level > above && (level >= NETWORK || known.looks >= LOOKS)).then_some(work)
    }

    /// Adds up what each step uses, and asks whether it moves.
    fn measure(&mut self, now: Duration, tree: &Snapshot, look: Look<'_>) -> Vec<Due> {
        let mut due = Vec::new();
        for at in 0..self.open.len() {
            let Some((root, _)) = self.open[at].tree.root() else { continue };
            let n = self.open[at].n;
            let whole = !self.open.iter().any(|step| step.parent == Some(n));
            let step = &mut self.open[at];
            let processes = tree.subtree(root);
            step.meter.take(processes);
            step.processes = evidence::briefs(processes);
            // Processes that were too many to be kept may be the ones that work.
            if !whole || processes.is_empty() || tree.uncounted > 0 {
                continue;
            }
            let Some(quiet) = step.stall.take(now, step.meter.used()) else {
                step.stall_told = false;
                continue;
            };
            // Said once for each time of quiet.
            if std::mem::replace(&mut step.stall_told, true) {
                continue;
            }
            let verdict = Verdict::stalled(step, quiet, look);
            let action = step.on_stall;
            due.extend(self.act(now, at, action, verdict));
        }
        due
    }
}

fn rooted(process: &Process) -> Tree {
    Tree::Root { pid: process.pid, started: Some(process.started) }
}

/// The commands that Codex runs: the topmost processes below it that know their call.
fn commands(tree: &Snapshot, leader: u32) -> Vec<&Process> {
    let mut found = Vec::new();
    let mut next: Vec<&Process> = tree.children(leader).collect();
    while let Some(process) = next.pop() {
        if process.call_id.is_some() && !process.zombie {
            found.push(process);
        } else {
            next.extend(tree.children(process.pid));
        }
    }
    found
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
