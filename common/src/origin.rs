//! Where a job comes from: who asked for it, and which job it goes on from.

use serde::{Deserialize, Serialize};

use crate::ids::JobId;

/// Where a job comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The session of the host agent that launched it, to be told of its end.
    pub session: Option<Session>,
    /// The job it follows.
    pub follows: Option<Follows>,
    /// Whether its caller stays with it to the end (`relay run`), so that the end need not be delivered.
    pub attended: bool,
}

/// A session of a host agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Which program: `codex` or `claude`. A reader passes over what it doesn't know.
    pub agent: String,
    /// The session's id; Codex calls it thread.
    pub id: String,
    /// Where that program keeps its sessions (`CODEX_HOME`), where it is not the usual place.
    pub home: Option<String>,
}

/// A job that goes on from another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// The other one.
    pub job: JobId,
    /// In which way.
    pub how: FollowUp,
}

/// How a job goes on from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowUp {
    /// A new prompt in the same Codex thread (`relay resume`).
    Resume,
    /// The same task once more (`relay retry`).
    Retry,
}
