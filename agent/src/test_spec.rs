//! A job spec for unit tests.

use std::collections::{BTreeMap, BTreeSet};

use common::job::{CodexSettings, JobSpec, Limits, Runner};
use common::rule::{OnLimit, OnLoop};

/// Returns a Codex job with nothing special.
pub(crate) fn spec() -> JobSpec {
    JobSpec {
        schema: 1,
        job: "a#1".parse().unwrap(),
        runner: Runner::Codex,
        prompt: "do it".into(),
        workspace: "/w s".into(),
        env: BTreeMap::new(),
        env_names: BTreeSet::new(),
        setup: vec![],
        checks: vec![],
        limits: Limits::default(),
        rules: vec![],
        on_limit: OnLimit::Fail,
        on_loop: OnLoop::Warn,
        codex: CodexSettings::default(),
        thread: None,
    }
}
