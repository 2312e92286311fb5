//! Outcome of a command, and its effect on the job. Pure.
//!
//! The outcome depends on what was observed (exit status, deadlines, a kill by the agent). Codex's own report of its
//! turn only explains an exit; it never turns a failure into a success.

use common::event::{FailureKind, JobError, MAX_TEXT};
use common::text_format;
use jiff::Zoned;

use super::stage::Stage;
use crate::codex::{Turn, error_messages};
use crate::disk_use::DiskExceeded;
use crate::oom::OomKill;
use crate::place::git;
use crate::process::Exit;

/// Observations of a command that has ended.
#[derive(Debug, Default)]
pub(crate) struct CommandResult {
    /// Exit status of the command's leader.
    pub(crate) exit: Option<Exit>,
    /// Reason why the command could not be started.
    pub(crate) spawn_error: Option<String>,
    pub(crate) step: Option<u32>,
    /// Last lines that the command wrote.
    pub(crate) tail: String,
    /// Time at which the command ended, in the time zone of the machine.
    pub(crate) ended_at: Zoned,
    /// Outcome of the turn that Codex reported.
    pub(crate) turn: Option<Turn>,
    /// True if the agent ended the command because it kept running after its turn.
    pub(crate) was_ended_after_turn: bool,
    /// Kill for lack of memory, if the kernel killed a process of this platform while the command ran.
    pub(crate) oom_kill: Option<OomKill>,
    /// Limit of the container's processes, if the kernel refused one because of it while the command ran.
    pub(crate) process_limit: Option<u64>,
}

/// Classifies a command that ended by itself.
///
/// # Errors
/// The reason for the failure of the job.
pub(crate) fn classify_exit(stage: &Stage, is_codex: bool, result: &CommandResult) -> Result<(), JobError> {
    let limit_note = result.process_limit.map(process_limit_note).unwrap_or_default();
    let fail = |kind, message: String| {
        let message = text_format::truncate(&message, MAX_TEXT - limit_note.len()) + &limit_note;
        Err(JobError { kind, message, step: result.step })
    };
    if let Some(message) = &result.spawn_error {
        return fail(FailureKind::SpawnFailed, message.clone());
    }
    let Some(exit) = result.exit else {
        return fail(FailureKind::SpawnFailed, "its supervisor was killed from outside".to_owned());
    };
    if let Some(oom_kill) =
        result.oom_kill.filter(|_| was_killed(exit, is_codex) && !result.was_ended_after_turn)
    {
        return fail(FailureKind::OomKilled, oom_message(&stage.display_name(is_codex), oom_kill));
    }
    let ended = describe_exit(exit);
    let detail = if result.tail.is_empty() { String::new() } else { format!(": {}", result.tail) };
    match stage {
        Stage::FillCache
        | Stage::Clone(_)
        | Stage::Advance(_)
        | Stage::Continue
        | Stage::Setup(_)
        | Stage::Check(_)
        | Stage::Worker
            if exit == Exit::Code(0) && !is_codex =>
        {
            Ok(())
        }
        Stage::FillCache | Stage::Clone(_) | Stage::Advance(_) | Stage::Continue => {
            fail(FailureKind::SetupFailed, place_failure(&git::failure_line(result.tail.as_bytes())))
        }
        Stage::Setup(line) => fail(
            FailureKind::SetupFailed,
            format!("setup '{}' {ended}{detail}", text_format::one_line(line, 200)),
        ),
        Stage::Check(line) => fail(
            FailureKind::CheckFailed,
            format!("check '{}' {ended}{detail}", text_format::one_line(line, 200)),
        ),
        Stage::Worker if !is_codex => fail(FailureKind::Exited, format!("the command {ended}")),
        Stage::Worker => match &result.turn {
            Some(Turn::Completed) if exit == Exit::Code(0) || result.was_ended_after_turn => Ok(()),
            Some(Turn::Failed(message)) => {
                let error = error_messages::parse(message, &result.ended_at);
                fail(error.failure_kind(), error.failure_reason())
            }
            turn => {
                let refused =
                    turn.is_none().then(|| error_messages::resume_failure_reason(&result.tail)).flatten();
                let message = refused.map(str::to_owned);
                let message =
                    message.unwrap_or_else(|| format!("codex {ended} before its turn was over{detail}"));
                fail(FailureKind::CodexExit, message)
            }
        },
    }
}

/// Returns the message for a place (the job's own clone) that could not be made.
pub(crate) fn place_failure(reason: &str) -> String {
    format!("the job's place could not be made: {reason}")
}

/// Returns true if the command was killed, or if it is a shell whose exit code reports that its command was killed. The
/// exit code of Codex does not report that: Codex goes on when one of its commands is killed.
fn was_killed(exit: Exit, is_codex: bool) -> bool {
    exit == Exit::Signal(9) || (exit == Exit::Code(137) && !is_codex)
}

fn oom_message(command_name: &str, oom_kill: OomKill) -> String {
    let why = match oom_kill.memory_limit {
        Some(limit) if oom_kill.is_only_job => {
            return format!(
                "{command_name} was killed by the system for lack of memory; the job may use {} MiB: raise that limit \
                 ([platform] memory)",
                limit >> 20
            );
        }
        Some(limit) => format!("the platform may use {} MiB: raise that limit", limit >> 20),
        None => "the machine had no memory left: free some".to_owned(),
    };
    format!(
        "{command_name} was killed by the system for lack of memory; {why}, or run fewer jobs at once ([platform] \
        max_jobs)"
    )
}

/// Returns the end of a failure's message that names the limit of processes, which the command has reached.
fn process_limit_note(limit: u64) -> String {
    format!("; it has reached the limit of {limit} processes and threads ([platform] pids)")
}

/// Returns the warning about a limit of processes that a command has reached.
pub(crate) fn process_limit_warning(limit: u64) -> String {
    format!(
        "the job reached its container's limit of {limit} processes and threads: raise [platform] pids or start fewer"
    )
}

/// Returns the failure of a job that uses more disk space than it may.
pub(crate) fn disk_limit_error(disk: DiskExceeded) -> JobError {
    if disk.used.is_too_deep {
        let message = "the job has so many folders deep below each other that its disk space can't be measured: remove \
                       what makes them";
        return JobError { kind: FailureKind::DiskLimit, message: message.to_owned(), step: None };
    }
    let message = format!(
        "the job uses {} MiB of disk space in its container and may use {} MiB: raise that limit ([platform] disk)",
        disk.used.bytes >> 20,
        disk.limit >> 20
    );
    JobError { kind: FailureKind::DiskLimit, message, step: None }
}

fn describe_exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with exit code {code}"),
        Exit::Signal(9) => "was killed (signal 9), perhaps by the system for lack of memory".to_owned(),
        Exit::Signal(signal) => format!("was ended by signal {signal}{}", signal_name(signal)),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (HUP)",
        2 => " (INT)",
        4 => " (ILL)",
        6 => " (ABRT)",
        7 => " (BUS)",
        8 => " (FPE)",
        11 => " (SEGV)",
        15 => " (TERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify_codex(exit: Exit, turn: Option<Turn>, was_ended: bool) -> Result<(), (FailureKind, String)> {
        let result = CommandResult {
            exit: Some(exit),
            turn,
            was_ended_after_turn: was_ended,
            tail: "last words".into(),
            ..CommandResult::default()
        };
        classify_exit(&Stage::Worker, true, &result).map_err(|error| (error.kind, error.message))
    }

    #[test]
    fn a_completed_turn_succeeds_if_codex_exits_with_0_or_had_to_be_ended() {
        assert_eq!(classify_codex(Exit::Code(0), Some(Turn::Completed), false), Ok(()));
        assert_eq!(classify_codex(Exit::Signal(9), Some(Turn::Completed), true), Ok(()));
        let (kind, message) = classify_codex(Exit::Code(3), Some(Turn::Completed), false).unwrap_err();
        assert_eq!(kind, FailureKind::CodexExit);
        assert_eq!(message, "codex ended with exit code 3 before its turn was over: last words");
    }

    #[test]
    fn a_failed_turn_has_its_reason_and_an_early_exit_its_status() {
        let failed = classify_codex(Exit::Code(1), Some(Turn::Failed("no luck".into())), false).unwrap_err();
        assert_eq!(failed, (FailureKind::CodexError, "codex ended its turn early: no luck".to_owned()));
        let (kind, message) = classify_codex(Exit::Signal(9), None, false).unwrap_err();
        assert!(kind == FailureKind::CodexExit && message.contains("memory"), "{message}");
        let (_, message) = classify_codex(Exit::Signal(11), None, false).unwrap_err();
        assert!(message.contains("SEGV"), "{message}");
        assert_eq!(classify_codex(Exit::Code(0), None, false).unwrap_err().0, FailureKind::CodexExit);
    }

    #[test]
    fn a_thread_that_codex_no_longer_has_is_named_as_the_reason() {
        let with_tail = |tail: &str| CommandResult {
            exit: Some(Exit::Code(1)),
            tail: tail.into(),
            ..CommandResult::default()
        };
        let error =
            classify_exit(&Stage::Worker, true, &with_tail("Error: no rollout found for thread id x"))
                .unwrap_err();
        assert_eq!(error.kind, FailureKind::CodexExit);
        assert_eq!(error.message, "the Codex thread is gone: launch a new job");
    }

    #[test]
    fn a_failure_names_the_limit_of_processes_that_was_reached() {
        let exit = Some(Exit::Code(1));
        let result = CommandResult { exit, process_limit: Some(64), ..CommandResult::default() };
        let error = classify_exit(&Stage::Worker, false, &result).unwrap_err();
        assert_eq!(error.kind, FailureKind::Exited);
        let expected = "the command ended with exit code 1; it has reached the limit of 64 processes and threads \
                        ([platform] pids)";
        assert_eq!(error.message, expected);
    }

    #[test]
    fn a_kill_is_out_of_memory_only_if_the_kernel_counted_one() {
        let classify = |stage: &Stage, is_codex, exit, was_ended, limit| {
            let oom_kill = Some(OomKill { memory_limit: limit, is_only_job: false });
            let result = CommandResult {
                exit: Some(exit),
                was_ended_after_turn: was_ended,
                oom_kill,
                ..CommandResult::default()
            };
            classify_exit(stage, is_codex, &result).map_err(|error| (error.kind, error.message))
        };
        let limit = Some(300 << 20);
        let (kind, message) = classify(&Stage::Worker, true, Exit::Signal(9), false, limit).unwrap_err();
        assert_eq!(kind, FailureKind::OomKilled);
        assert_eq!(
            message,
            "codex was killed by the system for lack of memory; the platform may use 300 MiB: raise that limit, or run \
             fewer jobs at once ([platform] max_jobs)"
        );
        let own = oom_message("codex", OomKill { memory_limit: limit, is_only_job: true });
        assert!(own.ends_with("the job may use 300 MiB: raise that limit ([platform] memory)"), "{own}");
        let setup = Stage::Setup("make".into());
        let (kind, message) = classify(&setup, false, Exit::Code(137), false, None).unwrap_err();
        assert_eq!(kind, FailureKind::OomKilled);
        assert!(message.starts_with("setup 'make' was killed") && message.contains("machine"), "{message}");
        for (is_codex, exit, was_ended) in
            [(true, Exit::Code(137), false), (true, Exit::Signal(9), true), (false, Exit::Signal(11), false)]
        {
            let (kind, _) = classify(&Stage::Worker, is_codex, exit, was_ended, limit).unwrap_err();
            let expected = if is_codex { FailureKind::CodexExit } else { FailureKind::Exited };
            assert_eq!(kind, expected, "{exit:?}");
        }
    }

    #[test]
    fn shell_commands_are_classified_by_their_exit_status_alone() {
        let ended = |code| CommandResult {
            exit: Some(Exit::Code(code)),
            tail: "boom".into(),
            ..CommandResult::default()
        };
        let check = Stage::Check("cargo test".into());
        assert_eq!(classify_exit(&check, false, &ended(0)), Ok(()));
        let error = classify_exit(&check, false, &ended(101)).unwrap_err();
        assert_eq!(error.kind, FailureKind::CheckFailed);
        assert_eq!(error.message, "check 'cargo test' ended with exit code 101: boom");
        let setup = classify_exit(&Stage::Setup("x".into()), false, &ended(1)).unwrap_err();
        assert_eq!(setup.kind, FailureKind::SetupFailed);
        let shell = classify_exit(&Stage::Worker, false, &ended(7)).unwrap_err();
        assert_eq!(
            (shell.kind, shell.message.as_str()),
            (FailureKind::Exited, "the command ended with exit code 7")
        );
    }
}
