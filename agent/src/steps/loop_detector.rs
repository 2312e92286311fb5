//! Detection of a worker that repeats failing commands: the same command fails repeatedly, or two commands alternate,
//! and no file changes. Pure.

use common::warnings::NO_PROGRESS;

/// Number of rounds before the first report. Each further report follows after twice as many rounds.
const FIRST_REPORT: u32 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
struct EndedCommand {
    command: String,
    failed: bool,
}

/// The last commands of a worker.
#[derive(Debug)]
pub(crate) struct LoopDetector {
    last_command: Option<EndedCommand>,
    /// Command before the last one.
    command_before: Option<EndedCommand>,
    /// Number of consecutive failures of the last command.
    same_failures: u32,
    /// Number of consecutive commands that each equal the one before the last.
    alternations: u32,
    /// Number of rounds at which the next report is due.
    next_report_at: u32,
}

impl Default for LoopDetector {
    fn default() -> Self {
        Self {
            last_command: None,
            command_before: None,
            same_failures: 0,
            alternations: 0,
            next_report_at: FIRST_REPORT,
        }
    }
}

impl LoopDetector {
    /// Handles the end of a command. Returns the report if one is due; the report names the command by its `title`.
    pub(crate) fn on_command_end(
        &mut self,
        command: &str,
        title: impl FnOnce() -> String,
        failed: bool,
    ) -> Option<String> {
        let ended = EndedCommand { command: command.to_owned(), failed };
        let is_repeat = self.last_command.as_ref() == Some(&ended);
        self.same_failures = if failed { if is_repeat { self.same_failures + 1 } else { 1 } } else { 0 };
        self.alternations = if !is_repeat && self.command_before.as_ref() == Some(&ended) {
            self.alternations + 1
        } else {
            0
        };
        let one_failed = failed || self.last_command.as_ref().is_some_and(|last| last.failed);
        self.command_before = self.last_command.replace(ended);
        // An alternation can be detected only after the first round of the pair, which is added here.
        let rounds = if one_failed && self.alternations > 0 { self.alternations.div_ceil(2) + 1 } else { 0 };
        if self.same_failures <= 1 && self.alternations == 0 {
            self.next_report_at = FIRST_REPORT;
        }
        let what = if self.same_failures >= self.next_report_at {
            format!("the same step failed {} times: {}", self.same_failures, title())
        } else if rounds >= self.next_report_at && self.alternations.is_multiple_of(2) {
            format!(
                "the same two steps took turns {rounds} times and failed: {} and the one before it",
                title()
            )
        } else {
            return None;
        };
        self.next_report_at = self.next_report_at.saturating_mul(2);
        Some(format!("{NO_PROGRESS}{what}, and no file was changed in between"))
    }

    /// Resets the detection after a file was changed, because a failed command may succeed now.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends commands (a capital letter fails); returns the reports and when they were made.
    fn told(course: &str) -> Vec<(usize, String)> {
        let mut detector = LoopDetector::default();
        let mut told = Vec::new();
        for (n, c) in (1..).zip(course.chars()) {
            if c == '*' {
                detector.reset();
                continue;
            }
            let said = detector.on_command_end(&c.to_string(), || c.to_string(), c.is_ascii_uppercase());
            told.extend(said.map(|said| (n, said)));
        }
        told
    }

    fn at(course: &str) -> Vec<usize> {
        told(course).into_iter().map(|(n, _)| n).collect()
    }

    #[test]
    fn a_step_that_fails_again_and_again_is_told_with_its_count_ever_more_seldom() {
        let all = told(&"A".repeat(40));
        assert_eq!(all.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [5, 10, 20, 40]);
        assert_eq!(
            all[0].1,
            "no progress: the same step failed 5 times: A, and no file was changed in between"
        );
    }

    #[test]
    fn two_alternating_steps_are_reported_and_what_succeeds_is_no_loop() {
        assert_eq!(at("AbAbAbAbAb"), [10]);
        assert_eq!(at("ABABABABAB"), [10]);
        assert_eq!(at(&"ab".repeat(20)), [] as [usize; 0]);
        assert_eq!(at(&"a".repeat(40)), [] as [usize; 0]);
    }

    #[test]
    fn other_steps_and_changed_files_begin_anew() {
        assert_eq!(at("AAAA*AAAA*AAAA"), [] as [usize; 0]);
        assert_eq!(at("AAAAbAAAAcAAAA"), [] as [usize; 0]);
        assert_eq!(at("AAAA*AAAAA"), [10]);
    }
}
