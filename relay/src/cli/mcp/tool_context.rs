//! The context of a tool call: the project and the calling session.

use std::collections::BTreeMap;

use common::ids::JobName;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::global::Global;
use super::super::{Context, session};
use crate::exit::{ExitCode, Failure};
use crate::mcp::{CallContext, Reply};
use crate::render::{CapturedOutput, ColorMode};

/// Maximum number of jobs in one call.
pub(super) const MAX_JOBS: usize = 20;

/// Factory of command contexts, one per call: the project may be created while the server is running.
pub(super) struct ToolContext(Global);

impl ToolContext {
    /// Creates a factory with the given global flags.
    pub(super) fn new(global: &Global) -> Self {
        Self(Global { color: ColorMode::Never, json: false, ..global.clone() })
    }

    /// Creates the context of a command for a call. The context collects the output, and its session is the calling
    /// Codex thread.
    ///
    /// # Errors
    /// Exit code 2 if there is no project here.
    pub(super) fn context(&self, call: &CallContext) -> Result<Context, Failure> {
        let thread = call.codex_thread().map(|thread| (session::CODEX_THREAD_VARIABLE, thread.to_owned()));
        Context::for_tool(&self.0, BTreeMap::from_iter(thread))
    }

    /// Runs a command for a call. Returns the reply with the command's output, and the captured output.
    pub(super) fn run(
        &self,
        call: &CallContext,
        command: impl FnOnce(&Context) -> Result<ExitCode, Failure>,
    ) -> Result<(Reply, CapturedOutput), Failure> {
        let context = self.context(call)?;
        let code = command(&context)?;
        let captured = context.output.into_captured();
        Ok((Reply::new(&captured.text, code), captured))
    }
}

/// The jobs of a call that takes jobs or a group.
pub(super) enum Selection {
    Jobs(Vec<String>),
    Group(JobName),
}

impl Selection {
    /// Reads the fields `jobs` and `group`, of which a call gives one.
    ///
    /// # Errors
    /// Exit code 2 if both or none are given, or one is invalid.
    pub(super) fn from_fields(jobs: Vec<String>, group: Option<&str>) -> Result<Self, Failure> {
        match (parse_name_field("group", group)?, jobs.is_empty()) {
            (None, false) => check_job_count(jobs).map(Self::Jobs),
            (Some(group), true) => Ok(Self::Group(group)),
            _ => Err(Failure::usage("name either `jobs` or a `group`")),
        }
    }
}

/// Deserializes a list, or a single text or nothing instead of a list, because models use all three.
pub(super) fn text_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text]),
        list => serde_json::from_value(list).map_err(D::Error::custom),
    }
}

/// Rejects a list that is empty or has more than [`MAX_JOBS`] entries.
///
/// # Errors
/// Exit code 2.
pub(super) fn check_job_count(jobs: Vec<String>) -> Result<Vec<String>, Failure> {
    match jobs.len() {
        1..=MAX_JOBS => Ok(jobs),
        0 => Err(Failure::usage("no job: name at least one in `jobs`")),
        count => Err(Failure::usage(format!("{count} jobs in one call: name at most {MAX_JOBS}"))),
    }
}

/// Parses the optional name of a job or a group.
///
/// # Errors
/// Exit code 2 with the name of the field.
pub(super) fn parse_name_field(field: &str, text: Option<&str>) -> Result<Option<JobName>, Failure> {
    let name = text.map(str::parse).transpose();
    name.map_err(|e: common::ids::IdError| Failure::usage(format!("`{field}`: {e}")))
}

/// Parses an optional duration.
///
/// # Errors
/// Exit code 2 with the name of the field.
pub(super) fn parse_duration_field(
    field: &str,
    text: Option<&str>,
) -> Result<Option<std::time::Duration>, Failure> {
    let parsed = text.map(common::duration::parse_duration).transpose();
    parsed.map_err(|reason| {
        Failure::usage(format!("`{field}`: {}", common::text_format::one_line(&reason, 200)))
    })
}
