//! Orders to a running job.

use tokio::sync::watch;

/// An order. A later one may hasten an earlier one; none revokes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Order {
    /// Go on.
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

impl Order {
    /// Returns the order in force when `new` follows this one: the first reason stays, the shorter grace wins.
    fn then(self, new: Self) -> Self {
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
pub(crate) struct Told {
    /// Order in force.
    pub(crate) order: Order,
    /// Total extension of the job's limit so far, in milliseconds.
    pub(crate) job_ms: u64,
    /// Total extension of step limits so far, in milliseconds.
    pub(crate) step_ms: u64,
}

/// Sends an order; repeating one changes nothing.
pub(super) fn give(sender: &watch::Sender<Told>, new: Order) {
    sender.send_if_modified(|told| {
        let then = told.order.then(new);
        std::mem::replace(&mut told.order, then) != then
    });
}

/// Extends a limit: that of the step that runs when the job handles it, or that of the job.
pub(super) fn extend(sender: &watch::Sender<Told>, step: bool, by_ms: u64) {
    sender.send_modify(|told| {
        let sum = if step { &mut told.step_ms } else { &mut told.job_ms };
        *sum = sum.saturating_add(by_ms);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_the_shorter_grace_wins() {
        let cancel = Order::Run.then(Order::Cancel { grace_ms: 5000 });
        assert_eq!(cancel.then(Order::Cancel { grace_ms: 9000 }), cancel);
        assert_eq!(cancel.then(Order::Stop { grace_ms: 0 }), Order::Cancel { grace_ms: 0 });
        assert_eq!(cancel.then(Order::Run), cancel);
    }
}
