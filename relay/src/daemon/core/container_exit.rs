//! Descriptions of a container's exit, for users and for the agent. Pure.

use common::event::{EventBody, FailureKind, FinalState, JobError};
use common::wire::TerminationCause;

use crate::container_state::ContainerExit;
use crate::engine_kind::EngineKind;

/// Exit code of a process that was killed with SIGKILL: 128 + 9.
const EXIT_KILLED: i32 = 137;

/// Describes the exit of the container `name`, without advice.
pub(super) fn describe_exit(name: &str, exit: &ContainerExit) -> String {
    describe(&format!("the container '{name}'"), exit)
}

/// Describes the exit of the container of a single job, without advice.
pub(super) fn describe_box_exit(exit: &ContainerExit) -> String {
    describe("the job's container", exit)
}

fn describe(subject: &str, exit: &ContainerExit) -> String {
    match exit.exit_code {
        None => format!("{subject} was removed"),
        Some(code) if exit.oom_killed => {
            format!("{subject} exited with code {code}: it was killed for lack of memory")
        }
        Some(EXIT_KILLED) => format!("{subject} exited with code {EXIT_KILLED}: it was killed"),
        Some(143) => format!("{subject} exited with code 143: it was stopped"),
        Some(code) => format!("{subject} exited with code {code}"),
    }
}

/// Describes a container whose processes are frozen.
pub(in crate::daemon) fn describe_pause(engine: EngineKind, name: &str) -> String {
    format!("the container '{name}' is paused: `{engine} unpause {name}`")
}

/// Describes a container that a person has stopped while no job was active.
pub(super) fn describe_stop(name: &str) -> String {
    format!("the container '{name}' was stopped by hand: the next job starts it again, or `relay up`")
}

/// Returns the failure cause of the jobs that were interrupted by the exit, with advice.
pub(super) fn termination_cause(engine: EngineKind, name: &str, exit: &ContainerExit) -> TerminationCause {
    let advice = match (exit.exit_code, exit.oom_killed, exit.memory_limit) {
        (_, true, Some(limit)) => format!(
            "its limit is {} MiB: raise it (`{engine} update --memory`), or run fewer jobs at once ([platform] max_jobs)",
            limit >> 20
        ),
        (_, true, None) => {
            "the machine had no memory left: free some, or run fewer jobs at once ([platform] max_jobs)"
                .to_owned()
        }
        (None | Some(EXIT_KILLED | 143), ..) => "launch the job again".to_owned(),
        (Some(_), ..) => format!("see `{engine} logs {name}`, then launch the job again"),
    };
    cause(exit, &describe_exit(name, exit), &advice)
}

/// Returns the failure cause of a job whose own container has exited, with advice.
pub(super) fn box_termination_cause(exit: &ContainerExit) -> TerminationCause {
    let advice = match (exit.oom_killed, exit.memory_limit) {
        (true, Some(limit)) => format!(
            "its limit is {} MiB: raise it ([platform] memory in platform/relay.toml), then launch the job again",
            limit >> 20
        ),
        (true, None) => {
            "the machine had no memory left: free some, or run fewer jobs at once ([platform] max_jobs)"
                .to_owned()
        }
        (false, _) => "launch the job again".to_owned(),
    };
    cause(exit, &describe_box_exit(exit), &advice)
}

fn cause(exit: &ContainerExit, description: &str, advice: &str) -> TerminationCause {
    let kind = if exit.oom_killed { FailureKind::OomKilled } else { FailureKind::ContainerExited };
    TerminationCause { kind, message: format!("{description}; {advice}"), exit_code: exit.exit_code }
}

/// Returns the relay's final event for a job that was interrupted by the exit. `reason` says why no agent can record
/// the outcome.
pub(super) fn final_event(cause: &TerminationCause, reason: &str) -> EventBody {
    EventBody::Finished {
        state: FinalState::Failed,
        error: Some(JobError {
            kind: cause.kind,
            message: format!("{} ({reason})", cause.message),
            step: None,
        }),
        exit_code: cause.exit_code,
        changes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause_of(
        exit_code: Option<i32>,
        oom_killed: bool,
        memory_limit: Option<u64>,
    ) -> (FailureKind, String) {
        let exit = ContainerExit { memory_limit, ..ContainerExit::from_exit_code(exit_code, oom_killed) };
        let cause = termination_cause(EngineKind::Docker, "platform", &exit);
        assert_eq!(cause.exit_code, exit_code);
        (cause.kind, cause.message)
    }

    #[test]
    fn every_exit_is_described_with_advice() {
        let expected = [
            (
                cause_of(Some(137), true, Some(300 << 20)),
                FailureKind::OomKilled,
                "the container 'platform' exited with code 137: it was killed for lack of memory; its limit \
                is 300 MiB: raise it (`docker update --memory`), or run fewer jobs at once ([platform] \
                max_jobs)",
            ),
            (
                cause_of(Some(137), true, None),
                FailureKind::OomKilled,
                "the container 'platform' exited with code 137: it was killed for lack of memory; the \
                machine had no memory left: free some, or run fewer jobs at once ([platform] max_jobs)",
            ),
            (
                cause_of(Some(137), false, None),
                FailureKind::ContainerExited,
                "the container 'platform' exited with code 137: it was killed; launch the job again",
            ),
            (
                cause_of(Some(1), false, None),
                FailureKind::ContainerExited,
                "the container 'platform' exited with code 1; see `docker logs platform`, then launch the job again",
            ),
            (
                cause_of(None, false, None),
                FailureKind::ContainerExited,
                "the container 'platform' was removed; launch the job again",
            ),
        ];
        for (cause, kind, message) in expected {
            assert_eq!(cause, (kind, message.to_owned()));
        }
        let exit = ContainerExit {
            memory_limit: Some(4096 << 20),
            ..ContainerExit::from_exit_code(Some(137), true)
        };
        assert_eq!(
            box_termination_cause(&exit).message,
            "the job's container exited with code 137: it was killed for lack of memory; its limit is 4096 MiB: raise it \
             ([platform] memory in platform/relay.toml), then launch the job again"
        );
    }
}
