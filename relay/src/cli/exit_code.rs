//! Exit codes for records.

use common::event::FailureKind;
use common::record::{JobRecord, State};

use crate::exit::ExitCode;

/// Returns the exit code for the state in the record.
pub fn code_for_record(record: &JobRecord) -> ExitCode {
    match record.state {
        State::Completed => ExitCode::Done,
        State::Cancelled => ExitCode::Cancelled,
        State::Failed => match record.error.as_ref().map(|error| error.kind) {
            Some(FailureKind::AgentLost | FailureKind::ContainerExited | FailureKind::OomKilled) => {
                ExitCode::Infrastructure
            }
            _ => ExitCode::JobFailed,
        },
        State::Queued | State::Starting | State::Running | State::Stopping => ExitCode::StillRunning,
    }
}

/// Returns the worst of several exit codes. The order, worst first: still running, infrastructure, failed, cancelled,
/// completed. A lost platform ranks above a failure, because it is unknown whether the job's work succeeded. A failure
/// ranks above a cancellation, because the cancellation was requested.
pub fn worst_code(codes: impl IntoIterator<Item = ExitCode>) -> ExitCode {
    let rank = |code: &ExitCode| match code {
        ExitCode::StillRunning => 4,
        ExitCode::Infrastructure => 3,
        ExitCode::JobFailed => 2,
        ExitCode::Cancelled => 1,
        _ => 0,
    };
    codes.into_iter().max_by_key(rank).unwrap_or(ExitCode::Done)
}

/// Returns the exit code of `relay run`: the command's own, unless relay ended it (124, 130), the platform was lost
/// (125), or it has none (1).
pub fn run_exit_code(record: &JobRecord) -> u8 {
    let kind = record.error.as_ref().map(|error| error.kind);
    match (code_for_record(record), kind) {
        (
            ExitCode::JobFailed,
            Some(
                FailureKind::JobTimeout
                | FailureKind::StepTimeout
                | FailureKind::StartTimeout
                | FailureKind::Stalled,
            ),
        ) => ExitCode::TimeLimit as u8,
        (ExitCode::JobFailed, _) => {
            let command_code = record.exit_code.and_then(|code| u8::try_from(code).ok());
            command_code.filter(|code| *code != 0).unwrap_or(ExitCode::JobFailed as u8)
        }
        (code, _) => code as u8,
    }
}

#[cfg(test)]
mod tests {
    use common::event::JobError;

    use super::*;
    use crate::render::samples;

    fn ended_record(state: State, kind: Option<FailureKind>, exit_code: Option<i32>) -> JobRecord {
        let mut record = samples::minimal_record("a#1", state);
        record.error = kind.map(|kind| JobError { kind, message: String::new(), step: None });
        record.exit_code = exit_code;
        record
    }

    #[test]
    fn run_returns_the_code_of_the_command_unless_relay_ended_it() {
        let failed = |kind, code| run_exit_code(&ended_record(State::Failed, Some(kind), code));
        assert_eq!(failed(FailureKind::CodexExit, Some(7)), 7);
        assert_eq!(failed(FailureKind::CodexExit, None), 1);
        assert_eq!(failed(FailureKind::CodexExit, Some(-1)), 1);
        assert_eq!(failed(FailureKind::JobTimeout, Some(137)), 124);
        assert_eq!(failed(FailureKind::Stalled, Some(137)), 124);
        assert_eq!(failed(FailureKind::AgentLost, None), 125);
        assert_eq!(run_exit_code(&ended_record(State::Cancelled, None, Some(143))), 130);
        assert_eq!(run_exit_code(&ended_record(State::Completed, None, Some(0))), 0);
    }

    #[test]
    fn the_worst_job_decides_about_the_exit_code() {
        let worst = |codes: &[ExitCode]| worst_code(codes.iter().copied());
        assert_eq!(worst(&[]), ExitCode::Done);
        assert_eq!(worst(&[ExitCode::Done, ExitCode::Cancelled]), ExitCode::Cancelled);
        assert_eq!(worst(&[ExitCode::JobFailed, ExitCode::Cancelled]), ExitCode::JobFailed);
        assert_eq!(worst(&[ExitCode::JobFailed, ExitCode::Infrastructure]), ExitCode::Infrastructure);
        assert_eq!(worst(&[ExitCode::StillRunning, ExitCode::Infrastructure]), ExitCode::StillRunning);
    }
}
