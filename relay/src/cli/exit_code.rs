//! Record → exit code.

use common::event::FailureKind;
use common::record::{JobRecord, State};

use crate::exit::Code;

/// Returns the exit code for the state of a job.
pub fn code(record: &JobRecord) -> Code {
    match record.state {
        State::Completed => Code::Done,
        State::Cancelled => Code::Cancelled,
        State::Failed => match record.error.as_ref().map(|error| error.kind) {
            Some(FailureKind::AgentLost | FailureKind::ContainerExited | FailureKind::OomKilled) => {
                Code::Infrastructure
            }
            _ => Code::JobFailed,
        },
        State::Queued | State::Starting | State::Running | State::Stopping => Code::StillRunning,
    }
}

/// Returns the worst of several exit codes. The order, worst first: still running, infrastructure, failed, cancelled,
/// completed. A lost platform ranks above a failure, because the result of the work is unknown then. A failure ranks
/// above a cancellation, because the cancellation was requested.
pub fn worst(codes: impl IntoIterator<Item = Code>) -> Code {
    let rank = |code: &Code| match code {
        Code::StillRunning => 4,
        Code::Infrastructure => 3,
        Code::JobFailed => 2,
        Code::Cancelled => 1,
        _ => 0,
    };
    codes.into_iter().max_by_key(rank).unwrap_or(Code::Done)
}

/// Returns the exit code of `relay run`: the command's own, if it has one.
pub fn of_command(record: &JobRecord) -> u8 {
    let kind = record.error.as_ref().map(|error| error.kind);
    match (code(record), kind) {
        (
            Code::JobFailed,
            Some(
                FailureKind::JobTimeout
                | FailureKind::StepTimeout
                | FailureKind::StartTimeout
                | FailureKind::Stalled,
            ),
        ) => Code::TimeLimit as u8,
        (Code::JobFailed, _) => {
            let own = record.exit_code.and_then(|code| u8::try_from(code).ok());
            own.filter(|code| *code != 0).unwrap_or(Code::JobFailed as u8)
        }
        (code, _) => code as u8,
    }
}

#[cfg(test)]
mod tests {
    use common::event::JobError;

    use super::*;
    use crate::render::samples;

    fn ended(state: State, kind: Option<FailureKind>, exit_code: Option<i32>) -> JobRecord {
        let mut record = samples::bare("a#1", state);
        record.error = kind.map(|kind| JobError { kind, message: String::new(), step: None });
        record.exit_code = exit_code;
        record
    }

    #[test]
    fn the_code_of_a_command_is_its_own_unless_it_was_ended() {
        let failed = |kind, code| of_command(&ended(State::Failed, Some(kind), code));
        assert_eq!(failed(FailureKind::CodexExit, Some(7)), 7);
        assert_eq!(failed(FailureKind::CodexExit, None), 1);
        assert_eq!(failed(FailureKind::CodexExit, Some(-1)), 1);
        assert_eq!(failed(FailureKind::JobTimeout, Some(137)), 124);
        assert_eq!(failed(FailureKind::Stalled, Some(137)), 124);
        assert_eq!(failed(FailureKind::AgentLost, None), 125);
        assert_eq!(of_command(&ended(State::Cancelled, None, Some(143))), 130);
        assert_eq!(of_command(&ended(State::Completed, None, Some(0))), 0);
    }

    #[test]
    fn the_worst_job_decides() {
        let worst = |codes: &[Code]| worst(codes.iter().copied());
        assert_eq!(worst(&[]), Code::Done);
        assert_eq!(worst(&[Code::Done, Code::Cancelled]), Code::Cancelled);
        assert_eq!(worst(&[Code::JobFailed, Code::Cancelled]), Code::JobFailed);
        assert_eq!(worst(&[Code::JobFailed, Code::Infrastructure]), Code::Infrastructure);
        assert_eq!(worst(&[Code::StillRunning, Code::Infrastructure]), Code::StillRunning);
    }
}
