//! How the table is read: which of its lines describes a command. Pure.

use std::collections::HashMap;
use std::sync::LazyLock;

use common::job::StepKind;

use super::interpreter::{off, without_version};
use super::programs::{among, base, behind_options, is_assignment, unwrapped};
use super::split::Word;
use super::table::{Row, TABLE};

/// Programs that run another program for which they may have to fetch something; the other one is what counts, where
/// the table knows it. With the words that make them do so.
const RUNNERS: &[(&str, &str)] = &[
    ("npx|bunx|pnpx|uvx", ""),
    ("npm|pnpm|yarn|bun", "exec|x|dlx"),
    ("pnpm|yarn|bun", ""),
    ("uv|poetry|pipenv|pdm|hatch|pipx|conda", "run"),
    ("bundle|bundler", "exec"),
    ("coverage", "run"),
];

/// Those of them that fetch what is not there, and others that do.
const FETCHERS: &[(&str, &str)] = &[
    ("npx|bunx|pnpx|uvx", ""),
    ("npm|pnpm|yarn|bun", "exec|x|dlx|create|init"),
    ("uv", "tool run|uvx"),
    ("pipx", "run"),
];

/// Options that take the next word with them, where one may stand in front of the words that tell the work.
const VALUED: &[(&str, &str)] = &[
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

/// How many runners may stand in front of each other.
const DEPTH: usize = 4;

/// The rows of the table for each program, in their order.
static ROWS: LazyLock<HashMap<&str, Vec<&Row>>> = LazyLock::new(|| {
    let mut rows: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in TABLE {
        for program in row.1.split('|') {
            rows.entry(program).or_default().push(row);
        }
    }
    rows
});

/// A command that the table knows.
#[derive(Debug)]
pub(super) struct Found {
    /// The line that describes it.
    pub(super) row: &'static Row,
    /// The command without its interpreter.
    pub(super) words: Vec<Word>,
    /// It fetches a program, which the table does not know, and runs it.
    pub(super) fetches: bool,
}

/// Looks a command up: as it stands, or without its interpreter. Its wrappers are off already.
pub(super) fn look_up(words: &[Word]) -> Option<Found> {
    if let Some(row) = row(words, DEPTH) {
        return Some(Found { row, words: words.to_vec(), fetches: fetches(row, words) });
    }
    let words = plugin(&off(words)?);
    row(&words, DEPTH).map(|row| Found { row, fetches: fetches(row, &words), words })
}

/// Whether a command of this row fetches a program and then runs it.
fn fetches(row: &Row, words: &[Word]) -> bool {
    let Some((first, rest)) = words.split_first().filter(|_| row.0 == StepKind::Install) else {
        return false;
    };
    let name = without_version(base(&first.text));
    let pattern = FETCHERS.iter().find(|(programs, _)| among(name, programs)).map(|(_, pattern)| *pattern);
    pattern
        .is_some_and(|pattern| behind(name, pattern, rest).is_some_and(|inner| next(name, inner).is_some()))
}

fn row(words: &[Word], depth: usize) -> Option<&'static Row> {
    let words = plugin(words);
    let (first, rest) = words.split_first()?;
    let name = base(&first.text);
    let name = if is_known(name) { name } else { without_version(name) };
    runs(name, rest, depth).or_else(|| {
        let rows = ROWS.get(name)?;
        rows.iter().find(|(_, _, pattern, _)| fits(name, pattern, rest)).copied()
    })
}

fn is_known(name: &str) -> bool {
    ROWS.contains_key(name) || RUNNERS.iter().any(|(programs, _)| among(name, programs))
}

/// What a runner runs, where the table knows that.
fn runs(name: &str, words: &[Word], depth: usize) -> Option<&'static Row> {
    let depth = depth.checked_sub(1)?;
    RUNNERS.iter().filter(|(programs, _)| among(name, programs)).find_map(|(_, pattern)| {
        let rest = behind(name, pattern, words)?;
        let inner = unwrapped(behind_options(rest, valued(name)));
        // `npm exec npm`, `yarn install`: a package manager by itself is no program of the project.
        let program = base(&inner.first()?.text);
        let found = row(inner, depth).or_else(|| row(&off(inner)?, depth));
        found.filter(|_| program != name)
    })
}

/// `cargo-nextest nextest run` is how cargo calls a command that is a program of its own.
fn plugin(words: &[Word]) -> Vec<Word> {
    let mut words = words.to_vec();
    let command = words.first().and_then(|word| base(&word.text).strip_prefix("cargo-")).map(Word::plain);
    if let Some(command) = command {
        words[0] = Word::plain("cargo");
        if words.get(1).is_none_or(|word| word.text != command.text) {
            words.insert(1, command);
        }
    }
    words
}

/// Whether the words of a program are those of the table.
pub(super) fn fits(name: &str, pattern: &str, words: &[Word]) -> bool {
    match pattern {
        "(none)" => next(name, words).is_none(),
        option if option.starts_with('-') => words.iter().any(|word| word.text == option),
        _ => behind(name, pattern, words).is_some(),
    }
}

/// The words behind those of the pattern, if these are the first.
fn behind<'a>(name: &str, pattern: &str, mut words: &'a [Word]) -> Option<&'a [Word]> {
    for alternatives in pattern.split_whitespace() {
        let (word, rest) = next(name, words)?;
        words = rest;
        if !alternatives.split('|').any(|wanted| matches(wanted, &word.text)) {
            return None;
        }
    }
    Some(words)
}

/// The next word that tells what is done: no option, number, setting or toolchain, and no `clean` in front of more.
fn next<'a>(name: &str, mut words: &'a [Word]) -> Option<(&'a Word, &'a [Word])> {
    loop {
        let (first, rest) = behind_options(words, valued(name)).split_first()?;
        let text = first.text.as_str();
        let is_number = text.chars().all(|c| c.is_ascii_digit());
        let is_aside = is_number || text.starts_with('+') || is_assignment(text);
        if !is_aside && (text != "clean" || rest.is_empty()) {
            return Some((first, rest));
        }
        words = rest;
    }
}

fn valued(name: &str) -> &'static str {
    VALUED.iter().find(|(programs, _)| among(name, programs)).map_or("", |(_, options)| options)
}

fn matches(wanted: &str, word: &str) -> bool {
    match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(end), _) => word.ends_with(end),
        (_, Some(beginning)) => word.starts_with(beginning),
        (None, None) => word == wanted,
    }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
