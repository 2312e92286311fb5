//! Classification of a command line. Pure.
//!
//! A chain or pipeline counts as its running part. If the line contains one command that the table has, the line is
//! classified as that command. If it contains more, the line is an ordinary command, and the process tree yields a step
//! for each command that it runs.

use std::borrow::Cow;

use common::job::StepKind;

use super::classification::Classification;
use super::matcher::find_rule;
use super::programs::{ShellCall, is_trivial, shell_call, without_wrappers};
use super::shell_lexer::{SimpleCommand, simple_commands};
use super::title;

/// Part of a command line that is examined, in bytes. Longer lines carry data, and their commands precede it.
pub(super) const MAX_LINE: usize = 16 * 1024;

/// Maximum depth of nested `sh -c`.
const MAX_DEPTH: usize = 4;

/// Returns the command line inside `/bin/bash -lc '…'`, or the line itself.
pub(crate) fn without_shell(command: &str) -> Cow<'_, str> {
    match script(&words(command)) {
        Some(script) => Cow::Owned(script.to_owned()),
        None => Cow::Borrowed(command),
    }
}

/// Returns the words of a command line; none if a quote is not closed.
pub(crate) fn words(command: &str) -> Vec<String> {
    shell_words::split(command).unwrap_or_default()
}

/// Returns the script of a shell call without further words, which would be arguments of the script.
pub(super) fn script(words: &[String]) -> Option<&str> {
    match shell_call(words)? {
        ShellCall::Text(script) if words.last().is_some_and(|last| std::ptr::eq(last, script)) => {
            Some(script)
        }
        _ => None,
    }
}

/// Returns the first `max` bytes of a text, or slightly fewer, so that characters stay whole.
pub(super) fn prefix(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Classifies a line by the table alone. The line is already bounded and without its shell.
pub(super) fn classify_line(line: &str) -> Classification {
    let mut doings = Vec::new();
    collect(line, false, MAX_DEPTH, &mut doings);
    match <[Candidate; 1]>::try_from(doings) {
        Ok([candidate]) => Classification::plain(candidate.kind, candidate.title),
        Err(_) => Classification::plain(StepKind::Command, title::from_line(line)),
    }
}

/// A part of a line that does work of its own.
struct Candidate {
    kind: StepKind,
    title: String,
}

fn collect(line: &str, piped: bool, depth: usize, out: &mut Vec<Candidate>) {
    for command in simple_commands(line) {
        // Two are enough to conclude that the line is no single piece of work.
        if out.len() > 1 {
            return;
        }
        classify_command(&command, piped, depth, out);
    }
}

fn classify_command(command: &SimpleCommand, piped: bool, depth: usize, out: &mut Vec<Candidate>) {
    let piped = piped || command.piped;
    let words = without_wrappers(&command.words);
    let Some(first) = words.first() else { return };
    // Without arguments, `cat` only copies a here-document into a file.
    if is_trivial(&first.text, piped || words.len() == 1) {
        return;
    }
    if let Some(ShellCall::Text(script)) = shell_call(words).filter(|_| depth > 0) {
        return collect(&script.text, piped, depth - 1, out);
    }
    out.push(match find_rule(words) {
        // The fetched program may make no progress for as long as it needs; the process tree shows the fetch itself.
        Some(found) if found.fetches => {
            Candidate { kind: StepKind::Command, title: title::from_words(&found.words) }
        }
        Some(found) => Candidate { kind: found.row.0, title: title::from_words(&found.words) },
        None => Candidate { kind: StepKind::Command, title: title::from_words(words) },
    });
}

#[cfg(test)]
#[path = "command_line_tests.rs"]
mod tests;
