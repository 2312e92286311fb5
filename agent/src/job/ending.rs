//! End of a job before its command ends by itself: because of a deadline, a stall, a cancel or a stop of the agent.

use std::time::Duration;

use common::event::{EventBody, FailureKind, JobError};
use common::job::StepKind;

use super::control::{Control, ControlState};
use super::outcome::disk_limit_error;
use super::running_command::{EndReason, RunningCommand};
use super::supervisor::{EXIT_TIMEOUT, Supervisor};
use crate::disk_use::DiskWatch;
use crate::observe::Snapshot;
use crate::steps::step_table::DueAction;

/// Time that a shim may take after the grace period: 3 s for processes that can't be killed, and the rest for the last
/// output.
const SHIM_OVERTIME: Duration = Duration::from_secs(5);
/// Grace period of a job that is over its limit of disk space, in milliseconds: it may go on to fill the disk.
const DISK_GRACE_MS: u64 = 1000;

impl Supervisor {
    pub(super) fn check_deadlines(&mut self, running: &mut RunningCommand) {
        let now = self.now();
        if running.is_ending() {
            return;
        }
        if !running.was_ended_after_turn
            && running.handler.exit_deadline().is_some_and(|deadline| now >= deadline)
        {
            running.was_ended_after_turn = true;
            running.process.end(true, Duration::from_millis(self.spec.limits.grace_ms));
            return;
        }
        let limit = self.start_limit();
        if running.leader_pid.is_none() && now >= running.spawn_requested_at.saturating_add(limit) {
            let message = format!(
                "{} could not be started within {}: is its folder or program on a disk that hangs?",
                running.stage.display_name(running.stage.is_codex(&self.spec)),
                common::duration::format_limit(common::duration::to_millis(limit))
            );
            let error = JobError { kind: FailureKind::StartTimeout, message, step: None };
            return self.apply_due_limits(running, vec![DueAction::Failure(error)]);
        }
        let observer = &self.resources.observer;
        let actions = self.steps.due_actions(now, &|pid| observer.blocked_on(pid));
        self.apply_due_limits(running, actions);
    }

    pub(super) fn start_limit(&self) -> Duration {
        Duration::from_millis(self.spec.limits.step_ms(StepKind::Start))
    }

    /// Handles a snapshot of the processes.
    pub(super) fn on_snapshot(&mut self, running: &mut RunningCommand, tree: &Snapshot) {
        let now = self.work_clock.advance_to(tree.scanned_at.saturating_duration_since(self.started_at));
        if let Some(leader) = running.leader_pid.filter(|_| !running.is_ending()) {
            // A running shim reaps its child at once; a stopped one does not.
            if tree.process(leader).is_some_and(|process| process.is_zombie) {
                return running.set_shim_deadline(now.saturating_add(EXIT_TIMEOUT));
            }
            self.check_disk(running);
            let observer = &self.resources.observer;
            let due = self.steps.update_from_snapshot(now, tree, leader, &|pid| observer.blocked_on(pid));
            self.apply_due_limits(running, due);
        }
    }

    /// Ends the command of a job that uses more disk space than it may.
    fn check_disk(&mut self, running: &mut RunningCommand) {
        if let Some(disk) = self.resources.disk_watch.as_ref().and_then(DiskWatch::exceeded) {
            let error = disk_limit_error(disk);
            let reason = error.message.clone();
            self.end_command(running, EndReason::Failed(error), &reason, DISK_GRACE_MS);
        }
    }

    fn apply_due_limits(&mut self, running: &mut RunningCommand, actions: Vec<DueAction>) {
        for action in actions {
            match action {
                DueAction::Event(event) => {
                    if matches!(event, EventBody::Stalled { .. }) {
                        self.emit_vitals();
                    }
                    self.emit([event]);
                }
                DueAction::Interrupt { pid, start_ticks, grace_ms } => {
                    running.process.end_subtree(pid, start_ticks, grace_ms);
                }
                DueAction::Failure(error) => {
                    if error.kind == FailureKind::Stalled {
                        self.emit_vitals();
                    }
                    let grace = self.spec.limits.grace_ms;
                    let reason = error.message.clone();
                    self.end_command(running, EndReason::Failed(error), &reason, grace);
                }
            }
        }
    }

    /// Applies the newest control state.
    pub(super) fn apply_control(&mut self, running: Option<&mut RunningCommand>) {
        let newest = *self.control.borrow_and_update();
        self.extend_limits(newest);
        let (ending, reason, grace_ms) = match newest.control {
            Control::Run => return,
            Control::Cancel { grace_ms } => (EndReason::Cancelled, "cancelled", grace_ms),
            Control::Stop { grace_ms } => (EndReason::Stopped, "the agent was stopped", grace_ms),
        };
        match running {
            Some(running) => self.end_command(running, ending, reason, grace_ms),
            None => self.set_end_reason(ending, reason),
        }
    }

    /// Extends limits by the extensions in `newest` that are not applied yet.
    fn extend_limits(&mut self, newest: ControlState) {
        let job = newest.job_extension_ms.saturating_sub(self.applied_control.job_extension_ms);
        let step = newest.step_extension_ms.saturating_sub(self.applied_control.step_extension_ms);
        self.applied_control = newest;
        for (is_step_limit, by_ms) in [(false, job), (true, step)] {
            let extended = (by_ms > 0).then(|| self.steps.extend(is_step_limit, by_ms)).flatten();
            self.emit(extended);
        }
    }

    /// Sets the reason why the job ends, unless one is set.
    fn set_end_reason(&mut self, end_reason: EndReason, reason: &str) {
        if self.end_reason.is_none() {
            self.end_reason = Some(end_reason);
            self.steps.mark_ending();
            self.emit([EventBody::Stopping { reason: reason.to_owned() }]);
        }
    }

    /// Ends the command. A later call can only shorten the grace period.
    fn end_command(
        &mut self,
        running: &mut RunningCommand,
        end_reason: EndReason,
        reason: &str,
        grace_ms: u64,
    ) {
        self.set_end_reason(end_reason, reason);
        let grace = Duration::from_millis(grace_ms).min(common::duration::MAX_LIMIT);
        running.process.end(running.stage.is_codex(&self.spec), grace);
        let now = self.now();
        running.set_shim_deadline(now.saturating_add(grace).saturating_add(SHIM_OVERTIME));
    }
}
