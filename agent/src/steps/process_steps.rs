//! Joins steps with the live process tree. Pure: takes a snapshot of the tree, returns events and timeouts.
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

use super::active_step::{ActiveStep, ClassifiedProcess, StepProcesses};
use super::diagnosis::{self, Inspect};
use super::rules::{Classification, is_program, level};
use super::step_table::{Due, Steps};
use super::timeout_error::TimeoutError;
use crate::observe::{Process, Snapshot};

/// Maximum number of steps that one job may open for processes. If a worker starts thousands of `npm` processes, those
/// beyond this number get no steps of their own.
const MAX_STEPS: u32 = 500;
/// Snapshots after which a process that does not wait for the network becomes a step; most compilers exit earlier.
const MIN_SNAPSHOTS: u32 = 2;
/// Lowest level of the network kinds.
const NETWORK_LEVEL: u8 = 3;

/// A process that should become a step, and the step it is part of.
struct NewStep {
    pid: u32,
    started: u64,
    parent: u32,
    classification: Classification,
}

impl Steps {
    /// Processes a snapshot of the tree below `leader`, the running command.
    pub(crate) fn update(
        &mut self,
        now: Duration,
        tree: &Snapshot,
        leader: u32,
        inspect: Inspect<'_>,
    ) -> Vec<Due> {
        self.classify(tree, leader);
        self.assign_roots(tree, leader);
        let mut due: Vec<Due> = self.end_process_steps(now, tree).into_iter().map(Due::Event).collect();
        due.extend(self.open_process_steps(now, tree).into_iter().map(Due::Event));
        due.extend(self.measure(now, tree, inspect));
        due
    }

    /// Returns the roots of the steps whose progress is measured by the bytes of their sockets.
    pub(crate) fn network_roots(&self) -> Vec<u32> {
        let network = self.active.iter().filter(|step| step.needs_traffic());
        network.filter_map(|step| step.tree.root().map(|(pid, _)| pid)).collect()
    }

    /// Classifies each process, once for each command line it has.
    fn classify(&mut self, tree: &Snapshot, leader: u32) {
        let mut known = std::mem::take(&mut self.processes);
        for process in tree.subtree(leader) {
            let key = (process.pid, process.started);
            let same = known.remove(&key).filter(|known| Arc::ptr_eq(&known.argv, &process.argv));
            let entry = match same {
                Some(known) => ClassifiedProcess { snapshots: known.snapshots.saturating_add(1), ..known },
                None => ClassifiedProcess {
                    argv: Arc::clone(&process.argv),
                    classification: self.rules.classify_process(&process.argv),
                    snapshots: 1,
                },
            };
            self.processes.insert(key, entry);
        }
    }

    /// Assigns each command of Codex its process: by the command line, or by elimination if one command and one process
    /// remain.
    fn assign_roots(&mut self, tree: &Snapshot, leader: u32) {
        for step in &mut self.active {
            if let StepProcesses::Root { pid, started: started @ None } = &mut step.tree {
                *started = tree.process(*pid).map(|process| process.started);
            }
        }
        let roots: Vec<_> = self.active.iter().filter_map(|step| step.tree.root()).collect();
        let mut commands = commands(tree, leader);
        commands.retain(|process| !roots.contains(&(process.pid, process.started)));
        commands.sort_by_key(|process| (process.started, process.pid));
        for step in &mut self.active {
            let StepProcesses::Unmatched { argv } = &step.tree else { continue };
            let rules = &self.rules;
            let fits = |process: &&Process| {
                tree.subtree(process.pid).iter().any(|below| rules.is_masked_line(&below.argv, argv))
            };
            if let Some(at) = commands.iter().position(fits) {
                step.tree = with_root(commands.remove(at));
            }
        }
        // A shell that has only one command to run replaces itself with that command, and its own command line is lost.
        // If several commands are unmatched, a guess could judge an install by the processes of another command.
        let mut wanting =
            self.active.iter_mut().filter(|step| matches!(step.tree, StepProcesses::Unmatched { .. }));
        if let (Some(step), None, [process]) = (wanting.next(), wanting.next(), commands.as_slice()) {
            step.tree = with_root(process);
        }
    }

    /// Ends the steps whose process is gone, and the steps of a runner that has fetched its program.
    fn end_process_steps(&mut self, now: Duration, tree: &Snapshot) -> Vec<EventBody> {
        let over: Vec<(u32, StepOutcome, Option<i32>)> =
            self.active.iter().filter_map(|step| self.ended_step(step, tree)).collect();
        let ended =
            over.into_iter().flat_map(|(n, outcome, exit_code)| self.finish(now, n, outcome, exit_code));
        ended.collect()
    }

    fn ended_step(&self, step: &ActiveStep, tree: &Snapshot) -> Option<(u32, StepOutcome, Option<i32>)> {
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
        let itself =
            self.processes.get(&(process.pid, process.started)).is_none_or(ClassifiedProcess::fetches);
        let runs = |below: &Process| below.pid != process.pid && !below.zombie && is_program(&below.argv);
        itself && !tree.subtree(process.pid).iter().any(runs)
    }

    /// Begins steps for processes whose work has a higher level than the step they are in.
    fn open_process_steps(&mut self, now: Duration, tree: &Snapshot) -> Vec<EventBody> {
        let mut events = Vec::new();
        for part in self.new_steps(tree) {
            let root = StepProcesses::Root { pid: part.pid, started: Some(part.started) };
            let (_, event) = self.begin(now, &part.classification, root, Some(part.parent));
            self.from_processes += 1;
            events.push(event);
        }
        events
    }

    /// Returns the processes that should become steps, parents before their children.
    fn new_steps(&self, tree: &Snapshot) -> Vec<NewStep> {
        let with_parent = |part: bool| {
            let steps = self.active.iter().filter(move |step| step.parent.is_some() == part);
            steps.filter_map(|step| Some((step.tree.root()?, (step.n, level(step.kind)))))
        };
        let parts: HashMap<(u32, u64), (u32, u8)> = with_parent(true).collect();
        let mut next: Vec<(&Process, u32, u8)> = with_parent(false)
            .filter_map(|((pid, _), (n, level))| Some((tree.process(pid)?, n, level)))
            .collect();
        let mut new: Vec<NewStep> = Vec::new();
        let room = MAX_STEPS.saturating_sub(self.from_processes) as usize;
        while let Some((process, mut n, mut above)) = next.pop() {
            let key = (process.pid, process.started);
            if let Some(own) = parts.get(&key) {
                (n, above) = *own;
            } else if let Some(classification) =
                self.classification_above(tree, process, above).filter(|_| new.len() < room)
            {
                let (pid, started) = key;
                new.push(NewStep { pid, started, parent: n, classification: classification.clone() });
                // Steps are numbered in this order.
                n = self.last_number.saturating_add(u32::try_from(new.len()).unwrap_or(u32::MAX));
                above = level(classification.kind);
            }
            next.extend(tree.children(process.pid).map(|child| (child, n, above)));
        }
        new
    }

    /// Returns the work of a process if it deserves a step inside one of the level `above`.
    fn classification_above(&self, tree: &Snapshot, process: &Process, above: u8) -> Option<&Classification> {
        let known = self.processes.get(&(process.pid, process.started)).filter(|_| !process.zombie)?;
        let classification = known
            .classification
            .as_ref()
            .filter(|classification| !classification.fetches || self.is_fetching(tree, process))?;
        let level = level(classification.kind);
        (level > above && (level >= NETWORK_LEVEL || known.snapshots >= MIN_SNAPSHOTS))
            .then_some(classification)
    }

    /// Updates the resource usage of each step and checks its progress.
    fn measure(&mut self, now: Duration, tree: &Snapshot, inspect: Inspect<'_>) -> Vec<Due> {
        let mut due = Vec::new();
        for at in 0..self.active.len() {
            let Some((root, _)) = self.active[at].tree.root() else { continue };
            let n = self.active[at].n;
            let whole = !self.active.iter().any(|step| step.parent == Some(n));
            let processes = tree.subtree(root);
            if processes.iter().all(|process| process.zombie) {
                self.on_processes_gone(now, at);
            }
            let step = &mut self.active[at];
            step.usage.add_snapshot(processes);
            step.processes = diagnosis::summaries(processes);
            // Processes omitted because the tree was too large may be the ones that make progress.
            if !whole || processes.is_empty() || tree.is_truncated(root) {
                continue;
            }
            let Some(quiet) = step.stall.add_sample(now, step.usage.totals()) else {
                step.stall_reported = false;
                continue;
            };
            // Reported once for each stall.
            if std::mem::replace(&mut step.stall_reported, true) {
                continue;
            }
            let timeout = TimeoutError::stalled(step, quiet, inspect);
            let action = step.on_stall;
            due.extend(self.on_timeout(now, at, action, timeout));
        }
        due
    }
}

fn with_root(process: &Process) -> StepProcesses {
    StepProcesses::Root { pid: process.pid, started: Some(process.started) }
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
