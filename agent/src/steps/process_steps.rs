//! Matches steps with the live process tree. Pure: takes a snapshot of the tree, returns events and timeouts.
//!
//! ```text
//!  item of Codex ──the process with its call id──► root ──┬─ npm ci      a higher level: a step of its own
//!  setup, check, shell ──the command's leader────► root   └─ sh, make    the same step
//! ```
//!
//! A process opens a step of its own only inside a step of a lower level ([`nesting_level`]). So a compiler that a test
//! runs counts as part of the test.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::event::{EventBody, StepOutcome};

use super::active_step::{ActiveStep, ClassifiedProcess, StepProcesses};
use super::diagnosis::{self, Inspect};
use super::rules::{Classification, is_program, nesting_level};
use super::step_table::{DueAction, Steps};
use super::timeout_error::TimeoutError;
use crate::observe::{Process, Snapshot};

/// Maximum number of steps that one job may open for processes. If a worker starts thousands of `npm` processes, those
/// beyond this number get no steps of their own.
const MAX_STEPS: u32 = 500;
/// Number of snapshots after which a process of a non-network kind becomes a step. Most compilers exit earlier.
const MIN_SNAPSHOTS: u32 = 2;
/// Lowest nesting level of the network kinds.
const NETWORK_LEVEL: u8 = 3;

/// A process that should become a step, and the number of the step that it is part of.
struct NewStep {
    pid: u32,
    start_ticks: u64,
    parent: u32,
    classification: Classification,
}

impl Steps {
    /// Processes a snapshot of the tree below `leader`, the running command. `now` is the job's work time.
    pub(crate) fn update_from_snapshot(
        &mut self,
        now: Duration,
        snapshot: &Snapshot,
        leader: u32,
        inspect: Inspect<'_>,
    ) -> Vec<DueAction> {
        self.classify_processes(snapshot, leader);
        self.assign_roots(snapshot, leader);
        let mut actions: Vec<DueAction> =
            self.end_process_steps(now, snapshot).into_iter().map(DueAction::Event).collect();
        actions.extend(self.open_process_steps(now, snapshot).into_iter().map(DueAction::Event));
        actions.extend(self.measure_progress(now, snapshot, inspect));
        actions
    }

    /// Returns the roots of the steps whose progress is measured by the bytes of their sockets.
    pub(crate) fn network_roots(&self) -> Vec<u32> {
        let network = self.active.iter().filter(|step| step.needs_traffic());
        network.filter_map(|step| step.step_processes.root().map(|(pid, _)| pid)).collect()
    }

    /// Classifies each process, and again only when its command line changes.
    fn classify_processes(&mut self, tree: &Snapshot, leader: u32) {
        let mut old_entries = std::mem::take(&mut self.classified_processes);
        for process in tree.subtree(leader) {
            let key = (process.pid, process.start_ticks);
            let same = old_entries.remove(&key).filter(|known| Arc::ptr_eq(&known.argv, &process.argv));
            let entry = match same {
                Some(known) => {
                    ClassifiedProcess { snapshot_count: known.snapshot_count.saturating_add(1), ..known }
                }
                None => ClassifiedProcess {
                    argv: Arc::clone(&process.argv),
                    classification: self.rules.classify_process(&process.argv),
                    snapshot_count: 1,
                },
            };
            self.classified_processes.insert(key, entry);
        }
    }

    /// Assigns a root process to each command of Codex: the one whose process tree contains the command line. If only
    /// one command and one process are left, they belong together.
    fn assign_roots(&mut self, tree: &Snapshot, leader: u32) {
        for step in &mut self.active {
            if let StepProcesses::Root { pid, start_ticks: start_ticks @ None } = &mut step.step_processes {
                *start_ticks = tree.process(*pid).map(|process| process.start_ticks);
            }
        }
        let roots: Vec<_> = self.active.iter().filter_map(|step| step.step_processes.root()).collect();
        let mut commands = codex_commands(tree, leader);
        commands.retain(|process| !roots.contains(&(process.pid, process.start_ticks)));
        commands.sort_by_key(|process| (process.start_ticks, process.pid));
        for step in &mut self.active {
            let StepProcesses::Unmatched { argv } = &step.step_processes else { continue };
            let rules = &self.rules;
            let is_match = |process: &&Process| {
                tree.subtree(process.pid)
                    .iter()
                    .any(|descendant| rules.is_masked_line(&descendant.argv, argv))
            };
            if let Some(index) = commands.iter().position(is_match) {
                step.step_processes = step_processes_of(commands.remove(index));
            }
        }
        // A shell with only one command to run replaces itself with that command, so its own command line is lost. If
        // several commands are unmatched, guessing could assign the processes of another command to an install.
        let mut unmatched = self
            .active
            .iter_mut()
            .filter(|step| matches!(step.step_processes, StepProcesses::Unmatched { .. }));
        if let (Some(step), None, [process]) = (unmatched.next(), unmatched.next(), commands.as_slice()) {
            step.step_processes = step_processes_of(process);
        }
    }

    /// Ends the steps whose process is gone, and the fetch steps whose program has been downloaded.
    fn end_process_steps(&mut self, now: Duration, tree: &Snapshot) -> Vec<EventBody> {
        let ends: Vec<(u32, StepOutcome, Option<i32>)> =
            self.active.iter().filter_map(|step| self.step_end(step, tree)).collect();
        let ended =
            ends.into_iter().flat_map(|(n, outcome, exit_code)| self.finish_step(now, n, outcome, exit_code));
        ended.collect()
    }

    fn step_end(&self, step: &ActiveStep, tree: &Snapshot) -> Option<(u32, StepOutcome, Option<i32>)> {
        let (pid, start_ticks) = step.step_processes.root().filter(|_| step.parent.is_some())?;
        let process = tree.process(pid).filter(|process| process.start_ticks == start_ticks);
        match process {
            None => Some((step.number, StepOutcome::Unknown, None)),
            Some(process) if process.is_zombie => Some(match process.exit_code {
                Some(0) => (step.number, StepOutcome::Ok, Some(0)),
                None => (step.number, StepOutcome::Unknown, None),
                code => (step.number, StepOutcome::Failed, code),
            }),
            // The program to fetch is running, so the fetch is complete.
            Some(process) if step.fetches_program && !self.is_fetching(tree, process) => {
                Some((step.number, StepOutcome::Ok, None))
            }
            Some(_) => None,
        }
    }

    /// Returns true if a process that downloads a program to run it is still downloading: it has not replaced itself,
    /// and only shells are below it.
    fn is_fetching(&self, tree: &Snapshot, process: &Process) -> bool {
        let may_fetch = self
            .classified_processes
            .get(&(process.pid, process.start_ticks))
            .is_none_or(ClassifiedProcess::fetches_program);
        let is_other_program =
            |other: &Process| other.pid != process.pid && !other.is_zombie && is_program(&other.argv);
        may_fetch && !tree.subtree(process.pid).iter().any(is_other_program)
    }

    /// Begins steps for processes whose classification has a higher level than the step that they are part of.
    fn open_process_steps(&mut self, now: Duration, tree: &Snapshot) -> Vec<EventBody> {
        let mut events = Vec::new();
        for new_step in self.new_steps(tree) {
            let root = StepProcesses::Root { pid: new_step.pid, start_ticks: Some(new_step.start_ticks) };
            let (_, event) = self.begin_step(now, &new_step.classification, root, Some(new_step.parent));
            self.process_step_count += 1;
            events.push(event);
        }
        events
    }

    /// Returns the processes that should become steps, parents before their children.
    fn new_steps(&self, tree: &Snapshot) -> Vec<NewStep> {
        let roots_of = |is_nested: bool| {
            let steps = self.active.iter().filter(move |step| step.parent.is_some() == is_nested);
            steps.filter_map(|step| {
                Some((step.step_processes.root()?, (step.number, nesting_level(step.kind))))
            })
        };
        let nested: HashMap<(u32, u64), (u32, u8)> = roots_of(true).collect();
        let mut stack: Vec<(&Process, u32, u8)> = roots_of(false)
            .filter_map(|((pid, _), (n, level))| Some((tree.process(pid)?, n, level)))
            .collect();
        let mut new_steps: Vec<NewStep> = Vec::new();
        let max_new = MAX_STEPS.saturating_sub(self.process_step_count) as usize;
        while let Some((process, mut n, mut level)) = stack.pop() {
            let key = (process.pid, process.start_ticks);
            if let Some(step) = nested.get(&key) {
                (n, level) = *step;
            } else if let Some(classification) =
                self.step_classification(tree, process, level).filter(|_| new_steps.len() < max_new)
            {
                let (pid, start_ticks) = key;
                new_steps.push(NewStep {
                    pid,
                    start_ticks,
                    parent: n,
                    classification: classification.clone(),
                });
                // Steps are numbered in this order.
                n = self.last_number.saturating_add(u32::try_from(new_steps.len()).unwrap_or(u32::MAX));
                level = nesting_level(classification.kind);
            }
            stack.extend(tree.children(process.pid).map(|child| (child, n, level)));
        }
        new_steps
    }

    /// Returns the classification of a process if it should be a step inside a step of level `min_level`.
    fn step_classification(
        &self,
        tree: &Snapshot,
        process: &Process,
        min_level: u8,
    ) -> Option<&Classification> {
        let known = self
            .classified_processes
            .get(&(process.pid, process.start_ticks))
            .filter(|_| !process.is_zombie)?;
        let classification = known
            .classification
            .as_ref()
            .filter(|classification| !classification.fetches_program || self.is_fetching(tree, process))?;
        let level = nesting_level(classification.kind);
        (level > min_level && (level >= NETWORK_LEVEL || known.snapshot_count >= MIN_SNAPSHOTS))
            .then_some(classification)
    }

    /// Updates the resource usage of each step and checks its progress.
    fn measure_progress(&mut self, now: Duration, tree: &Snapshot, inspect: Inspect<'_>) -> Vec<DueAction> {
        let mut actions = Vec::new();
        for index in 0..self.active.len() {
            let Some((root, _)) = self.active[index].step_processes.root() else { continue };
            let n = self.active[index].number;
            let is_innermost = !self.active.iter().any(|step| step.parent == Some(n));
            let processes = tree.subtree(root);
            if processes.iter().all(|process| process.is_zombie) {
                self.on_processes_gone(now, index);
            }
            let step = &mut self.active[index];
            step.usage_meter.add_snapshot(processes);
            step.last_processes = diagnosis::newest_summaries(processes);
            // If the tree was truncated, processes missing from it may make progress.
            if !is_innermost || processes.is_empty() || tree.is_truncated(root) {
                continue;
            }
            let Some(idle_usage) = step.stall_watch.add_sample(now, step.usage_meter.totals()) else {
                step.is_stall_reported = false;
                continue;
            };
            // Each stall is reported once.
            if std::mem::replace(&mut step.is_stall_reported, true) {
                continue;
            }
            let timeout = TimeoutError::for_stall(step, idle_usage, inspect);
            let action = step.stall_action;
            actions.extend(self.on_timeout(now, index, action, timeout));
        }
        actions
    }
}

fn step_processes_of(process: &Process) -> StepProcesses {
    StepProcesses::Root { pid: process.pid, start_ticks: Some(process.start_ticks) }
}

/// Returns the commands that Codex runs: the topmost processes below it that carry a call id.
fn codex_commands(tree: &Snapshot, leader: u32) -> Vec<&Process> {
    let mut commands = Vec::new();
    let mut stack: Vec<&Process> = tree.children(leader).collect();
    while let Some(process) = stack.pop() {
        if process.call_id.is_some() && !process.is_zombie {
            commands.push(process);
        } else {
            stack.extend(tree.children(process.pid));
        }
    }
    commands
}

#[cfg(test)]
#[path = "process_steps_tests.rs"]
mod tests;
