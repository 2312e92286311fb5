//! An agent's report of what it ran for a job with a clone of its own: the part of a receipt that only the agent knows.

use serde::{Deserialize, Serialize};

/// Maximum number of checks in a report.
pub const MAX_CHECKS: usize = 100;
/// Maximum length of a command line in a report, in bytes. The digest covers the whole line.
pub const MAX_COMMAND: usize = 500;

/// Report of an agent. Sent once, after the last command of the job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Version of Codex; `null` for a job of another runner.
    pub codex_version: Option<String>,
    /// Requested model; `null` for Codex's own default.
    pub model: Option<String>,
    /// The checks that ran, in order, at most [`MAX_CHECKS`].
    #[serde(deserialize_with = "crate::bounded::deserialize_list::<_, _, MAX_CHECKS>")]
    pub checks: Vec<CheckEvidence>,
}

/// One check that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckEvidence {
    /// Command line, one line (≤ [`MAX_COMMAND`]), without secrets.
    pub command: String,
    /// SHA-256 of the command line, in hexadecimal.
    pub command_sha256: String,
    /// Exit code; `null` if the check was killed or could not be started.
    pub exit_code: Option<i32>,
    /// SHA-256 of its output as it is in the log, in hexadecimal.
    pub output_sha256: String,
    /// Length of that output, in bytes.
    pub output_bytes: u64,
}

impl CheckEvidence {
    /// Returns true if the check succeeded.
    pub fn has_passed(&self) -> bool {
        self.exit_code == Some(0)
    }
}
