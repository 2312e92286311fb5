//! Approval of a relay's settings by a person.

use std::io::{self, BufRead, IsTerminal};

use super::Context;
use crate::approval::{self, ApprovableSettings, ApprovalState, Initiator};
use crate::exit::Failure;

/// Requires that a person has approved the settings: earlier, with `--yes`, or now with an answer at a terminal.
/// `command` is the subcommand that asks.
///
/// # Errors
/// Exit code 5 without approval: in a session, without a terminal, or if the answer is no.
pub(super) fn require_approval(
    context: &Context,
    settings: &ApprovableSettings,
    has_yes_flag: bool,
    command: &str,
) -> Result<(), Failure> {
    let initiator = context.initiator();
    if has_yes_flag && initiator == Initiator::Session {
        return Err(Failure::unreachable(format!(
            "--yes is not allowed in a coding agent's session: a person has to run `relay {command}` in a terminal"
        )));
    }
    let (has_changed, lines) = match approval::approval_state(&context.root, settings) {
        ApprovalState::Approved => return Ok(()),
        ApprovalState::Changed(lines) => (true, lines),
        ApprovalState::New(lines) => (false, lines),
    };
    let is_at_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    if initiator == Initiator::Session || !(has_yes_flag || is_at_terminal) {
        return Err(approval::refusal(&context.root, initiator, has_changed, command));
    }
    if !has_yes_flag && !ask_for_approval(context, has_changed, &lines) {
        return Err(Failure::unreachable("not approved: nothing was started"));
    }
    approval::store_approval(&context.root, settings)
}

/// Prints the settings or their changes (`lines`), asks for approval, and returns true for a yes.
fn ask_for_approval(context: &Context, has_changed: bool, lines: &[String]) -> bool {
    let output = &context.output;
    let project = context.root.display();
    output.print_note(&if has_changed {
        format!("the settings of {project} changed since they were approved (- old, + new):")
    } else {
        format!("the settings of {project} have not been approved yet:")
    });
    for line in lines {
        output.print_note(&format!("  {line}"));
    }
    output.print_note("Approve them? Coding agents may then start relay with these settings. [y/N]");
    let mut answer = String::new();
    // An answer that can't be read counts as no.
    let _ = io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}
