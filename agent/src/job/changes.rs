//! Counts a job's changes with git, and warns of settings files that were replaced while the job ran.

use common::event::{Changes, EventBody};
use common::text_format;
use tokio::task::JoinHandle;

use super::running_command::EndReason;
use super::supervisor::Supervisor;
use crate::confine::sandbox::JobSandbox;
use crate::git_diff::{self, BaselineResult, GitCall};

/// Maximum number of replaced settings files that are reported, with one warning each.
const MAX_REPLACED_WARNINGS: usize = 5;

impl Supervisor {
    /// Counts the changes since the start of the job's first command.
    pub(super) async fn count_changes(
        &mut self,
        git: &GitCall,
        baseline: JoinHandle<BaselineResult>,
    ) -> Option<Changes> {
        if self.end_reason == Some(EndReason::Stopped) {
            baseline.abort();
            return None;
        }
        let result = match baseline.await {
            Ok(Ok(Some(baseline))) => git_diff::changes_since(git, &baseline).await,
            Ok(Err(reason)) => Err(reason),
            // There is no repository, or the agent is shutting down.
            Ok(Ok(None)) | Err(_) => return None,
        };
        match result {
            Ok(changes) => changes,
            Err(reason) => {
                self.emit([EventBody::Warning { message: format!("changes: not counted: {reason}") }]);
                None
            }
        }
    }

    /// Warns of settings that were replaced while the job ran, because the job could write to the new files.
    pub(super) fn warn_of_replaced_settings(&mut self) {
        let replaced = self.resources.sandbox.iter().flat_map(JobSandbox::replaced_settings);
        let warnings = replaced.map(|path| EventBody::Warning {
            message: format!(
                "{} was replaced while this job ran, and the job could write it since: check it before you \
                run git here",
                text_format::one_line(&path.display().to_string(), 300)
            ),
        });
        let warnings: Vec<EventBody> = warnings.take(MAX_REPLACED_WARNINGS).collect();
        self.emit(warnings);
    }
}
