//! The rules of a job: those of `relay.toml` first, then the built-in table. Pure.

use common::job::StepRule;
use common::text;
use regex_lite::{Regex, RegexBuilder};

use super::argv::Process;
use super::line::{MAX_LINE, beginning, inner, of_line};
use super::work::Work;

/// Most rules of a job: each of them is tried against every new process.
pub(crate) const MAX_RULES: usize = 100;

/// Largest compiled pattern, in bytes. A list of some hundred names fits; nested repetitions, which would make each look
/// at a long line take a noticeable time, do not.
const MAX_PATTERN: usize = 64 * 1024;

/// How much of a pattern an error shows, in bytes.
const SHOWN: usize = 80;

/// What tells work from its command line or process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    own: Vec<(Regex, StepRule)>,
}

impl Rules {
    /// The rules of `relay.toml` in front of the built-in ones. Errors: one line that names the rule and what is wrong
    /// with its pattern.
    #[cfg_attr(not(test), expect(dead_code, reason = "jobs have no rules of their own yet"))]
    pub(crate) fn new(own: &[StepRule]) -> Result<Self, String> {
        if own.len() > MAX_RULES {
            return Err(format!("{} step rules; at most {MAX_RULES} are possible", own.len()));
        }
        let compiled = (1..).zip(own).map(|(n, rule)| {
            let pattern = text::one_line(&rule.pattern, SHOWN);
            let regex =
                compile(&rule.pattern).map_err(|error| format!("step rule {n} ({pattern:?}): {error}"))?;
            Ok((regex, rule.clone()))
        });
        Ok(Self { own: compiled.collect::<Result<_, String>>()? })
    }

    /// What a command line does. A rule of `relay.toml` speaks for the whole line, whatever its parts are.
    pub(crate) fn of_line(&self, command: &str) -> Work {
        let line = inner(command);
        let line = beginning(&line, MAX_LINE);
        let work = of_line(line);
        match self.own_rule(&[line]) {
            Some(rule) => by_rule(rule, work.title),
            None => work,
        }
    }

    /// What a process does; none for shells, for wrappers (`sudo`, `timeout`, `xargs`: what they run is a process too),
    /// for filters, and for everything that neither the table nor a rule of `relay.toml` knows.
    #[cfg_attr(not(test), expect(dead_code, reason = "steps from processes are built on it"))]
    pub(crate) fn of_process(&self, argv: &[String]) -> Option<Work> {
        let process = Process::new(argv)?;
        let known = process.known();
        match self.own_rule(&process.lines()) {
            Some(rule) => Some(by_rule(rule, known.map_or_else(|| process.title(), |(_, title)| title))),
            None => known.map(|(kind, title)| Work::plain(kind, title)),
        }
    }

    fn own_rule(&self, lines: &[impl AsRef<str>]) -> Option<&StepRule> {
        let fits = |regex: &Regex| lines.iter().any(|line| regex.is_match(line.as_ref()));
        self.own.iter().find(|(regex, _)| fits(regex)).map(|(_, rule)| rule)
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.trim().is_empty() {
        return Err("the pattern is empty, so that it would match everything".to_owned());
    }
    let built = RegexBuilder::new(pattern).size_limit(MAX_PATTERN).build();
    built.map_err(|error| text::one_line(&error.to_string(), SHOWN))
}

fn by_rule(rule: &StepRule, title: String) -> Work {
    let StepRule { kind, limit_ms, stall_ms, on_limit, .. } = *rule;
    Work { kind, title, limit_ms, stall_ms, on_limit }
}

#[cfg(test)]
#[path = "own_tests.rs"]
mod tests;
