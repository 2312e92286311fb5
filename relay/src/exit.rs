//! Exit codes (never renumbered) and the error that carries one.

use std::fmt;

/// Exit codes of `relay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done; the job completed.
    Done = 0,
    /// The job failed.
    JobFailed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// No such job.
    NoSuchJob = 3,
    /// The relay, the registry or the platform can't be reached.
    Unreachable = 5,
    /// The job still runs.
    StillRunning = 8,
    /// A time limit of the command itself.
    TimeLimit = 124,
    /// Agent or container lost.
    Infrastructure = 125,
    /// The job was cancelled.
    Cancelled = 130,
}

/// Why a command ends without having done its work: one line for people, one code for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What is wrong and what to do, without a line break.
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

    /// No such job.
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
