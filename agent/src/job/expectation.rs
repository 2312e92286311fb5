//! Checks of a job's expectations (`--expect`): the supervisor reads a base commit before the job's first command, and
//! compares the job's result with it at the end.

use common::event::{Changes, FailureKind, JobError, MAX_TEXT};
use common::expectation::Expectation;
use common::text_format;

use super::supervisor::Supervisor;
use crate::expectations::ExpectationCheck;

impl Supervisor {
    /// Returns the base: the commit with which the job's result is compared at the end; empty if there is none.
    pub(super) async fn read_expectation_base(&mut self, has_place: bool) -> Result<String, String> {
        match &self.resources.place {
            Some(place) if has_place => Ok(place.spec.base().to_owned()),
            _ if self.spec.expect.contains(&Expectation::Commit) => {
                self.expectation_check().read_base().await
            }
            _ => Ok(String::new()),
        }
    }

    /// Checks the expectations before relay commits the job's uncommitted files. In a folder that the job shares, only
    /// [`Self::check_counted_changes`] can tell the changes of this job from those of other jobs.
    ///
    /// # Errors
    /// The expectations that are not met.
    pub(super) async fn check_expectations(
        &mut self,
        base: &Result<String, String>,
        has_place: bool,
    ) -> Result<(), JobError> {
        let expected = self.spec.expect.iter().filter(|what| has_place || **what != Expectation::Change);
        let expected: Vec<Expectation> = expected.cloned().collect();
        if expected.is_empty() || self.end_reason.is_some() {
            return Ok(());
        }
        let found = match base {
            Ok(base) => self.expectation_check().find_unmet(base, &expected).await,
            Err(reason) => Err(reason.clone()),
        };
        match found {
            Ok(unmet) if unmet.is_empty() => Ok(()),
            Ok(unmet) => Err(failure(&format!("expected {}", unmet.join("; expected ")))),
            Err(reason) => Err(failure(&format!("the expectations could not be checked: {reason}"))),
        }
    }

    /// Checks the expectation of a change (`--expect change`) against the changes that git counted in the job's folder.
    ///
    /// # Errors
    /// There is no change.
    pub(super) fn check_counted_changes(&self, changes: Option<Changes>) -> Result<(), JobError> {
        if !self.spec.expect.contains(&Expectation::Change) {
            return Ok(());
        }
        match changes {
            Some(changes) if changes.files > 0 => Ok(()),
            Some(_) => Err(failure("expected change: no file differs from the start of the job")),
            None => Err(failure("expected change: changes could not be counted in the working folder")),
        }
    }

    fn expectation_check(&self) -> ExpectationCheck {
        ExpectationCheck {
            env: self.resources.worker_env.clone(),
            user: self.resources.user,
            folder: self.resources.workspace.clone(),
            sandbox: self.resources.sandbox.clone(),
        }
    }
}

fn failure(message: &str) -> JobError {
    let message = text_format::truncate(message, MAX_TEXT);
    JobError { kind: FailureKind::ExpectationFailed, message, step: None }
}
