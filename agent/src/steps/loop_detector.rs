//! Detection of a worker that repeats failing commands: the same command fails repeatedly, or two commands alternate,
//! and no file changes. Pure.

use common::warnings::NO_PROGRESS;

/// Number of rounds before the first report. Each further report follows after twice as many rounds.
const FIRST_REPORT_ROUNDS: u32 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
struct EndedCommand {
    command: String,
    has_failed: bool,
}

/// Detector of loops, with the last commands of a worker.
#[derive(Debug)]
pub(crate) struct LoopDetector {
    last_command: Option<EndedCommand>,
    /// Command before the last one.
    previous_command: Option<EndedCommand>,
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
            previous_command: None,
            same_failures: 0,
            alternations: 0,
            next_report_at: FIRST_REPORT_ROUNDS,
        }
    }
}

impl LoopDetector {
    /// Handles the end of a command. Returns the report if one is due; the report names the command by its `title`.
    pub(crate) fn on_command_end(
        &mut self,
        command: &str,
        title: impl FnOnce() -> String,
        has_failed: bool,
    ) -> Option<String> {
        let ended = EndedCommand { command: command.to_owned(), has_failed };
        let is_repeat = self.last_command.as_ref() == Some(&ended);
        self.same_failures = if has_failed { if is_repeat { self.same_failures + 1 } else { 1 } } else { 0 };
        self.alternations = if !is_repeat && self.previous_command.as_ref() == Some(&ended) {
            self.alternations + 1
        } else {
            0
        };
        let one_failed = has_failed || self.last_command.as_ref().is_some_and(|last| last.has_failed);
        self.previous_command = self.last_command.replace(ended);
        // An alternation can be detected only after the first round of the pair, which is added here.
        let rounds = if one_failed && self.alternations > 0 { self.alternations.div_ceil(2) + 1 } else { 0 };
        if self.same_failures <= 1 && self.alternations == 0 {
            self.next_report_at = FIRST_REPORT_ROUNDS;
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

    /// Ends a command for each letter (capital: failure; `*`: change of a file); returns each report and its position.
    fn reports(commands: &str) -> Vec<(usize, String)> {
        let mut detector = LoopDetector::default();
        let mut reports = Vec::new();
        for (n, c) in (1..).zip(commands.chars()) {
            if c == '*' {
                detector.reset();
                continue;
            }
            let report = detector.on_command_end(&c.to_string(), || c.to_string(), c.is_ascii_uppercase());
            reports.extend(report.map(|report| (n, report)));
        }
        reports
    }

    fn report_positions(commands: &str) -> Vec<usize> {
        reports(commands).into_iter().map(|(n, _)| n).collect()
    }

    #[test]
    fn repeated_failures_are_reported_at_doubling_counts() {
        let all = reports(&"A".repeat(40));
        assert_eq!(all.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [5, 10, 20, 40]);
        assert_eq!(
            all[0].1,
            "no progress: the same step failed 5 times: A, and no file was changed in between"
        );
    }

    #[test]
    fn two_alternating_steps_are_reported_unless_both_succeed() {
        assert_eq!(report_positions("AbAbAbAbAb"), [10]);
        assert_eq!(report_positions("ABABABABAB"), [10]);
        assert_eq!(report_positions(&"ab".repeat(20)), [] as [usize; 0]);
        assert_eq!(report_positions(&"a".repeat(40)), [] as [usize; 0]);
    }

    #[test]
    fn other_steps_and_changed_files_reset_the_count() {
        assert_eq!(report_positions("AAAA*AAAA*AAAA"), [] as [usize; 0]);
        assert_eq!(report_positions("AAAAbAAAAcAAAA"), [] as [usize; 0]);
        assert_eq!(report_positions("AAAA*AAAAA"), [10]);
    }
}
