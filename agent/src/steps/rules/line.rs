//! What a command line does. Pure.
//!
//! A chain or pipeline counts by what is running now. If it does one thing that the table knows, the line is that; if it
//! does more, the line is an ordinary command, and what it runs becomes steps of their own from the process tree.

use std::borrow::Cow;

use common::job::StepKind;

use super::lookup::look_up;
use super::programs::{ShellCall, is_trivial, shell_call, unwrapped};
use super::split::{Part, parts};
use super::title;
use super::work::Work;

/// How much of a command line is looked at, in bytes. Longer ones carry data, and what they run stands in front of it.
pub(super) const MAX_LINE: usize = 16 * 1024;

/// How deep `sh -c` inside `sh -c` is looked into.
const DEPTH: usize = 4;

/// The command line inside `/bin/bash -lc '…'`, or the line itself.
pub(crate) fn inner(command: &str) -> Cow<'_, str> {
    match script(&words(command)) {
        Some(script) => Cow::Owned(script.to_owned()),
        None => Cow::Borrowed(command),
    }
}

/// The words of a command line; none where a quote is not closed.
pub(crate) fn words(command: &str) -> Vec<String> {
    shell_words::split(command).unwrap_or_default()
}

/// The script of a shell that these words call with nothing behind it: more words would be its arguments.
pub(super) fn script(words: &[String]) -> Option<&str> {
    match shell_call(words)? {
        ShellCall::Text(script) if words.last().is_some_and(|last| std::ptr::eq(last, script)) => {
            Some(script)
        }
        _ => None,
    }
}

/// The first `max` bytes of a text, or a little less: characters stay whole.
pub(super) fn beginning(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What a line does by the table alone. It is bounded, and its shell is off already.
pub(super) fn of_line(line: &str) -> Work {
    let mut doings = Vec::new();
    collect(line, false, DEPTH, &mut doings);
    match <[Doing; 1]>::try_from(doings) {
        Ok([doing]) => Work::plain(doing.kind, doing.title),
        Err(_) => Work::plain(StepKind::Command, title::of_line(line)),
    }
}

/// A part of a line that does work of its own.
struct Doing {
    kind: StepKind,
    title: String,
}

fn collect(line: &str, piped: bool, depth: usize, out: &mut Vec<Doing>) {
    for part in parts(line) {
        // Two are enough to know that the line is no single piece of work.
        if out.len() > 1 {
            return;
        }
        judge(&part, piped, depth, out);
    }
}

fn judge(part: &Part, piped: bool, depth: usize, out: &mut Vec<Doing>) {
    let piped = piped || part.piped;
    let words = unwrapped(&part.words);
    let Some(first) = words.first() else { return };
    // Without words of its own, `cat` only moves a here-document into a file.
    if is_trivial(&first.text, piped || words.len() == 1) {
        return;
    }
    if let Some(ShellCall::Text(script)) = shell_call(words).filter(|_| depth > 0) {
        return collect(&script.text, piped, depth - 1, out);
    }
    out.push(match look_up(words) {
        // What it runs may stand still for as long as it wants; that it is being fetched is seen in the process tree.
        Some(found) if found.fetches => {
            Doing { kind: StepKind::Command, title: title::of_words(&found.words) }
        }
        Some(found) => Doing { kind: found.row.0, title: title::of_words(&found.words) },
        None => Doing { kind: StepKind::Command, title: title::of_words(words) },
    });
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
