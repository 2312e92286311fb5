//! Holds: a job whose Codex has reached the account's usage limit waits until the relay lets it go on in its thread.
//!
//! ```text
//!  Codex runs ──usage limit──► held ──Continue──► Codex resumes the thread
//!                                └──cancelled, agent stopped──► the job ends
//! ```
//!
//! The relay alone decides when the job goes on, because it knows of all jobs of the account.

use common::event::{EventBody, FailureKind, JobError};
use common::hold::{Hold, OnQuota};
use jiff::Zoned;
use tokio::time::{Instant, sleep_until};

use super::stage::Stage;
use super::supervisor::Supervisor;
use crate::codex::{Turn, error_messages};
use crate::deadline::TICK;

/// Prompt of a turn that goes on with an interrupted one.
const CONTINUE_PROMPT: &str =
    "A usage limit of the account has interrupted you. It has ended: go on with the task.";

impl Supervisor {
    /// Runs the worker. A Codex that reaches a usage limit is held, and then goes on in its thread.
    pub(super) async fn run_worker(&mut self) -> Result<(), JobError> {
        loop {
            let pipes = Stage::Worker.output_pipes(&self.spec);
            let Err(error) = self.run_command(Stage::Worker, pipes).await else { return Ok(()) };
            let Some(thread) = self.thread_id.clone().filter(|_| self.waits_after(&error)) else {
                return Err(error);
            };
            self.hold(error).await;
            if self.end_reason.is_some() {
                return Ok(());
            }
            self.spec.thread = Some(thread);
            CONTINUE_PROMPT.clone_into(&mut self.spec.prompt);
        }
    }

    /// Returns true if the job waits for the end of the limit that this error reports.
    fn waits_after(&self, error: &JobError) -> bool {
        error.kind == FailureKind::UsageLimit
            && self.spec.on_quota == OnQuota::Wait
            && Stage::Worker.is_codex(&self.spec)
    }

    /// Waits until the relay lets the job go on, or until the job is to end. The time does not count towards limits.
    async fn hold(&mut self, error: JobError) {
        let JobError { kind, message, .. } = error;
        let hold = Hold { kind, message, until: self.limit_end, next_try_at: None };
        let continued = self.control.borrow().continue_count;
        self.emit([EventBody::Held { hold: Some(Box::new(hold)) }]);
        self.exit_code = None;
        self.work_clock.set_on_hold(self.started_at.elapsed(), true);
        loop {
            self.apply_control(None);
            if self.end_reason.is_some() || self.applied_control.continue_count != continued {
                break;
            }
            // Cancel-safe: a new control state stays marked as changed until it is read.
            tokio::select! {
                Ok(()) = self.control.changed() => {}
                () = sleep_until(Instant::now() + TICK) => {
                    self.spool.retry_pending();
                    self.log.check_copy();
                }
            }
        }
        self.work_clock.set_on_hold(self.started_at.elapsed(), false);
        if self.end_reason.is_none() {
            self.emit([EventBody::Held { hold: None }]);
        }
    }

    /// Notes the end of the usage limit that a failed turn names.
    pub(super) fn note_limit_end(&mut self, turn: Option<&Turn>, ended_at: &Zoned) {
        self.limit_end = match turn {
            Some(Turn::Failed(message)) => error_messages::usage_limit_end(message, ended_at),
            _ => None,
        };
    }
}
