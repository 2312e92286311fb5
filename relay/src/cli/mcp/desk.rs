//! Where a call works, and for whom.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::args::Global;
use super::super::{Context, caller};
use crate::exit::{Code, Failure};
use crate::mcp::{Call, Reply};
use crate::render::{ColorMode, Kept};

/// Most jobs in one call.
pub(super) const JOBS: usize = 20;

/// Makes the context of each call: the project may be made while the server runs.
pub(super) struct Desk(Global);

impl Desk {
    /// Works under these flags.
    pub(super) fn new(global: &Global) -> Self {
        Self(Global { color: ColorMode::Never, json: false, ..global.clone() })
    }

    /// The context of a call: what it prints is kept, and its session is the thread that calls.
    ///
    /// # Errors
    /// When there is no project here.
    pub(super) fn context(&self, call: &Call) -> Result<Context, Failure> {
        let thread = call.thread().map(|thread| (caller::THREAD, thread.to_owned()));
        Context::of_caller(&self.0, BTreeMap::from_iter(thread))
    }

    /// Runs a command for a call.
    ///
    /// # Errors
    /// Those of the command.
    pub(super) fn run(
        &self,
        call: &Call,
        command: impl FnOnce(&Context) -> Result<Code, Failure>,
    ) -> Result<(Reply, Kept), Failure> {
        let context = self.context(call)?;
        let code = command(&context)?;
        let kept = context.output.into_kept();
        Ok((Reply::new(&kept.text, code), kept))
    }
}

/// Reads a list, or a single text in its place: to a model the one looks as good as the other.
///
/// # Errors
/// For everything else.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(from)? {
        Value::String(one) => Ok(vec![one]),
        many => serde_json::from_value(many).map_err(D::Error::custom),
    }
}

/// Refuses a list that is empty or longer than any that is meant.
///
/// # Errors
/// Exit code 2.
pub(super) fn jobs(jobs: Vec<String>) -> Result<Vec<String>, Failure> {
    match jobs.len() {
        1..=JOBS => Ok(jobs),
        0 => Err(Failure::usage("no job: name at least one in `jobs`")),
        many => Err(Failure::usage(format!("{many} jobs in one call: name at most {JOBS}"))),
    }
}

/// Reads a duration that may be left out.
///
/// # Errors
/// Exit code 2, naming the field.
pub(super) fn duration(field: &str, text: Option<&str>) -> Result<Option<std::time::Duration>, Failure> {
    let read = text.map(common::duration::parse).transpose();
    read.map_err(|reason| Failure::usage(format!("`{field}`: {}", common::text::one_line(&reason, 200))))
}
