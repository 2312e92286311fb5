//! Rules for steps, as `[[step]]` of `relay.toml` writes them. Relay and agent compile them by the same function, so that
//! what is taken at `relay up` is not refused at the first job.

use regex_lite::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::job::StepKind;
use crate::text;

/// Most rules of a job: each is tried against every command line and every new process.
pub const MAX_RULES: usize = 100;
/// Longest pattern, in bytes: some lines of text; longer ones belong into several rules.
const MAX_PATTERN: usize = 1000;
/// Largest compiled pattern, in bytes. A list of some hundred names fits; nested repetitions, which would make each look
/// at a long line take a noticeable time, do not.
const MAX_COMPILED: usize = 64 * 1024;
/// How much of a pattern and of what is wrong with it an error shows, in bytes.
const SHOWN: (usize, usize) = (60, 200);

/// What a limit does to a job whose step ran over it or stalled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// The job fails.
    #[default]
    Fail,
    /// Only the step is ended and the worker goes on, at most [`MAX_INTERRUPTS`] times a job.
    Interrupt,
}

/// What happens to a worker that goes round in a circle: the same step fails again and again, or the same two take turns,
/// and no file changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLoop {
    /// It is warned of.
    #[default]
    Warn,
    /// The job fails.
    Fail,
}

/// How many steps of a job may be interrupted; the next one fails it.
pub const MAX_INTERRUPTS: u32 = 3;

/// A rule of `relay.toml` for steps whose command line it matches. The first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRule {
    /// A regular expression, looked for in the command line without its shell.
    pub pattern: String,
    /// The kind of such steps.
    pub kind: StepKind,
    /// Their limit; that of the kind where none is given.
    pub limit_ms: Option<u64>,
    /// Their stall limit, at which they fail; that of the kind where none is given.
    pub stall_ms: Option<u64>,
    /// What happens at either; the job's choice where none is given.
    pub on_limit: Option<OnLimit>,
}

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it, worded to follow the name of the rule: `is empty: …`, `= '(': …`.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.trim().is_empty() {
        return Err("is empty: write a regular expression for the command lines that are meant".to_owned());
    }
    if pattern.len() > MAX_PATTERN {
        return Err(format!("is longer than {MAX_PATTERN} bytes: make several rules of it"));
    }
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build().map_err(|error| {
        // The engine draws its message over several lines: all of them on one.
        let told = error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        format!("= '{}': {}", text::one_line(pattern, SHOWN.0), text::one_line(&told, SHOWN.1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_compiled_or_refused_with_the_reason() {
        assert!(compile("^npm (ci|install)").is_ok_and(|regex| regex.is_match("npm ci")));
        for (bad, reason) in [
            (" ", "is empty"),
            ("npm (ci", "= 'npm (ci': "),
            (&"x".repeat(MAX_PATTERN + 1), "longer than 1000"),
            ("((a{100}){100}){100}", "= '((a{100}){100}){100}': "),
        ] {
            let told = compile(bad).unwrap_err();
            assert!(told.starts_with(reason) || told.contains(reason), "{told}");
            assert_eq!(told.lines().count(), 1);
        }
    }
}
