//! Origin of a job: the session that launched the job, and the earlier job that the job follows.

use serde::{Deserialize, Serialize};

use crate::ids::JobId;

/// Origin of a job: the session that launched it, and the earlier job that it follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Session that launched the job; the session is notified when the job ends.
    pub session: Option<Session>,
    /// Earlier job that the job follows (`relay resume`, `relay retry`).
    pub follows: Option<Follows>,
    /// True if the caller waits for the end of the job (`relay run`), so that no completion notice is needed.
    pub attended: bool,
}

/// A session: a conversation with a coding agent on the host (the host agent).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Host agent: `codex` or `claude`. Readers ignore unknown values.
    pub agent: String,
    /// Id of the session; in Codex, the thread id.
    pub id: String,
    /// Folder in which the host agent keeps its sessions (`CODEX_HOME`), unless it is the default.
    pub home: Option<String>,
}

/// Reference to the earlier job that a job follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// Id of the earlier job.
    pub job: JobId,
    /// Kind of follow-up.
    pub how: FollowUp,
}

/// Kind of a job that follows an earlier job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowUp {
    /// A new prompt in the Codex thread of the earlier job (`relay resume`).
    Resume,
    /// A new job for the task of the earlier job (`relay retry`).
    Retry,
}
