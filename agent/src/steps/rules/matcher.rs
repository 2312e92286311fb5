//! Search in the table of programs for the row that describes a command. Pure.

use std::collections::HashMap;
use std::sync::LazyLock;

use common::job::StepKind;

use super::interpreter::{strip_interpreter, strip_version};
use super::programs::{base_name, is_assignment, is_one_of, skip_options, strip_wrappers};
use super::shell_lexer::Word;
use super::table::{Row, TABLE};

/// Programs that run another program, and the words that make them do so. If the other program is in the table, the
/// command is classified by its row.
const RUNNERS: &[(&str, &str)] = &[
    ("npx|bunx|pnpx|uvx", ""),
    ("npm|pnpm|yarn|bun", "exec|x|dlx"),
    ("pnpm|yarn|bun", ""),
    ("uv|poetry|pipenv|pdm|hatch|pipx|conda", "run"),
    ("bundle|bundler", "exec"),
    ("coverage", "run"),
];

/// Runners and other programs that download a missing program.
const FETCHERS: &[(&str, &str)] = &[
    ("npx|bunx|pnpx|uvx", ""),
    ("npm|pnpm|yarn|bun", "exec|x|dlx|create|init"),
    ("uv", "tool run|uvx"),
    ("pipx", "run"),
];

/// Options that take the next word as their value and may precede the words that the table matches.
const OPTIONS_WITH_VALUE: &[(&str, &str)] = &[
    ("git", "-C|-c|--git-dir|--work-tree|--namespace"),
    (
        "npm|npx",
        "--prefix|-C|-w|--workspace|--registry|--cache|--userconfig|--loglevel|-p|--package|-c|--call",
    ),
    ("pnpm|yarn|bun", "-C|--dir|--cwd|--prefix|-F|--filter|--store-dir"),
    ("pip", "--proxy|--timeout|--cache-dir|--python|--log|--retries"),
    ("uv|uvx", "--directory|--project|-p|--python|--cache-dir|--with|--from|--config-file"),
    ("poetry", "-C|--directory|-P|--project"),
    ("cargo", "-C|-Z|--manifest-path|--config|--color|--target-dir"),
    ("go", "-C"),
    ("make|gmake|ninja", "-C|-f|-I|-o|-W|--directory|--file|--makefile"),
    ("mvn|mvnw", "-f|-s|-gs|-pl|-P|-T|-t|--file|--settings|--projects"),
    ("gradle|gradlew", "-p|-b|-c|-I|-g|-x|--project-dir|--build-file|--init-script"),
    (
        "docker|docker-compose|podman",
        "-H|--host|--context|-l|--log-level|--config|-f|--file|-p|--project-name|--profile",
    ),
    ("apt|apt-get|aptitude", "-o|-c|-t|--option|--target-release"),
    ("dnf|yum|microdnf|zypper", "-c|--installroot|--releasever|--setopt|-R|--root"),
    ("apk", "-p|-X|--root|--repository"),
    ("composer", "-d|--working-dir"),
    ("conda|mamba|micromamba", "-n|-p|-r"),
    ("rake", "-C|-f|-I|-r"),
];

/// Maximum number of nested runners.
const MAX_DEPTH: usize = 4;

/// Rows of the table by program, in the order of the table.
static ROWS_BY_PROGRAM: LazyLock<HashMap<&str, Vec<&Row>>> = LazyLock::new(|| {
    let mut rows: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in TABLE {
        for program in row.1.split('|') {
            rows.entry(program).or_default().push(row);
        }
    }
    rows
});

/// A command that the table describes.
#[derive(Debug)]
pub(super) struct TableMatch {
    /// The row that describes the command.
    pub(super) row: &'static Row,
    /// Words of the command, without its interpreter.
    pub(super) words: Vec<Word>,
    /// True if the command downloads a program that is not in the table, and runs it.
    pub(super) fetches_program: bool,
}

/// Searches the table for a command, with and without its interpreter. The command must be stripped of wrappers.
pub(super) fn match_command(words: &[Word]) -> Option<TableMatch> {
    if let Some(row) = find_row(words, MAX_DEPTH) {
        return Some(TableMatch { row, words: words.to_vec(), fetches_program: fetches_program(row, words) });
    }
    let words = expand_cargo_plugin(&strip_interpreter(words)?);
    find_row(&words, MAX_DEPTH).map(|row| TableMatch {
        row,
        fetches_program: fetches_program(row, &words),
        words,
    })
}

/// Returns true if a command of this row fetches a program and then runs it.
fn fetches_program(row: &Row, words: &[Word]) -> bool {
    let Some((first, rest)) = words.split_first().filter(|_| row.0 == StepKind::Install) else {
        return false;
    };
    let name = strip_version(base_name(&first.text));
    let pattern =
        FETCHERS.iter().find(|(programs, _)| is_one_of(name, programs)).map(|(_, pattern)| *pattern);
    pattern.is_some_and(|pattern| {
        strip_pattern(name, pattern, rest).is_some_and(|inner| next_word(name, inner).is_some())
    })
}

fn find_row(words: &[Word], depth: usize) -> Option<&'static Row> {
    let words = expand_cargo_plugin(words);
    let (first, rest) = words.split_first()?;
    let name = base_name(&first.text);
    let name = if is_known_program(name) { name } else { strip_version(name) };
    runner_row(name, rest, depth).or_else(|| {
        let rows = ROWS_BY_PROGRAM.get(name)?;
        rows.iter().find(|(_, _, pattern, _)| matches_pattern(name, pattern, rest)).copied()
    })
}

fn is_known_program(name: &str) -> bool {
    ROWS_BY_PROGRAM.contains_key(name) || RUNNERS.iter().any(|(programs, _)| is_one_of(name, programs))
}

/// Returns the row of the program that a runner runs, if the table has it.
fn runner_row(name: &str, words: &[Word], depth: usize) -> Option<&'static Row> {
    let depth = depth.checked_sub(1)?;
    RUNNERS.iter().filter(|(programs, _)| is_one_of(name, programs)).find_map(|(_, pattern)| {
        let rest = strip_pattern(name, pattern, words)?;
        let inner = strip_wrappers(skip_options(rest, options_with_value(name)));
        // `npm exec npm`, `yarn install`: a package manager that runs itself does not run a program of the project.
        let program = base_name(&inner.first()?.text);
        let row = find_row(inner, depth).or_else(|| find_row(&strip_interpreter(inner)?, depth));
        row.filter(|_| program != name)
    })
}

/// Rewrites a call of a cargo plugin: Cargo runs the plugin as a program of its own, `cargo-nextest nextest run`.
fn expand_cargo_plugin(words: &[Word]) -> Vec<Word> {
    let mut words = words.to_vec();
    let command =
        words.first().and_then(|word| base_name(&word.text).strip_prefix("cargo-")).map(Word::from_argument);
    if let Some(command) = command {
        words[0] = Word::from_argument("cargo");
        if words.get(1).is_none_or(|word| word.text != command.text) {
            words.insert(1, command);
        }
    }
    words
}

/// Returns true if the words of a program match the pattern of a row.
pub(super) fn matches_pattern(name: &str, pattern: &str, words: &[Word]) -> bool {
    match pattern {
        "(none)" => next_word(name, words).is_none(),
        option if option.starts_with('-') => words.iter().any(|word| word.text == option),
        _ => strip_pattern(name, pattern, words).is_some(),
    }
}

/// Returns the words after those of the pattern, if the words begin with the pattern.
fn strip_pattern<'a>(name: &str, pattern: &str, mut words: &'a [Word]) -> Option<&'a [Word]> {
    for alternatives in pattern.split_whitespace() {
        let (word, rest) = next_word(name, words)?;
        words = rest;
        if !alternatives.split('|').any(|wanted| matches_word(wanted, &word.text)) {
            return None;
        }
    }
    Some(words)
}

/// Returns the next significant word. Skips options, numbers, settings, toolchains, and a `clean` before other words.
fn next_word<'a>(name: &str, mut words: &'a [Word]) -> Option<(&'a Word, &'a [Word])> {
    loop {
        let (first, rest) = skip_options(words, options_with_value(name)).split_first()?;
        let text = first.text.as_str();
        let is_number = text.chars().all(|c| c.is_ascii_digit());
        let is_insignificant = is_number || text.starts_with('+') || is_assignment(text);
        if !is_insignificant && (text != "clean" || rest.is_empty()) {
            return Some((first, rest));
        }
        words = rest;
    }
}

fn options_with_value(name: &str) -> &'static str {
    OPTIONS_WITH_VALUE
        .iter()
        .find(|(programs, _)| is_one_of(name, programs))
        .map_or("", |(_, options)| options)
}

fn matches_word(pattern: &str, word: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => word.ends_with(end),
        (_, Some(beginning)) => word.starts_with(beginning),
        (None, None) => word == pattern,
    }
}

#[cfg(test)]
#[path = "matcher_tests.rs"]
mod tests;
