//! Exit codes (never renumbered), and the error type with an exit code.

use std::{fmt, io};

use serde_json::json;

/// Exit codes of `relay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum ExitCode {
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
    OutputFailed = 74,
    /// The command's own time limit was reached.
    TimeLimit = 124,
    /// The agent or the container was lost.
    Infrastructure = 125,
    /// The job was cancelled.
    Cancelled = 130,
}

impl ExitCode {
    /// Returns the name of the code in JSON.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code as Self
    }
}

/// Failure of a command: a message for users, and an exit code for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: ExitCode,
    /// Error and advice, without a line break.
    pub message: String,
}

impl Failure {
    /// Builds the failure for a command line or configuration that is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Usage, message: message.into() }
    }

    /// Builds the failure for a relay, registry or platform that can't be reached.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Unreachable, message: message.into() }
    }

    /// Builds the failure for a stdout that can't be written, while everything else succeeded.
    pub fn stdout_failed(error: io::ErrorKind) -> Self {
        Self { code: ExitCode::OutputFailed, message: format!("stdout can't be written: {error}") }
    }

    /// Puts a description of the work that was done before the failure in front of the message.
    #[must_use]
    pub fn with_work_done(mut self, work_done: &str) -> Self {
        self.message = format!("{work_done}, but {}", self.message);
        self
    }

    /// Formats the failure for `--json`.
    pub fn to_json(&self) -> Vec<u8> {
        let error = json!({"error": {"code": self.code.as_str(), "message": self.message}});
        // Serializing two texts can't fail.
        common::json::to_vec(&error).unwrap_or_default()
    }

    pub fn no_such_job(message: impl Into<String>) -> Self {
        Self { code: ExitCode::NoSuchJob, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
