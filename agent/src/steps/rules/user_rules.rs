//! The rules of a job: those of `relay.toml` first, then the built-in table. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use common::event::MAX_TITLE;
use common::job::StepKind;
use common::rule::{self, MAX_RULES, StepRule};
use common::text;
use regex_lite::Regex;

use super::argv::Process;
use super::classification::Classification;
use super::command_line::{MAX_LINE, classify_line, prefix, script, without_shell, words};
use super::title;
use crate::mask::Masker;

/// Classifies command lines and processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    user_rules: Vec<(Regex, StepRule)>,
    mask: Arc<Masker>,
}

impl Rules {
    /// Compiles the rules of `relay.toml`, which precede the built-in ones. Returns an error of one line that names the
    /// rule and the fault in its pattern.
    pub(crate) fn new(own: &[StepRule]) -> Result<Self, String> {
        if own.len() > MAX_RULES {
            return Err(format!("{} step rules; at most {MAX_RULES} are possible", own.len()));
        }
        let compiled = (1..).zip(own).map(|(n, rule)| {
            let regex = rule::compile(&rule.pattern).map_err(|wrong| format!("step rule {n} {wrong}"))?;
            Ok((regex, rule.clone()))
        });
        Ok(Self { user_rules: compiled.collect::<Result<_, String>>()?, mask: Arc::default() })
    }

    /// Sets the masker that removes secrets from titles.
    #[must_use]
    pub(crate) fn with_mask(self, mask: Arc<Masker>) -> Self {
        Self { mask, ..self }
    }

    /// Classifies a command line by its unmasked text. The title comes from the masked line: a title is cut, and the
    /// masker would not find half of a secret in it.
    pub(crate) fn classify_line(&self, command: &str) -> Classification {
        self.classify_words(command, &words(command))
    }

    /// Classifies a command line that is already split into words.
    pub(crate) fn classify_words(&self, command: &str, argv: &[String]) -> Classification {
        let classification = self.line_classification(command, argv);
        match self.mask.text(command) {
            Cow::Borrowed(_) => classification,
            Cow::Owned(masked) => Classification {
                title: self.line_classification(&masked, &words(&masked)).title,
                ..classification
            },
        }
    }

    /// Classifies a command line that a person gave the job. If its kind is not known, the title is the whole line
    /// rather than the one part that takes time.
    pub(crate) fn classify_job_line(&self, command: &str) -> Classification {
        let classification = self.classify_line(command);
        if classification.kind != StepKind::Command {
            return classification;
        }
        Classification { title: title::from_line(&without_shell(&self.mask.text(command))), ..classification }
    }

    /// Classifies a process. Returns none for shells, for wrappers (`sudo`, `timeout`, `xargs`: their program is a
    /// process too), for filters, and for everything that neither the table nor a rule of `relay.toml` matches.
    pub(crate) fn classify_process(&self, argv: &[String]) -> Option<Classification> {
        let classification = self.process_classification(argv)?;
        let masked: Vec<Cow<'_, str>> = argv.iter().map(|word| self.mask.text(word)).collect();
        if masked.iter().all(|word| matches!(word, Cow::Borrowed(_))) {
            return Some(classification);
        }
        let masked: Vec<String> = masked.into_iter().map(Cow::into_owned).collect();
        let title =
            self.process_classification(&masked).map_or_else(|| masked.join(" "), |masked| masked.title);
        Some(Classification { title: text::one_line(&title, MAX_TITLE), ..classification })
    }

    /// Returns true if these arguments are those of a command line whose secrets were masked before it was split.
    pub(crate) fn is_masked_line(&self, argv: &[String], masked: &[String]) -> bool {
        argv.len() == masked.len()
            && argv.iter().zip(masked).all(|(word, shown)| self.mask.text(word) == *shown)
    }

    /// Classifies a line; a rule of `relay.toml` applies to the whole line, whatever its parts are.
    fn line_classification(&self, command: &str, argv: &[String]) -> Classification {
        let line = prefix(script(argv).unwrap_or(command), MAX_LINE);
        let classification = classify_line(line);
        match self.user_rule(&[line]) {
            Some(rule) => by_rule(rule, classification.title),
            None => classification,
        }
    }

    fn process_classification(&self, argv: &[String]) -> Option<Classification> {
        let process = Process::new(argv)?;
        let known = process.known();
        match self.user_rule(&process.lines()) {
            Some(rule) => Some(by_rule(rule, known.map_or_else(|| process.title(), |(_, title)| title))),
            None => known.map(|(kind, title)| Classification {
                fetches: process.fetches(),
                ..Classification::plain(kind, title)
            }),
        }
    }

    fn user_rule(&self, lines: &[impl AsRef<str>]) -> Option<&StepRule> {
        let fits = |regex: &Regex| lines.iter().any(|line| regex.is_match(line.as_ref()));
        self.user_rules.iter().find(|(regex, _)| fits(regex)).map(|(_, rule)| rule)
    }
}

fn by_rule(rule: &StepRule, title: String) -> Classification {
    let StepRule { kind, limit_ms, stall_ms, on_limit, .. } = *rule;
    Classification { kind, title, limit_ms, stall_ms, on_limit, fetches: false }
}

#[cfg(test)]
#[path = "user_rules_tests.rs"]
mod tests;
