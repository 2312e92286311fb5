//! Rules of a job: those of `relay.toml` first, then the built-in table. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use common::event::MAX_TITLE;
use common::job::StepKind;
use common::rule::{self, MAX_RULES, StepRule};
use common::text_format;
use regex_lite::Regex;

use super::argv::ProcessArgv;
use super::classification::Classification;
use super::command_line::{MAX_LINE, bounded_prefix, classify_line, line_words, shell_script, strip_shell};
use super::title;
use crate::mask::Masker;

/// Classifier of command lines and processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    user_rules: Vec<(Regex, StepRule)>,
    mask: Arc<Masker>,
}

impl Rules {
    /// Compiles the rules of `relay.toml`, which precede the built-in ones. The error is one line that names the rule
    /// and the fault in its pattern.
    pub(crate) fn new(user_rules: &[StepRule]) -> Result<Self, String> {
        if user_rules.len() > MAX_RULES {
            return Err(format!("{} step rules; at most {MAX_RULES} are possible", user_rules.len()));
        }
        let compiled = (1..).zip(user_rules).map(|(n, rule)| {
            let regex =
                rule::compile_pattern(&rule.pattern).map_err(|fault| format!("step rule {n} {fault}"))?;
            Ok((regex, rule.clone()))
        });
        Ok(Self { user_rules: compiled.collect::<Result<_, String>>()?, mask: Arc::default() })
    }

    /// Sets the masker that removes secrets from titles.
    #[must_use]
    pub(crate) fn with_mask(self, mask: Arc<Masker>) -> Self {
        Self { mask, ..self }
    }

    /// Classifies a command line by its unmasked text. The title comes from the masked line: a truncated title could
    /// contain half of a secret.
    pub(crate) fn classify_line(&self, command: &str) -> Classification {
        self.classify_words(command, &line_words(command))
    }

    /// Classifies a command line that is already split into words.
    pub(crate) fn classify_words(&self, command: &str, argv: &[String]) -> Classification {
        let classification = self.line_classification(command, argv);
        match self.mask.mask_text(command) {
            Cow::Borrowed(_) => classification,
            Cow::Owned(masked) => Classification {
                title: self.line_classification(&masked, &line_words(&masked)).title,
                ..classification
            },
        }
    }

    /// Classifies a setup command, check or shell job. If the kind is unknown, the title is the whole line.
    pub(crate) fn classify_job_line(&self, command: &str) -> Classification {
        let classification = self.classify_line(command);
        if classification.kind != StepKind::Command {
            return classification;
        }
        Classification {
            title: title::from_line(&strip_shell(&self.mask.mask_text(command))),
            ..classification
        }
    }

    /// Classifies a process. Returns `None` for shells, for filters, for wrappers (`sudo`, `timeout`, `xargs`), whose
    /// program is a process too, and for everything that neither the built-in table of programs nor a rule of
    /// `relay.toml` matches.
    pub(crate) fn classify_process(&self, argv: &[String]) -> Option<Classification> {
        let classification = self.process_classification(argv)?;
        let masked: Vec<Cow<'_, str>> = argv.iter().map(|word| self.mask.mask_text(word)).collect();
        if masked.iter().all(|word| matches!(word, Cow::Borrowed(_))) {
            return Some(classification);
        }
        let masked: Vec<String> = masked.into_iter().map(Cow::into_owned).collect();
        let title =
            self.process_classification(&masked).map_or_else(|| masked.join(" "), |masked| masked.title);
        Some(Classification { title: text_format::one_line(&title, MAX_TITLE), ..classification })
    }

    /// Returns true if these arguments, with secrets masked, equal a masked command line that was split into words.
    pub(crate) fn is_masked_line(&self, argv: &[String], masked: &[String]) -> bool {
        argv.len() == masked.len()
            && argv.iter().zip(masked).all(|(word, shown)| self.mask.mask_text(word) == *shown)
    }

    /// Classifies a line. A rule of `relay.toml` applies to the whole line.
    fn line_classification(&self, command: &str, argv: &[String]) -> Classification {
        let line = bounded_prefix(shell_script(argv).unwrap_or(command), MAX_LINE);
        let classification = classify_line(line);
        match self.find_user_rule(&[line]) {
            Some(rule) => classification_by_rule(rule, classification.title),
            None => classification,
        }
    }

    fn process_classification(&self, argv: &[String]) -> Option<Classification> {
        let process = ProcessArgv::new(argv)?;
        let table_match = process.table_kind_and_title();
        match self.find_user_rule(&process.rule_lines()) {
            Some(rule) => Some(classification_by_rule(
                rule,
                table_match.map_or_else(|| process.default_title(), |(_, title)| title),
            )),
            None => table_match.map(|(kind, title)| Classification {
                fetches_program: process.fetches_program(),
                ..Classification::without_rule(kind, title)
            }),
        }
    }

    fn find_user_rule(&self, lines: &[impl AsRef<str>]) -> Option<&StepRule> {
        let is_match = |regex: &Regex| lines.iter().any(|line| regex.is_match(line.as_ref()));
        self.user_rules.iter().find(|(regex, _)| is_match(regex)).map(|(_, rule)| rule)
    }
}

fn classification_by_rule(rule: &StepRule, title: String) -> Classification {
    let StepRule { kind, limit_ms, stall_ms, on_limit, .. } = *rule;
    Classification { kind, title, limit_ms, stall_ms, on_limit, fetches_program: false }
}

#[cfg(test)]
#[path = "user_rules_tests.rs"]
mod tests;
