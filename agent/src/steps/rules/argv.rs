//! Classification of a process by its arguments. Pure.

use common::job::StepKind;

use super::command_line::{MAX_LINE, prefix};
use super::interpreter::without_interpreter;
use super::matcher::find_rule;
use super::programs::{base_name, is_shell, is_wrapper};
use super::shell_lexer::Word;
use super::title;

/// Maximum number of arguments examined. The first ones determine what a process does.
const MAX_ARGS: usize = 256;

/// Returns true if a process is a program itself: no shell, no wrapper, and no package manager that fetches another
/// program.
pub(crate) fn is_program(argv: &[String]) -> bool {
    Process::new(argv).is_some_and(|process| !process.fetches())
}

/// A process that may do work of its own.
pub(super) struct Process {
    words: Vec<Word>,
    taken: Option<Vec<Word>>,
}

impl Process {
    /// Returns none for shells and for programs that run another one, because that one is a process too.
    pub(super) fn new(argv: &[String]) -> Option<Self> {
        let words = words(argv);
        let first = &words.first()?.text;
        if is_wrapper(first) {
            return None;
        }
        let taken = without_interpreter(&words);
        if is_shell(first) && taken.is_none() {
            return None;
        }
        Some(Self { words, taken })
    }

    /// Returns the lines that a rule of `relay.toml` is matched against: all arguments, and those without the
    /// interpreter.
    pub(super) fn lines(&self) -> Vec<String> {
        [Some(&self.words), self.taken.as_ref()].into_iter().flatten().map(|words| joined(words)).collect()
    }

    /// Returns its kind and title, if the table has it.
    pub(super) fn known(&self) -> Option<(StepKind, String)> {
        find_rule(&self.words).map(|found| (found.row.0, title::from_words(&found.words)))
    }

    /// Returns true if it fetches a program and then runs it.
    pub(super) fn fetches(&self) -> bool {
        find_rule(&self.words).is_some_and(|found| found.fetches)
    }

    /// Returns the title of a process that the table does not have.
    pub(super) fn title(&self) -> String {
        title::from_words(&self.words)
    }
}

/// Returns the arguments, bounded. A program that has set a title of its own (`npm ci`) shows it as one argument,
/// followed by empty ones in place of its old arguments.
fn words(argv: &[String]) -> Vec<Word> {
    let is_title = |first: &str, rest: &[String]| {
        first.contains(' ') && !first.starts_with('/') && rest.iter().all(String::is_empty)
    };
    let mut left = MAX_LINE;
    let mut bounded = |text: &str| {
        let text = prefix(text, left);
        left -= text.len();
        Word::plain(text)
    };
    match argv.split_first() {
        Some((first, rest)) if is_title(first, rest) => {
            first.split_whitespace().take(MAX_ARGS).map(&mut bounded).collect()
        }
        Some((first, _)) if !base_name(first).is_empty() => {
            argv.iter().take(MAX_ARGS).map(|text| bounded(text)).collect()
        }
        _ => Vec::new(),
    }
}

fn joined(words: &[Word]) -> String {
    words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

#[cfg(test)]
#[path = "argv_tests.rs"]
mod tests;
