//! Joins steps with the live process tree. Pure: takes a look at the tree, returns events and verdicts.
//!
//! ```text
//!  item of Codex ──the process with its call id──► root ──┬─ npm ci      a higher level: a step of its own
//!  setup, check, shell ──the command's leader────► root   └─ sh, make    the same step
//! ```
//!
//! A process opens a step only below one of a lower level ([`level`]), so a compiler inside a test counts as the test.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::event::{EventBody, StepOutcome};

use super::active_step::{Known, Open, Tree};
use super::diagnosis::{self, Look};
use super::rules::{Work, level, runs_a_program};
use super::step_table::{Due, Steps};
use super::timeout_error::Verdict;
use crate::observe::{Process, Snapshot};

/// Maximum number of steps that one job may open for processes. If a worker starts thousands of `npm` processes, those
/// beyond this number get no steps of their own.
const MAX_PARTS: u32 = 500;
/// Looks after which a process that does not wait for the network becomes a step; most compilers exit earlier.
const LOOKS: u32 = 2;
/// Lowest level of the network kinds.
const NETWORK: u8 = 3;

/// A process that should become a step, and the step it is part of.
struct Part {
    pid: u32,
    started: u64,
    parent: u32,
    work: Work,
}

impl Steps {
    /// Processes a look at the tree below `leader`, the running command.
    pub(crate) fn look(&mut self, now: Duration, tree: &Snapshot, leader: u32, look: Look<'_>) -> Vec<Due> {
        self.learn(tree, leader);
        self.find_roots(tree, leader);
        let mut due: Vec<Due> = self.end_parts(now, tree).into_iter().map(Due::Event).collect();
        due.extend(self.open_parts(now, tree).into_iter().map(Due::Event));
        due.extend(self.measure(now, tree, look));
        due
    }

    /// Returns the roots of the steps whose progress is measured by the bytes of their sockets.
    pub(crate) fn network_roots(&self) -> Vec<u32> {
        let network = self.open.iter().filter(|step| step.needs_traffic());
        network.filter_map(|step| step.tree.root().map(|(pid, _)| pid)).collect()
    }

    /// Classifies each process, once for each command line it has.
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

    /// Assigns each command of Codex its process: by the command line, or by elimination if one command and one process
    /// remain.
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
        // A shell that has only one command to run replaces itself with that command, and its own command line is lost.
        // If several commands are unmatched, a guess could judge an install by the processes of another command.
        let mut wanting = self.open.iter_mut().filter(|step| matches!(step.tree, Tree::Wanted { .. }));
        if let (Some(step), None, [process]) = (wanting.next(), wanting.next(), commands.as_slice()) {
            step.tree = rooted(process);
        }
    }

    /// Ends the parts whose process is gone, and the parts of a runner that has fetched its program.
    fn end_parts(&mut self, now: Duration, tree: &Snapshot) -> Vec<EventBody> {
        let over: Vec<(u32, StepOutcome, Option<i32>)> =
            self.open.iter().filter_map(|step| self.ended_part(step, tree)).collect();
        let ended =
            over.into_iter().flat_map(|(n, outcome, exit_code)| self.finish(now, n, outcome, exit_code));
        ended.collect()
    }

    /// Returns the outcome of a part that has ended.
    fn ended_part(&self, step: &Open, tree: &Snapshot) -> Option<(u32, StepOutcome, Option<i32>)> {
        let (pid, started) = step.tree.root().filter(|_| step.parent.is_some())?;
        let process = tree.process(pid).filter(|process| process.started == started);
        match process {
            None => Some((step.n, StepOutcome::Unknown, None)),
            Some(process) if process.zombie => Some(match process.exit_code {
                Some(0) => (step.n, StepOutcome::Ok, Some(0)),
                None => (step.n, StepOutcome::Unknown, None),
                code => (step.n, StepOutcome::Failed, code),
            }),
            // The program to fetch is running, so the fetch is complete.
            Some(process) if step.fetches && !self.is_fetching(tree, process) => {
                Some((step.n, StepOutcome::Ok, None))
            }
            Some(_) => None,
        }
    }

    /// Returns true if a process that runs another program is still fetching it: it has not replaced itself, and only
    /// shells are below it.
    fn is_fetching(&self, tree: &Snapshot, process: &Process) -> bool {
        let itself = self.known.get(&(process.pid, process.started)).is_none_or(Known::fetches);
        let runs = |below: &Process| below.pid != process.pid && !below.zombie && runs_a_program(&below.argv);
        itself && !tree.subtree(process.pid).iter().any(runs)
    }

    /// Begins steps for processes whose work has a higher level than the step they are in.
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

    /// Returns the processes that should become steps, parents before their children.
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
            } else if let Some(work) = self.work_above(tree, process, above).filter(|_| new.len() < room) {
                let (pid, started) = key;
                new.push(Part { pid, started, parent: n, work: work.clone() });
                // Steps are numbered in this order.
                n = self.last.saturating_add(u32::try_from(new.len()).unwrap_or(u32::MAX));
                above = level(work.kind);
            }
            next.extend(tree.children(process.pid).map(|child| (child, n, above)));
        }
        new
    }

    /// Returns the work of a process if it deserves a step inside one of the level `above`.
    fn work_above(&self, tree: &Snapshot, process: &Process, above: u8) -> Option<&Work> {
        let known = self.known.get(&(process.pid, process.started)).filter(|_| !process.zombie)?;
        let work = known.work.as_ref().filter(|work| !work.fetches || self.is_fetching(tree, process))?;
        let level = level(work.kind);
        (level > above && (level >= NETWORK || known.looks >= LOOKS)).then_some(work)
    }

    /// Updates the resource usage of each step and checks its progress.
    fn measure(&mut self, now: Duration, tree: &Snapshot, look: Look<'_>) -> Vec<Due> {
        let mut due = Vec::new();
        for at in 0..self.open.len() {
            let Some((root, _)) = self.open[at].tree.root() else { continue };
            let n = self.open[at].n;
            let whole = !self.open.iter().any(|step| step.parent == Some(n));
            let processes = tree.subtree(root);
            if processes.iter().all(|process| process.zombie) {
                self.gone(now, at);
            }
            let step = &mut self.open[at];
            step.meter.take(processes);
            step.processes = diagnosis::briefs(processes);
            // Processes omitted because the tree was too large may be the ones that make progress.
            if !whole || processes.is_empty() || tree.is_cut(root) {
                continue;
            }
            let Some(quiet) = step.stall.take(now, step.meter.used()) else {
                step.stall_told = false;
                continue;
            };
            // Reported once for each stall.
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

/// Returns the commands that Codex runs: the topmost processes below it that carry a call id.
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
#[path = "process_steps_tests.rs"]
mod tests;
