//! Escalation that ends a command with INT, TERM and KILL, one after the other. Pure: the caller passes the time and
//! the state of the processes.
//!
//! ```text
//!  TerminateCommands ──none left, or 2 s──► Interrupt ──leader gone, or 2 s──► Terminate ──nothing left──► Sweep
//!    └───────────────────────────────────────┴──grace over─────────────────────┴────────────────────────────┘
//! ```
//!
//! An interrupted leader (Codex) immediately kills the commands that it has started. So these commands receive TERM
//! before that, while the leader is stopped and can't start new ones.

use std::time::Duration;

/// Time for the leader to obey INT. Codex needs 0.06 s to interrupt its turn and end its own commands.
const INTERRUPT_TIME: Duration = Duration::from_secs(2);
/// Time for the leader's commands to obey TERM before it is interrupted: enough to remove a lock.
const COMMANDS_TIME: Duration = Duration::from_secs(2);
/// Maximum time for which a process tree is stopped while TERM is sent to its processes: enough for two scans of
/// thousands of processes on a busy machine. A dozen processes take 5 ms.
const MAX_STOPPED_TIME: Duration = Duration::from_secs(2);

/// Next action of the escalation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send STOP to the leader, then TERM and CONT to its descendants. Stop the descendants for at most this long.
    TerminateCommands(Duration),
    /// Send INT and CONT to the leader.
    Interrupt,
    /// Send TERM, then CONT, to all processes. Stop them for at most this long.
    Terminate(Duration),
    /// Send KILL until nothing is left.
    Sweep,
    /// Check again after at most this long.
    Wait(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// TERM to the leader's commands is due.
    TerminateCommands,
    /// TERM was sent to the commands; INT follows at `interrupt_at`.
    CommandsTerminated { interrupt_at: Duration },
    /// INT was sent; TERM follows at `terminate_at`.
    Interrupted { terminate_at: Duration },
    /// TERM to all processes is due.
    TerminateAll,
    /// TERM was sent.
    AllTerminated,
}

/// Progress of an escalation. Times are measured from any fixed instant.
#[derive(Debug)]
pub(crate) struct Escalation {
    stage: Stage,
    kill_at: Duration,
}

impl Escalation {
    /// Creates the escalation for a command that gets KILL after `grace`.
    pub(crate) fn new(now: Duration, interrupt_first: bool, grace: Duration) -> Self {
        let stage = if interrupt_first { Stage::TerminateCommands } else { Stage::TerminateAll };
        Self { stage, kill_at: now.saturating_add(grace) }
    }

    /// Handles a repeated request, which can only shorten the grace period.
    pub(crate) fn shorten_grace(&mut self, now: Duration, grace: Duration) {
        self.kill_at = self.kill_at.min(now.saturating_add(grace));
    }

    /// Returns the next action. `has_living_command` returns true if a process that the leader started is alive.
    pub(crate) fn next_action(
        &mut self,
        now: Duration,
        is_leader_alive: bool,
        has_living_process: bool,
        has_living_command: impl Fn() -> bool,
    ) -> Action {
        if !has_living_process || now >= self.kill_at {
            return Action::Sweep;
        }
        let remaining = self.kill_at.saturating_sub(now);
        match self.stage {
            Stage::TerminateCommands if is_leader_alive && has_living_command() => {
                // A short grace is divided among the stages: each gets two fifths of the remaining time, the ratio of
                // the usual 2 s to the usual grace of 5 s.
                let share = COMMANDS_TIME.min(remaining * 2 / 5);
                self.stage = Stage::CommandsTerminated { interrupt_at: now + share };
                Action::TerminateCommands(MAX_STOPPED_TIME.min(share / 2))
            }
            Stage::CommandsTerminated { interrupt_at }
                if is_leader_alive && now < interrupt_at && has_living_command() =>
            {
                Action::Wait(interrupt_at.saturating_sub(now).min(remaining))
            }
            Stage::TerminateCommands | Stage::CommandsTerminated { .. } if is_leader_alive => {
                self.stage = Stage::Interrupted { terminate_at: now + INTERRUPT_TIME.min(remaining * 2 / 5) };
                Action::Interrupt
            }
            Stage::Interrupted { terminate_at } if is_leader_alive && now < terminate_at => {
                Action::Wait(terminate_at.saturating_sub(now).min(remaining))
            }
            Stage::TerminateCommands
            | Stage::CommandsTerminated { .. }
            | Stage::Interrupted { .. }
            | Stage::TerminateAll => {
                self.stage = Stage::AllTerminated;
                // At least half of the remaining time is left for the processes to handle TERM.
                Action::Terminate(MAX_STOPPED_TIME.min(remaining / 2))
            }
            Stage::AllTerminated => Action::Wait(remaining),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_command_that_ignores_signals_reaches_every_stage_in_time() {
        let mut escalation = Escalation::new(ms(100), true, ms(5000));
        assert_eq!(escalation.next_action(ms(100), true, true, || false), Action::Interrupt);
        assert_eq!(escalation.next_action(ms(110), true, true, || false), Action::Wait(ms(1990)));
        assert_eq!(escalation.next_action(ms(2100), true, true, || false), Action::Terminate(ms(1500)));
        assert_eq!(escalation.next_action(ms(2110), true, true, || false), Action::Wait(ms(2990)));
        assert_eq!(escalation.next_action(ms(5100), true, true, || false), Action::Sweep);
    }

    #[test]
    fn processes_left_by_an_interrupted_leader_are_terminated_at_once() {
        let mut escalation = Escalation::new(ms(0), true, ms(5000));
        assert_eq!(escalation.next_action(ms(0), true, true, || false), Action::Interrupt);
        assert_eq!(escalation.next_action(ms(60), false, true, || false), Action::Terminate(ms(2000)));
        assert_eq!(escalation.next_action(ms(80), false, false, || false), Action::Sweep);
    }

    #[test]
    fn commands_of_a_leader_get_term_before_the_leader_gets_int() {
        let mut escalation = Escalation::new(ms(0), true, ms(5000));
        assert_eq!(escalation.next_action(ms(0), true, true, || true), Action::TerminateCommands(ms(1000)));
        assert_eq!(escalation.next_action(ms(20), true, true, || true), Action::Wait(ms(1980)));
        assert_eq!(escalation.next_action(ms(100), true, true, || false), Action::Interrupt);
        let mut escalation = Escalation::new(ms(0), true, ms(5000));
        escalation.next_action(ms(0), true, true, || true);
        assert_eq!(escalation.next_action(ms(2000), true, true, || true), Action::Interrupt);
        assert_eq!(escalation.next_action(ms(2010), true, true, || true), Action::Wait(ms(1190)));
    }

    #[test]
    fn without_grace_kill_is_sent_at_once_and_a_request_can_shorten_it() {
        assert_eq!(
            Escalation::new(ms(7), true, ms(0)).next_action(ms(7), true, true, || false),
            Action::Sweep
        );
        let mut escalation = Escalation::new(ms(0), false, ms(300));
        assert_eq!(escalation.next_action(ms(0), true, true, || false), Action::Terminate(ms(150)));
        escalation.shorten_grace(ms(10), ms(0));
        assert_eq!(escalation.next_action(ms(10), true, true, || false), Action::Sweep);
        escalation.shorten_grace(ms(20), ms(9000));
        assert_eq!(escalation.next_action(ms(20), true, true, || false), Action::Sweep);
    }

    #[test]
    fn an_endless_grace_does_not_overflow() {
        let mut escalation = Escalation::new(ms(1), false, Duration::MAX);
        assert_eq!(escalation.next_action(ms(1), true, true, || false), Action::Terminate(ms(2000)));
    }
}
