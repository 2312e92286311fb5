//! Commands of the model that Codex refused to start, or could not start. Pure.
//!
//! `codex exec --json` has no item for such a command, so a job whose commands were all refused looks like any other job.
//! Codex 0.169.0 prints on stderr:
//!
//! ```text
//! TIME ERROR codex_core::tools::router: error=exec_command failed: CreateProcess { message: "REASON" }
//! ```
//!
//! The line is not a documented interface, and its reason is Rust's debug output of a string.
//!
//! If the sandbox of a command can't be made, there is an item: a command whose only output is one line of the sandbox's
//! program. A path that is hidden from the job and disappears meanwhile has this effect.

use common::text_format;

use super::event::{CodexEvent, Item, Phase};

/// Log target of a line about a refused command, and the beginning of the line's text.
const TARGET: &str = "codex_core::tools::router: error=exec_command failed";
/// Text before the reason.
const REASON_PREFIX: &str = "CreateProcess { message: ";
/// Beginning of the message of Codex's sandbox program.
const SANDBOX_PREFIX: &str = "bwrap: ";
/// Maximum length of a reason in a warning, in bytes.
const MAX_REASON: usize = 300;

/// Detector and counter of the refused commands of one Codex process.
#[derive(Debug, Default)]
pub(crate) struct RefusedCommands {
    count: u64,
}

impl RefusedCommands {
    /// Handles a line of stderr. Returns a warning with the reason if it is about the first refused command.
    pub(crate) fn take_line(&mut self, line: &str) -> Option<String> {
        parse_line(line).and_then(|reason| self.count_and_warn(&reason))
    }

    /// Handles an event. Returns a warning with the reason if it is about the first refused command.
    pub(crate) fn take_event(&mut self, event: &CodexEvent) -> Option<String> {
        let CodexEvent::Item {
            phase: Phase::Completed, item: Item::Command { output, exit_code, .. }, ..
        } = event
        else {
            return None;
        };
        let message = output.trim_end();
        let is_sandbox_failure =
            *exit_code != Some(0) && message.starts_with(SANDBOX_PREFIX) && !message.contains('\n');
        if is_sandbox_failure {
            self.count_and_warn(&text_format::one_line(message, MAX_REASON))
        } else {
            None
        }
    }

    fn count_and_warn(&mut self, reason: &str) -> Option<String> {
        self.count += 1;
        (self.count == 1).then(|| format!("Codex did not start a command of the model: {reason}"))
    }

    /// Returns a warning with the number of refused commands after the first one, if there were any.
    pub(crate) fn finish(&mut self) -> Option<String> {
        let further = match std::mem::take(&mut self.count) {
            0 | 1 => return None,
            2 => "1 more command".to_owned(),
            count => format!("{} more commands", count - 1),
        };
        Some(format!("Codex did not start {further} of the model: the log has the reasons"))
    }
}

/// Returns the reason that a line of stderr gives for a refused command.
fn parse_line(line: &str) -> Option<String> {
    let (prefix, text) = line.split_once(TARGET)?;
    // Another error's text may contain the target, too.
    let is_error = prefix.split_once(' ').is_some_and(|(_, level)| level.trim_start().starts_with("ERROR "));
    if !is_error || prefix.contains("error=") {
        return None;
    }
    let reason = text.trim_start_matches(':').trim();
    let quoted = reason.strip_prefix(REASON_PREFIX).unwrap_or(reason).trim_end_matches([' ', '}']);
    let plain = quoted.replace('\\', "");
    let plain = plain.trim_matches('"').trim_start_matches("Rejected(\"").trim_end_matches("\")");
    Some(text_format::one_line(plain, MAX_REASON))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REJECTED: &str = r#"2026-11-30T07:59:09.729799Z ERROR codex_core::tools::router: error=exec_command failed: CreateProcess { message: "Rejected(\"`/bin/bash -lc \\\"rm -f x\\\"` rejected: rm -f style commands are not permitted. Use a safer approach\")" }"#;

    #[test]
    fn the_first_refused_command_is_reported_with_its_reason_and_others_are_counted() {
        let mut refused = RefusedCommands::default();
        assert_eq!(
            refused.take_line(REJECTED).as_deref(),
            Some(
                "Codex did not start a command of the model: `/bin/bash -lc \"rm -f x\"` rejected: rm -f style commands are \
                 not permitted. Use a safer approach"
            )
        );
        assert_eq!(refused.take_line(REJECTED), None);
        let more = refused.finish().unwrap();
        assert_eq!(more, "Codex did not start 1 more command of the model: the log has the reasons");
        assert_eq!(refused.finish(), None);
    }

    #[test]
    fn a_sandbox_that_can_not_be_made_is_told_and_a_failing_command_is_not() {
        let told = |output: &str, exit_code: i32| {
            let item = Item::Command {
                command: "bash -lc true".to_owned(),
                output: output.to_owned(),
                gap: None,
                exit_code: Some(exit_code),
                failed: exit_code != 0,
            };
            RefusedCommands::default().take_event(&CodexEvent::Item {
                phase: Phase::Completed,
                id: "item_1".to_owned(),
                item,
            })
        };
        let failure = "bwrap: Can't mkdir parents for /w/socket: Read-only file system\n";
        assert!(
            told(failure, 1).unwrap().ends_with("Can't mkdir parents for /w/socket: Read-only file system")
        );
        assert_eq!(told(failure, 0), None);
        assert_eq!(told("bwrap: a\nsecond line of a program's own output\n", 1), None);
        assert_eq!(told("error: bwrap: x\n", 1), None);
    }

    #[test]
    fn a_failed_start_is_reported_and_other_errors_are_not() {
        let failed = "T ERROR turn{id=1}: codex_core::tools::router: error=exec_command failed: CreateProcess { message: \"No such file or directory (os error 2)\" }";
        assert_eq!(parse_line(failed).as_deref(), Some("No such file or directory (os error 2)"));
        for other in [
            "T ERROR codex_core::tools::router: error=apply_patch verification failed",
            "T ERROR codex_core::x: error=codex_core::tools::router: error=exec_command failed",
            "codex_core::tools::router: error=exec_command failed",
            "T WARN codex_core::tools::router: error=exec_command failed: x",
            "",
        ] {
            assert_eq!(parse_line(other), None, "{other}");
        }
    }
}
