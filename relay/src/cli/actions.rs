//! Parsers of flags whose value is one of two names.

use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use common::hold::OnQuota;
use common::job::Runner;
use common::rule::{OnLimit, OnLoop};

/// Returns a parser that accepts these names, each with a description for completions.
fn parser_of_names<T>(names: [(&'static str, &'static str); 2]) -> impl TypedValueParser<Value = T>
where
    T: Clone + Default + FromStr + Send + Sync + 'static,
{
    let names = names.map(|(name, about)| PossibleValue::new(name).help(about));
    PossibleValuesParser::new(names).map(|name| name.parse().unwrap_or_default())
}

pub(super) fn on_limit_parser() -> impl TypedValueParser<Value = OnLimit> {
    parser_of_names([("fail", "The job fails"), ("interrupt", "The step is ended, the worker goes on")])
}

pub(super) fn on_loop_parser() -> impl TypedValueParser<Value = OnLoop> {
    parser_of_names([("warn", "A warning is emitted"), ("fail", "The job fails")])
}

pub(super) fn on_quota_parser() -> impl TypedValueParser<Value = OnQuota> {
    parser_of_names([("wait", "The job waits and goes on by itself"), ("fail", "The job fails")])
}

pub(super) fn runner_parser() -> impl TypedValueParser<Value = Runner> {
    parser_of_names([("codex", "`codex exec`"), ("shell", "`sh -c`")])
}
