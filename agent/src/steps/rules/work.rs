//! What a piece of work is, and which work may be a step below which.

use common::job::StepKind;
use common::rule::OnLimit;

/// What a piece of work is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Work {
    /// Its kind.
    pub(crate) kind: StepKind,
    /// One short line without control characters and without secrets of addresses.
    pub(crate) title: String,
    /// The limit of the rule that matched, in milliseconds; the kind's where none is given.
    pub(crate) limit_ms: Option<u64>,
    /// The stall limit of the rule that matched, in milliseconds; the kind's where none is given.
    pub(crate) stall_ms: Option<u64>,
    /// What the rule that matched wants at either limit; the job's choice where none is given.
    pub(crate) on_limit: Option<OnLimit>,
    /// It fetches a program and then runs it (`npx`), and is an install only until then.
    pub(crate) fetches: bool,
}

impl Work {
    /// Work for which no rule of `relay.toml` says anything.
    pub(crate) fn plain(kind: StepKind, title: String) -> Self {
        Self { kind, title, limit_ms: None, stall_ms: None, on_limit: None, fetches: false }
    }
}

/// How special a kind is. A process opens a step of its own only below steps of a lower level, so that a compiler inside
/// a test, or a make inside `npm ci`, is part of it, whereas the `npm ci` inside `make setup` is not.
pub(crate) fn level(kind: StepKind) -> u8 {
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
    fn only_lower_levels_hold_steps_of_processes() {
        let holds = |outer, inner| level(outer) < level(inner);
        assert!(holds(StepKind::Command, StepKind::Build) && holds(StepKind::Setup, StepKind::Install));
        assert!(holds(StepKind::Build, StepKind::Test) && holds(StepKind::Test, StepKind::Install));
        assert!(!holds(StepKind::Test, StepKind::Build) && !holds(StepKind::Install, StepKind::Build));
        assert!(!holds(StepKind::Install, StepKind::Fetch) && !holds(StepKind::Command, StepKind::Command));
    }
}
