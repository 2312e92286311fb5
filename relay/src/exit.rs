//! Exit codes (never renumbered) and the error that carries one.

use std::{fmt, io};

use serde_json::json;

/// Exit codes of `relay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum Code {
    /// The command succeeded; the job completed.
    Done = 0,
    JobFailed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    NoSuchJob = 3,
    /// The relay, the registry or the platform can't be reached.
    Unreachable = 5,
    /// The job still runs.
    StillRunning = 8,
    /// The command succeeded, but stdout can't be written (`EX_IOERR` of `sysexits.h`).
    #[strum(serialize = "output_failed")]
    Output = 74,
    /// The command's own time limit was reached.
    TimeLimit = 124,
    /// Agent or container lost.
    Infrastructure = 125,
    /// The job was cancelled.
    Cancelled = 130,
}

impl Code {
    /// Name in JSON.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl From<Code> for u8 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

/// Failure of a command: one line for people, one code for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    /// Error and advice, without a line break.
    pub message: String,
}

impl Failure {
    /// The command line or the configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: Code::Usage, message: message.into() }
    }

    /// The relay, the registry or the platform can't be reached.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { code: Code::Unreachable, message: message.into() }
    }

    /// Stdout can't be written; everything else succeeded.
    pub fn output(error: io::ErrorKind) -> Self {
        Self { code: Code::Output, message: format!("stdout can't be written: {error}") }
    }

    /// Adds the work that was done before the failure.
    #[must_use]
    pub fn after(mut self, done: &str) -> Self {
        self.message = format!("{done}, but {}", self.message);
        self
    }

    /// Formats the failure for `--json`.
    pub fn json(&self) -> Vec<u8> {
        let error = json!({"error": {"code": self.code.as_str(), "message": self.message}});
        // Serializing two texts can't fail.
        common::json::to_vec(&error).unwrap_or_default()
    }

    pub fn no_such_job(message: impl Into<String>) -> Self {
        Self { code: Code::NoSuchJob, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
