//! Text output of `relay doctor`.

use std::fmt::Write;

use super::{Finding, State};
use crate::plural;
use crate::render::Paint;

/// Marks that show the states of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateMarks {
    /// A symbol for each state.
    Symbols,
    /// Words, for terminals that may not show symbols.
    Words,
}

impl StateMarks {
    /// Returns symbols if the locale uses UTF-8, else words.
    pub fn for_locale(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let non_empty = |name| variable(name).filter(|value| !value.is_empty());
        let locale = non_empty("LC_ALL")
            .or_else(|| non_empty("LC_CTYPE"))
            .or_else(|| non_empty("LANG"))
            .unwrap_or_default();
        let locale = locale.to_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") { Self::Symbols } else { Self::Words }
    }

    fn mark_of(self, state: State) -> &'static str {
        match (self, state) {
            (Self::Symbols, State::Ok) => "✓",
            (Self::Symbols, State::Skipped) => "-",
            (Self::Symbols, State::Warn) => "!",
            (Self::Symbols, State::Fail) => "✗",
            (Self::Words, State::Ok) => "ok  ",
            (Self::Words, State::Skipped) => "-   ",
            (Self::Words, State::Warn) => "warn",
            (Self::Words, State::Fail) => "FAIL",
        }
    }
}

/// Formats one line per finding, with the fix below it, and the number of findings of each kind.
pub fn format_findings(findings: &[Finding], marks: StateMarks, paint: Paint) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let mark = marks.mark_of(finding.state);
        let line = format!("{mark} {:width$}  {}", finding.check, finding.detail);
        let line = match finding.state {
            State::Fail => paint.alarm(&line),
            State::Skipped => paint.dim(&line),
            State::Ok | State::Warn => line,
        };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{line}");
        if let Some(fix) = &finding.fix {
            let _ = writeln!(text, "{:indent$}fix: {fix}", "", indent = mark.chars().count() + width + 3);
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let _ = match (count(State::Fail), count(State::Warn)) {
        (0, 0) => writeln!(text, "all checks passed"),
        (fail, warn) => {
            let errors = plural::format_count(fail as u64, "error", "errors");
            writeln!(text, "{errors}, {}", plural::format_count(warn as u64, "warning", "warnings"))
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &'static str, state: State, fix: Option<&str>) -> Finding {
        Finding { check, state, detail: format!("{check} is so"), fix: fix.map(str::to_owned) }
    }

    #[test]
    fn each_finding_has_a_mark_and_each_problem_a_fix() {
        let all = [
            finding("engine", State::Ok, None),
            finding("image", State::Skipped, None),
            finding("codex", State::Fail, Some("install it")),
            finding("disk", State::Warn, Some("free some")),
        ];
        assert_eq!(
            format_findings(&all, StateMarks::Symbols, Paint::new(false)),
            "✓ engine  engine is so\n- image   image is so\n✗ codex   codex is so\n          fix: install it\n\
             ! disk    disk is so\n          fix: free some\n1 error, 1 warning\n"
        );
        assert!(format_findings(&all, StateMarks::Words, Paint::new(false)).is_ascii());
        assert_eq!(
            format_findings(&all[..1], StateMarks::Words, Paint::new(false)),
            "ok   engine  engine is so\nall checks passed\n"
        );
        assert!(format_findings(&all, StateMarks::Symbols, Paint::new(true)).contains("\u{1b}[31m✗ codex"));
    }

    #[test]
    fn symbols_are_for_locales_with_utf_8() {
        let locale = |variables: &'static [(&str, &str)]| {
            let find = move |name: &str| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            StateMarks::for_locale(&find)
        };
        assert_eq!(locale(&[("LANG", "en_US.UTF-8")]), StateMarks::Symbols);
        assert_eq!(locale(&[("LANG", "en_US.UTF-8"), ("LC_ALL", "C")]), StateMarks::Words);
        assert_eq!(locale(&[("LC_ALL", ""), ("LANG", "de_DE.utf8")]), StateMarks::Symbols);
        assert_eq!(locale(&[]), StateMarks::Words);
    }
}
