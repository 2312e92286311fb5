//! A person agrees to the settings that a relay is started with.

use std::io::{self, BufRead, IsTerminal};

use super::Context;
use crate::consent::{self, Asker, Settings, Standing};
use crate::exit::Failure;

/// Most lines of settings that are shown before the question.
const MOST: usize = 10;

/// Goes on with settings that a person has agreed to, before or now: by `--yes`, or when asked at a terminal.
///
/// # Errors
/// Exit code 5 for settings that no person has agreed to, in a session, off a terminal, or when the answer is no.
pub(super) fn settle(context: &Context, settings: &Settings, yes: bool) -> Result<(), Failure> {
    let asker = context.asker();
    if yes && asker == Asker::Session {
        return Err(Failure::unreachable(
            "--yes is for a person: ask them to look at the settings and to run `relay up` in a terminal",
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
        return Err(Failure::unreachable("nothing was started: the settings were not agreed to"));
    }
    consent::record(&context.root, settings)
}

/// Shows the lines and asks.
fn is_agreed(context: &Context, has_changed: bool, lines: &[String]) -> bool {
    let output = &context.output;
    output.note(if has_changed {
        "settings changed since you last agreed to them (- before, + now):"
    } else {
        "coding agents may start relay with the settings that you agree to:"
    });
    for line in lines.iter().take(MOST) {
        output.note(&format!("  {line}"));
    }
    if let Some(more @ 1..) = lines.len().checked_sub(MOST) {
        output.note(&format!("  and {more} more: see platform/relay.toml"));
    }
    output.note("Start with these settings? [y/N]");
    let mut answer = String::new();
    // An answer that can't be read is none.
    let _ = io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}
