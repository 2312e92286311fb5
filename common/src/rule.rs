//! Rules for steps, from `[[step]]` in `relay.toml`. Relay and agent compile the patterns with the same function, so
//! the agent accepts each rule that `relay up` accepts.

use regex_lite::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::step_kind::StepKind;
use crate::text_format;

/// Maximum number of rules of a job. Each rule is tried on every command line and every new process.
pub const MAX_RULES: usize = 100;
/// Maximum length of a pattern, in bytes. A longer one should be split into several rules.
const MAX_PATTERN: usize = 1000;
/// Maximum size of a compiled pattern, in bytes. A list of some hundred names fits. Nested repetitions don't fit: they
/// would make each match against a long line slow.
const MAX_COMPILED: usize = 64 * 1024;
/// Maximum lengths of the quoted pattern and of the regex engine's message in an error, in bytes.
const MAX_SHOWN_BYTES: (usize, usize) = (60, 200);

/// Consequence for a job when a step exceeds its limit or stalls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OnLimit {
    /// Fails the job.
    #[default]
    Fail,
    /// Ends only the step; the worker goes on. At most [`MAX_INTERRUPTS`] times per job.
    Interrupt,
}

/// Reaction to a worker that repeats itself: the same step fails again and again, or the same two steps alternate, and
/// no file changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OnLoop {
    /// Emits a warning.
    #[default]
    Warn,
    /// Fails the job.
    Fail,
}

/// Maximum number of interrupted steps of a job; one more fails the job.
pub const MAX_INTERRUPTS: u32 = 3;

/// A rule of `relay.toml` for steps whose command line matches its pattern. The first rule that matches is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRule {
    /// Regular expression that is searched in the command line. A surrounding `sh -c` is removed first.
    pub pattern: String,
    /// Kind of a matching step.
    pub kind: StepKind,
    /// Limit of a matching step, in milliseconds; `None` for the limit of the kind.
    pub limit_ms: Option<u64>,
    /// Stall limit in milliseconds, at which a matching step fails; `None` for the stall limit of the kind.
    pub stall_ms: Option<u64>,
    /// Action when a matching step reaches one of these limits; `None` for the action of the job.
    pub on_limit: Option<OnLimit>,
}

/// Compiles the pattern of a rule.
///
/// # Errors
/// Returns a description of the fault. It continues a sentence that begins with the rule: `is empty: …`, `= '(': …`.
pub fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    if pattern.trim().is_empty() {
        return Err("is empty: write a regular expression for the command lines that are meant".to_owned());
    }
    if pattern.len() > MAX_PATTERN {
        return Err(format!("is longer than {MAX_PATTERN} bytes: make several rules of it"));
    }
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build().map_err(|error| {
        let message = error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        format!(
            "= '{}': {}",
            text_format::one_line(pattern, MAX_SHOWN_BYTES.0),
            text_format::one_line(&message, MAX_SHOWN_BYTES.1)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_compiled_or_refused_with_the_reason() {
        assert!(compile_pattern("^npm (ci|install)").is_ok_and(|regex| regex.is_match("npm ci")));
        for (bad, reason) in [
            (" ", "is empty"),
            ("npm (ci", "= 'npm (ci': "),
            (&"x".repeat(MAX_PATTERN + 1), "longer than 1000"),
            ("((a{100}){100}){100}", "= '((a{100}){100}){100}': "),
        ] {
            let error = compile_pattern(bad).unwrap_err();
            assert!(error.starts_with(reason) || error.contains(reason), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
