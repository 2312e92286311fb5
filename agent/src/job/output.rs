//! Push of the job's output to the relay, after the job's last command.

use common::event::EventBody;

use super::own_place::Wait;
use super::running_command::EndReason;
use super::supervisor::Supervisor;
use crate::output::collector::Report;
use crate::place::folder;

impl Supervisor {
    /// Pushes the output and removes its folder. If the push fails, the folder is kept for a while.
    pub(super) async fn push_output(&mut self) {
        let output = self.resources.output.clone();
        let path = output.folder.path().to_owned();
        if !output.is_empty() {
            let pushed = if self.end_reason == Some(EndReason::Stopped) {
                Err("the agent was stopped".to_owned())
            } else {
                let push = output.push_output();
                match self.wait_unless_stopped(push).await {
                    Wait::Done(result) => result,
                    Wait::Interrupted => Err("the agent was stopped".to_owned()),
                }
            };
            match pushed {
                Ok(report) => {
                    self.emit(skipped_warning(&report).map(|message| EventBody::Warning { message }));
                }
                Err(reason) => {
                    folder::mark_kept(path.as_ref());
                    return self.emit([EventBody::Warning { message: kept_warning(&reason, &path) }]);
                }
            }
        }
        tokio::task::spawn_blocking(move || {
            folder::remove(path.as_ref());
            folder::remove_leftovers(path.as_ref());
        });
    }
}

/// Returns the warning about output that could not be handed over and is kept in `path`.
pub(super) fn kept_warning(reason: &str, path: &str) -> String {
    format!("the output could not be handed over: {reason}; it is in {path} on the agent's machine")
}

/// Returns the warning about files of the output that the relay does not keep.
pub(super) fn skipped_warning(report: &Report) -> Option<String> {
    let unnamed = usize::try_from(report.skipped).unwrap_or(usize::MAX).saturating_sub(report.named.len());
    let unnamed = if unnamed > 0 { format!("; and {unnamed} more") } else { String::new() };
    (report.skipped > 0).then(|| format!("output that is not kept: {}{unnamed}", report.named.join("; ")))
}
