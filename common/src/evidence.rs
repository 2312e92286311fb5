//! An agent's report about a job with a clone of its own: the version of Codex, the requested model, and the checks
//! that ran. The job's receipt (`relay receipt`) contains it.

use serde::{Deserialize, Serialize};

/// Maximum number of checks in a report.
pub const MAX_CHECKS: usize = 100;
/// Maximum length of a command line in a report, in bytes. A longer one is truncated, but its digest covers all of it.
pub const MAX_COMMAND: usize = 500;

/// Report of an agent about a job. Sent once, after the last command of the job.
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

/// Report about one check that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckEvidence {
    /// Command line of the check, as one line (≤ [`MAX_COMMAND`]), without secrets.
    pub command: String,
    /// SHA-256 of the whole command line, in hexadecimal.
    pub command_sha256: String,
    /// Exit code; `null` if the check was killed or could not be started.
    pub exit_code: Option<i32>,
    /// SHA-256 of the check's output as it is in the job's log, in hexadecimal.
    pub output_sha256: String,
    /// Length of the check's output, in bytes.
    pub output_bytes: u64,
}

impl CheckEvidence {
    /// Returns true if the check succeeded.
    pub fn has_passed(&self) -> bool {
        self.exit_code == Some(0)
    }
}
