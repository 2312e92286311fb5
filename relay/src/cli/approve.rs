//! Approval of a relay's settings by a person.

use std::io::{self, BufRead, IsTerminal};

use super::Context;
use crate::approval::{self, ApprovalState, Initiator, Settings};
use crate::exit::Failure;

/// Checks that a person has approved the settings, before or now: with `--yes`, or with an answer at a terminal.
///
/// # Errors
/// Exit code 5 for settings without approval: in a session, without a terminal, or if the answer is no.
pub(super) fn authorize(context: &Context, settings: &Settings, yes: bool) -> Result<(), Failure> {
    let initiator = context.initiator();
    if yes && initiator == Initiator::Session {
        return Err(Failure::unreachable(
            "--yes is not allowed in a coding agent's session: a person has to run `relay up` in a terminal",
        ));
    }
    let (has_changed, lines) = match approval::state(&context.root, settings) {
        ApprovalState::Agreed => return Ok(()),
        ApprovalState::Changed(lines) => (true, lines),
        ApprovalState::New(lines) => (false, lines),
    };
    let is_at_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    if initiator == Initiator::Session || !(yes || is_at_terminal) {
        return Err(approval::refusal(&context.root, initiator, has_changed));
    }
    if !yes && !is_agreed(context, has_changed, &lines) {
        return Err(Failure::unreachable("not approved: nothing was started"));
    }
    approval::record(&context.root, settings)
}

/// Shows the lines and asks for approval.
fn is_agreed(context: &Context, has_changed: bool, lines: &[String]) -> bool {
    let output = &context.output;
    let project = context.root.display();
    output.note(&if has_changed {
        format!("the settings of {project} changed since they were approved (- old, + new):")
    } else {
        format!("the settings of {project} have not been approved yet:")
    });
    for line in lines {
        output.note(&format!("  {line}"));
    }
    output.note("Approve them? Coding agents may then start relay with these settings. [y/N]");
    let mut answer = String::new();
    // An answer that can't be read counts as no.
    let _ = io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}
