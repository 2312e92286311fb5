//! Classification of a command line. Pure.
//!
//! If a line contains only one command, apart from trivial ones such as `cd`, and the built-in table of programs has
//! it, the whole line is classified as that command. Otherwise the line is an ordinary command, and the process tree
//! yields a step for each command that runs.

use std::borrow::Cow;

use common::job::StepKind;

use super::classification::Classification;
use super::matcher::match_command;
use super::programs::{CommandSource, is_trivial, shell_command_source, strip_wrappers};
use super::shell_lexer::{SimpleCommand, simple_commands};
use super::title;

/// Maximum number of bytes of a command line that are examined. The rest of a longer line is usually data, such as a
/// here-document.
pub(super) const MAX_LINE: usize = 16 * 1024;

/// Maximum depth of nested `sh -c`.
const MAX_DEPTH: usize = 4;

/// Returns the command line inside `/bin/bash -lc '…'`, or the line itself.
pub(crate) fn strip_shell(command: &str) -> Cow<'_, str> {
    match shell_script(&line_words(command)) {
        Some(script) => Cow::Owned(script.to_owned()),
        None => Cow::Borrowed(command),
    }
}

/// Returns the words of a command line; an empty list if a quote is not closed.
pub(crate) fn line_words(command: &str) -> Vec<String> {
    shell_words::split(command).unwrap_or_default()
}

/// Returns the script of a shell call; `None` if the script has arguments.
pub(super) fn shell_script(words: &[String]) -> Option<&str> {
    match shell_command_source(words)? {
        CommandSource::Text(script) if words.last().is_some_and(|last| std::ptr::eq(last, script)) => {
            Some(script)
        }
        _ => None,
    }
}

/// Returns at most the first `max_bytes` bytes of a text, and only complete characters.
pub(super) fn bounded_prefix(text: &str, max_bytes: usize) -> &str {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Classifies a line by the built-in table of programs alone. The line must already be bounded, and stripped of its
/// shell.
pub(super) fn classify_line(line: &str) -> Classification {
    let mut candidates = Vec::new();
    collect_candidates(line, false, MAX_DEPTH, &mut candidates);
    match <[Candidate; 1]>::try_from(candidates) {
        Ok([candidate]) => Classification::without_rule(candidate.kind, candidate.title),
        Err(_) => Classification::without_rule(StepKind::Command, title::from_line(line)),
    }
}

/// A command of a line, with the classification that the line gets if it is the only one.
struct Candidate {
    kind: StepKind,
    title: String,
}

fn collect_candidates(line: &str, is_piped: bool, depth: usize, candidates: &mut Vec<Candidate>) {
    for command in simple_commands(line) {
        // A line with two candidates is an ordinary command, so the rest of it does not matter.
        if candidates.len() > 1 {
            return;
        }
        classify_command(&command, is_piped, depth, candidates);
    }
}

fn classify_command(command: &SimpleCommand, is_piped: bool, depth: usize, candidates: &mut Vec<Candidate>) {
    let is_piped = is_piped || command.is_piped;
    let words = strip_wrappers(&command.words);
    let Some(first) = words.first() else { return };
    // `cat` without arguments only copies a here-document into a file.
    if is_trivial(&first.text, is_piped || words.len() == 1) {
        return;
    }
    if let Some(CommandSource::Text(script)) = shell_command_source(words).filter(|_| depth > 0) {
        return collect_candidates(&script.text, is_piped, depth - 1, candidates);
    }
    candidates.push(match match_command(words) {
        // No install, whose stall limit would end it: once fetched, the program may be idle for as long as it likes,
        // such as a server. The fetch itself is detected in the process tree.
        Some(table_match) if table_match.fetches_program => {
            Candidate { kind: StepKind::Command, title: title::from_words(&table_match.words) }
        }
        Some(table_match) => {
            Candidate { kind: table_match.row.0, title: title::from_words(&table_match.words) }
        }
        None => Candidate { kind: StepKind::Command, title: title::from_words(words) },
    });
}

#[cfg(test)]
#[path = "command_line_tests.rs"]
mod tests;
