//! Classification of a process by its arguments. Pure.

use common::job::StepKind;

use super::command_line::{MAX_LINE, bounded_prefix};
use super::interpreter::strip_interpreter;
use super::matcher::match_command;
use super::programs::{base_name, is_shell, is_wrapper};
use super::shell_lexer::Word;
use super::title;

/// Maximum number of arguments that are examined. The first arguments determine what a process does.
const MAX_ARGS: usize = 256;

/// Returns true if a process does work of its own: it is not a shell, a wrapper, or a package manager that runs another
/// program.
pub(crate) fn is_program(argv: &[String]) -> bool {
    ProcessArgv::new(argv).is_some_and(|process| !process.fetches_program())
}

/// Arguments of a process that may do its own work.
pub(super) struct ProcessArgv {
    words: Vec<Word>,
    /// Arguments without the interpreter, if the program is one.
    interpreted_words: Option<Vec<Word>>,
}

impl ProcessArgv {
    /// Bounds the arguments. Returns `None` for shells, and for programs that run another one in a separate process.
    pub(super) fn new(argv: &[String]) -> Option<Self> {
        let words = bounded_words(argv);
        let first = &words.first()?.text;
        if is_wrapper(first) {
            return None;
        }
        let rest = strip_interpreter(&words);
        if is_shell(first) && rest.is_none() {
            return None;
        }
        Some(Self { words, interpreted_words: rest })
    }

    /// Returns the lines that a rule of `relay.toml` is matched against: all arguments, and the arguments without the
    /// interpreter.
    pub(super) fn rule_lines(&self) -> Vec<String> {
        [Some(&self.words), self.interpreted_words.as_ref()]
            .into_iter()
            .flatten()
            .map(|words| join_words(words))
            .collect()
    }

    /// Returns the step kind and title of the process, if the built-in table of programs has its program.
    pub(super) fn table_kind_and_title(&self) -> Option<(StepKind, String)> {
        match_command(&self.words)
            .map(|table_match| (table_match.row.0, title::from_words(&table_match.words)))
    }

    /// Returns true if the process downloads a program and then runs it.
    pub(super) fn fetches_program(&self) -> bool {
        match_command(&self.words).is_some_and(|table_match| table_match.fetches_program)
    }

    /// Returns the title of a process whose program is not in the built-in table.
    pub(super) fn default_title(&self) -> String {
        title::from_words(&self.words)
    }
}

/// Returns a bounded number of arguments. If a program has set its own title (`npm ci`), the title is the first
/// argument, followed by empty arguments instead of the old ones.
fn bounded_words(argv: &[String]) -> Vec<Word> {
    let is_title = |first: &str, rest: &[String]| {
        first.contains(' ') && !first.starts_with('/') && rest.iter().all(String::is_empty)
    };
    let mut remaining = MAX_LINE;
    let mut bounded = |text: &str| {
        let text = bounded_prefix(text, remaining);
        remaining -= text.len();
        Word::from_argument(text)
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

fn join_words(words: &[Word]) -> String {
    words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

#[cfg(test)]
#[path = "argv_tests.rs"]
mod tests;
