//! What the agent says.

use serde::{Deserialize, Serialize};

use crate::event::{Event, Isolation};
use crate::ids::JobId;

/// A frame from the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentFrame {
    /// The first frame of a connection.
    Hello(Box<Hello>),
    /// A started job's spec and first event are on the agent's disk.
    Accepted {
        /// Which job.
        job: JobId,
        /// Its run.
        epoch: u32,
    },
    /// The agent will not run a job.
    Refused {
        /// Which job.
        job: JobId,
        /// Its run.
        epoch: u32,
        /// One line that a person can act on.
        reason: String,
        /// Whether the agent is only full: the job stays queued.
        busy: bool,
    },
    /// Events of one job, dense in sequence.
    Events {
        /// Which job.
        job: JobId,
        /// Its run.
        epoch: u32,
        /// Sequence of the first event in `batch`.
        first_seq: u64,
        /// At most [`super::MAX_BATCH`].
        #[serde(deserialize_with = "crate::bounded::list::<_, _, { super::MAX_BATCH }>")]
        batch: Vec<Event>,
    },
    /// A piece of a job's log.
    Output {
        /// Which job.
        job: JobId,
        /// Its run.
        epoch: u32,
        /// Where the piece begins, in bytes from the log's start.
        offset: u64,
        /// At most [`super::OUTPUT_CHUNK`].
        bytes: Vec<u8>,
    },
    /// Answer to a ping.
    Pong {
        /// The ping's number.
        nonce: u64,
    },
}

/// Who the agent is and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol it speaks.
    pub protocol_min: u32,
    /// Newest protocol it speaks.
    pub protocol_max: u32,
    /// Its id, stable for its state folder.
    pub agent: String,
    /// Its version.
    pub version: String,
    /// How many jobs it runs at once.
    pub max_jobs: u32,
    /// What it runs on.
    pub platform: Platform,
    /// Every job in its spool: running, or ended and not yet acknowledged.
    #[serde(deserialize_with = "crate::bounded::list::<_, _, { super::MAX_RUNS }>")]
    pub jobs: Vec<JobProgress>,
}

/// What the agent runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system and machine, such as `linux x86_64`.
    pub system: String,
    /// What separates its workers from that machine.
    pub isolation: Isolation,
    /// Version of Codex, where one was found.
    pub codex: Option<String>,
    /// Why no Codex worker can run (none found, too old, no credentials), in one line to act on.
    pub codex_problem: Option<String>,
}

/// How far the agent has got with a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// Which job.
    pub job: JobId,
    /// Its run.
    pub epoch: u32,
    /// Sequence of its newest event.
    pub last_seq: u64,
}
