//! A person agrees to the settings that a relay is started with.

use std::io::{self, BufRead, IsTerminal};

use super::Context;
use crate::consent::{self, Asker, Settings, Standing};
use crate::exit::Failure;

/// Goes on with settings that a person has agreed to, before or now: by `--yes`, or when asked at a terminal.
///
/// # Errors
/// Exit code 5 for settings that no person has agreed to, in a session, off a terminal, or when the answer is no.
pub(super) fn settle(context: &Context, settings: &Settings, yes: bool) -> Result<(), Failure> {
    let asker = context.asker();
    if yes && asker == Asker::Session {
        return Err(Failure::unreachable(
            "--yes is not allowed in a coding agent's session: ask the user to run `relay up` in a terminal",
        ));
    }
    let (has_changed, lines) = match consent::standing(&context.root, settings) {
        Standing::Agreed => return Ok(()),
        Standing::Changed(lines) => (true, lines),
        Standing::New(lines) => (false, lines),
    };
    let is_at_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    if asker == Asker::Session || !(yes || is_at_terminal) {
        return Err(consent::refusal(&context.root, asker, has_changed));
    }
    if !yes && !is_agreed(context, has_changed, &lines) {
        return Err(Failure::unreachable("not approved: nothing was started"));
    }
    consent::record(&context.root, settings)
}

/// Shows the lines and asks.
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
    // An answer that can't be read is none.
    let _ = io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}
