//! The job's output: handed over after the last command.

use common::event::EventBody;

use super::own_place::Wait;
use super::running_command::EndReason;
use super::supervisor::Supervisor;
use crate::output::collector::Report;
use crate::place::folder;

impl Supervisor {
    /// Hands the output over and removes its folder, unless that fails.
    pub(super) async fn push_output(&mut self) {
        let output = self.resources.output.clone();
        let path = output.folder.path().to_owned();
        if !output.is_empty() {
            let handed_over = if self.end_reason == Some(EndReason::Stopped) {
                Err("the agent was stopped".to_owned())
            } else {
                let push = output.push_output();
                match self.wait_unless_stopped(push).await {
                    Wait::Done(result) => result,
                    Wait::Interrupted => Err("the agent was stopped".to_owned()),
                }
            };
            match handed_over {
                Ok(report) => {
                    self.emit(skipped_warning(&report).map(|message| EventBody::Warning { message }));
                }
                Err(reason) => {
                    let message = format!(
                        "the output could not be handed over: {reason}; it is in {path} on the agent's machine"
                    );
                    return self.emit([EventBody::Warning { message }]);
                }
            }
        }
        tokio::task::spawn_blocking(move || {
            folder::remove(path.as_ref());
            folder::remove_leftovers(path.as_ref());
        });
    }
}

/// Returns the warning about what was not kept.
fn skipped_warning(report: &Report) -> Option<String> {
    let more = usize::try_from(report.skipped).unwrap_or(usize::MAX).saturating_sub(report.named.len());
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    (report.skipped > 0).then(|| format!("output that is not kept: {}{more}", report.named.join("; ")))
}
