//! Control of a running job: requests to end it, and extensions of its limits.

use tokio::sync::watch;

/// Request to end the job, if any. A later request can shorten the grace period of an earlier one, but never revokes
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Control {
    /// Keep running.
    #[default]
    Run,
    /// End the job on request.
    Cancel {
        /// Time until KILL, in milliseconds.
        grace_ms: u64,
    },
    /// End the job because the agent itself has to stop.
    Stop {
        /// Time until KILL, in milliseconds.
        grace_ms: u64,
    },
}

impl Control {
    /// Combines this request with a later one. The result has the first reason and the shorter grace period.
    fn merge(self, new: Self) -> Self {
        match (self, new) {
            (Self::Run, new) => new,
            (old, Self::Run) => old,
            (Self::Cancel { grace_ms: a }, Self::Cancel { grace_ms: b } | Self::Stop { grace_ms: b }) => {
                Self::Cancel { grace_ms: a.min(b) }
            }
            (Self::Stop { grace_ms: a }, Self::Cancel { grace_ms: b } | Self::Stop { grace_ms: b }) => {
                Self::Stop { grace_ms: a.min(b) }
            }
        }
    }
}

/// Control state of a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ControlState {
    /// Request in force.
    pub(crate) control: Control,
    /// Total extension of the job's limit so far, in milliseconds.
    pub(crate) job_extension_ms: u64,
    /// Total extension of step limits so far, in milliseconds.
    pub(crate) step_extension_ms: u64,
    /// Number of requests to go on after a hold.
    pub(crate) continue_count: u32,
}

/// Sends a request to end the job. Sending the same request again changes nothing.
pub(super) fn send_control(sender: &watch::Sender<ControlState>, new: Control) {
    sender.send_if_modified(|state| {
        let merged = state.control.merge(new);
        std::mem::replace(&mut state.control, merged) != merged
    });
}

/// Extends the limit of the job, or of the step that is active when the job handles the request.
pub(super) fn extend_limit(sender: &watch::Sender<ControlState>, is_step_limit: bool, by_ms: u64) {
    sender.send_modify(|state| {
        let sum = if is_step_limit { &mut state.step_extension_ms } else { &mut state.job_extension_ms };
        *sum = sum.saturating_add(by_ms);
    });
}

/// Lets the job go on, if it is held.
pub(super) fn end_hold(sender: &watch::Sender<ControlState>) {
    sender.send_modify(|state| state.continue_count = state.continue_count.wrapping_add(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_the_shorter_grace_wins() {
        let cancel = Control::Run.merge(Control::Cancel { grace_ms: 5000 });
        assert_eq!(cancel.merge(Control::Cancel { grace_ms: 9000 }), cancel);
        assert_eq!(cancel.merge(Control::Stop { grace_ms: 0 }), Control::Cancel { grace_ms: 0 });
        assert_eq!(cancel.merge(Control::Run), cancel);
    }
}
