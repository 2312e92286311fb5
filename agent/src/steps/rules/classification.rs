//! Classification of a command or process, and the kinds that may be nested as steps.

use common::job::StepKind;
use common::rule::OnLimit;

/// Kind, title and settings of a command or process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classification {
    pub(crate) kind: StepKind,
    /// Title: one short line without control characters and without the passwords of addresses.
    pub(crate) title: String,
    /// Limit of the matching rule, in milliseconds; defaults to the limit of the kind.
    pub(crate) limit_ms: Option<u64>,
    /// Stall limit of the matching rule, in milliseconds; defaults to the limit of the kind.
    pub(crate) stall_ms: Option<u64>,
    /// Action of the matching rule at either limit; defaults to the action of the job.
    pub(crate) on_limit: Option<OnLimit>,
    /// True for a command that downloads a program and then runs it (`npx`); it counts as an install until the program
    /// runs.
    pub(crate) fetches_program: bool,
}

impl Classification {
    /// Creates a classification without settings of a user's rule.
    pub(crate) fn without_rule(kind: StepKind, title: String) -> Self {
        Self { kind, title, limit_ms: None, stall_ms: None, on_limit: None, fetches_program: false }
    }
}

/// Returns the nesting level of a kind. A process opens a step of its own only below steps of a lower level. A compiler
/// inside a test, or `make` inside `npm ci`, is therefore no step of its own, but `npm ci` inside `make setup` is.
pub(crate) fn nesting_level(kind: StepKind) -> u8 {
    match kind {
        StepKind::Start
        | StepKind::Model
        | StepKind::Command
        | StepKind::Edit
        | StepKind::Search
        | StepKind::Tool
        | StepKind::Setup
        | StepKind::Check => 0,
        StepKind::Build => 1,
        StepKind::Test => 2,
        StepKind::Clone | StepKind::Install | StepKind::Fetch => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_of_lower_levels_contain_steps_of_processes() {
        let contains = |outer, inner| nesting_level(outer) < nesting_level(inner);
        assert!(contains(StepKind::Command, StepKind::Build) && contains(StepKind::Setup, StepKind::Install));
        assert!(contains(StepKind::Build, StepKind::Test) && contains(StepKind::Test, StepKind::Install));
        assert!(!contains(StepKind::Test, StepKind::Build) && !contains(StepKind::Install, StepKind::Build));
        assert!(
            !contains(StepKind::Install, StepKind::Fetch) && !contains(StepKind::Command, StepKind::Command)
        );
    }
}
