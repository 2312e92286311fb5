//! Origin of a job: the session that launched it, and the job that it follows.

use serde::{Deserialize, Serialize};

use crate::ids::JobId;

/// Origin of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Session of the host agent that launched the job; it is notified when the job ends.
    pub session: Option<Session>,
    /// The job that this one follows.
    pub follows: Option<Follows>,
    /// True if the caller stays attached until the end (`relay run`), so that no completion notice is needed.
    pub attended: bool,
}

/// A session of a host agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Host agent: `codex` or `claude`. Readers ignore unknown values.
    pub agent: String,
    /// Id of the session; Codex calls it thread.
    pub id: String,
    /// Folder in which the host agent keeps its sessions (`CODEX_HOME`), unless it is the default.
    pub home: Option<String>,
}

/// Link to a job that this one follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// The followed job.
    pub job: JobId,
    /// Kind of follow-up.
    pub how: FollowUp,
}

/// Kind of follow-up to another job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowUp {
    /// A new prompt in the same Codex thread (`relay resume`).
    Resume,
    /// A new job for the same task (`relay retry`).
    Retry,
}
