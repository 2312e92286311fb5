//! What a process does, by its arguments. Pure.

use common::job::StepKind;

use super::interpreter::off;
use super::line::{MAX_LINE, beginning};
use super::lookup::look_up;
use super::programs::{base, is_shell, is_wrapper};
use super::split::Word;
use super::title;

/// How many arguments of a process are looked at. What it does stands in the first ones.
const MAX_ARGS: usize = 256;

/// Whether a process is a program by itself: no shell, no wrapper, and no package manager that is busy for another one.
pub(crate) fn runs_a_program(argv: &[String]) -> bool {
    Process::new(argv).is_some_and(|process| !process.fetches())
}

/// A process that may do work of its own.
pub(super) struct Process {
    words: Vec<Word>,
    taken: Option<Vec<Word>>,
}

impl Process {
    /// None for shells and for programs that run another one: what these run is a process too.
    pub(super) fn new(argv: &[String]) -> Option<Self> {
        let words = words(argv);
        let first = &words.first()?.text;
        if is_wrapper(first) {
            return None;
        }
        let taken = off(&words);
        if is_shell(first) && taken.is_none() {
            return None;
        }
        Some(Self { words, taken })
    }

    /// What a rule of `relay.toml` is held against: all arguments, and those without the interpreter.
    pub(super) fn lines(&self) -> Vec<String> {
        [Some(&self.words), self.taken.as_ref()].into_iter().flatten().map(|words| joined(words)).collect()
    }

    /// Its kind and title, where the table knows it.
    pub(super) fn known(&self) -> Option<(StepKind, String)> {
        look_up(&self.words).map(|found| (found.row.0, title::of_words(&found.words)))
    }

    /// Whether it fetches a program and then runs it.
    pub(super) fn fetches(&self) -> bool {
        look_up(&self.words).is_some_and(|found| found.fetches)
    }

    /// Its title where the table does not know it.
    pub(super) fn title(&self) -> String {
        title::of_words(&self.words)
    }
}

/// The arguments, bounded. A program that has set a title of its own (`npm ci`) shows it as one argument, with empty ones
/// behind it where its old arguments were.
fn words(argv: &[String]) -> Vec<Word> {
    let is_title = |first: &str, rest: &[String]| {
        first.contains(' ') && !first.starts_with('/') && rest.iter().all(String::is_empty)
    };
    let mut left = MAX_LINE;
    let mut bounded = |text: &str| {
        let text = beginning(text, left);
        left -= text.len();
        Word::plain(text)
    };
    match argv.split_first() {
        Some((first, rest)) if is_title(first, rest) => {
            first.split_whitespace().take(MAX_ARGS).map(&mut bounded).collect()
        }
        Some((first, _)) if !base(first).is_empty() => {
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
