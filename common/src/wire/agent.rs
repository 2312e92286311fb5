//! Frames sent by the agent.

use serde::{Deserialize, Serialize};

use crate::event::{Event, Isolation};
use crate::ids::JobId;
use crate::stream::{GitService, StreamPart};
use crate::vitals::MachineVitals;

/// A frame sent by the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentFrame {
    /// The first frame of a connection.
    Hello(Box<Hello>),
    /// The agent has accepted a job: its spec and first event are on the agent's disk.
    Accepted {
        /// Id of the job.
        job: JobId,
        /// Run of the job.
        epoch: u32,
    },
    /// The agent will not run a job.
    Refused {
        /// Id of the job.
        job: JobId,
        /// Run of the job.
        epoch: u32,
        /// One line that a person can act on.
        reason: String,
        /// True if only a free slot is missing. The job then stays queued.
        busy: bool,
    },
    /// Events of one job, without gaps in their sequence.
    Events {
        /// Id of the job.
        job: JobId,
        /// Run of the job.
        epoch: u32,
        /// Sequence number of the first event in `batch`.
        first_seq: u64,
        /// The events, at most [`super::MAX_BATCH`].
        #[serde(deserialize_with = "crate::bounded::deserialize_list::<_, _, { super::MAX_BATCH }>")]
        batch: Vec<Event>,
    },
    /// A chunk of a job's log.
    Output {
        /// Id of the job.
        job: JobId,
        /// Run of the job.
        epoch: u32,
        /// Start of the chunk, in bytes from the start of the log.
        offset: u64,
        /// Content of the chunk, at most [`super::OUTPUT_CHUNK`].
        bytes: Vec<u8>,
    },
    /// Answer to a ping.
    Pong {
        /// Number of the ping.
        nonce: u64,
    },
    /// New vitals of the agent's machine. Sent from protocol [`super::VITALS_PROTOCOL`] on.
    Vitals(Box<MachineVitals>),
    /// Opens a stream. Sent, like [`Self::Stream`], from protocol [`super::STREAM_PROTOCOL`] on.
    StreamOpen {
        /// Number of the stream. Numbers increase.
        stream: u32,
        /// Job whose repository the stream leads to.
        job: JobId,
        /// Run of the job.
        epoch: u32,
        /// Service of git at the relay.
        service: GitService,
    },
    /// A part of a stream.
    Stream {
        /// Number of the stream.
        stream: u32,
        /// Next part of the stream.
        part: StreamPart,
    },
}

/// Identity and state of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol version that the agent supports.
    pub protocol_min: u32,
    /// Newest protocol version that the agent supports.
    pub protocol_max: u32,
    /// Id of the agent, stable for its state folder.
    pub agent: String,
    /// Version of the agent.
    pub version: String,
    /// Number of slots: maximum number of concurrent jobs.
    pub max_jobs: u32,
    /// Platform of the agent.
    pub platform: Platform,
    /// Every job in the agent's spool: running, or ended and not yet acknowledged.
    #[serde(deserialize_with = "crate::bounded::deserialize_list::<_, _, { super::MAX_RUNS }>")]
    pub jobs: Vec<JobProgress>,
    /// Vitals of the agent's machine, if they were measured. Sent from protocol [`super::VITALS_PROTOCOL`] on.
    pub vitals: Option<Box<MachineVitals>>,
}

impl Hello {
    /// Returns the `Hello` of an agent of this version.
    pub fn new(agent: &str, max_jobs: u32, platform: Platform, jobs: Vec<JobProgress>) -> Self {
        Self {
            protocol_min: super::PROTOCOL_MIN,
            protocol_max: super::PROTOCOL,
            agent: agent.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max_jobs,
            platform,
            jobs,
            vitals: None,
        }
    }
}

/// Platform that an agent runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system and machine, such as `linux x86_64`.
    pub system: String,
    /// Isolation of the agent's workers from its machine.
    pub isolation: Isolation,
    /// Version of Codex, if one was found.
    pub codex: Option<String>,
    /// Reason why no Codex worker can run (none found, too old, no credentials), in one line that a person can act on.
    pub codex_problem: Option<String>,
}

/// Progress of a job in the agent's spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// Id of the job.
    pub job: JobId,
    /// Run of the job.
    pub epoch: u32,
    /// Sequence number of the run's newest event.
    pub last_seq: u64,
}
