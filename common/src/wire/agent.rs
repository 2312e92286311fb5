//! Frames sent by the agent.

use serde::{Deserialize, Serialize};

use crate::event::{Event, Isolation};
use crate::ids::JobId;
use crate::stream::{StreamPart, StreamService};
use crate::vitals::MachineVitals;

/// A frame sent by the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentFrame {
    /// The first frame of a connection: identity and state of the agent.
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
        /// Reason, in one line that a person can act on.
        reason: String,
        /// True if only a free slot is missing. The job then stays queued.
        is_busy: bool,
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
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Answer to a ping.
    Pong {
        /// Number of the ping.
        nonce: u64,
    },
    /// New vitals of the agent's machine. This frame exists from protocol [`super::VITALS_PROTOCOL`] on.
    Vitals(Box<MachineVitals>),
    /// Opens a stream. This frame and [`Self::Stream`] exist from protocol [`super::STREAM_PROTOCOL`] on.
    StreamOpen {
        /// Number of the stream, higher than the number of each earlier stream of the connection.
        stream: u32,
        /// Id of the job that the stream serves.
        job: JobId,
        /// Run of the job.
        epoch: u32,
        /// Service that the relay runs at its end of the stream.
        service: StreamService,
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
    /// Progress of every job in the agent's spool: jobs that run, or have ended and are not yet acknowledged.
    #[serde(deserialize_with = "crate::bounded::deserialize_list::<_, _, { super::MAX_RUNS }>")]
    pub jobs: Vec<JobProgress>,
    /// Vitals of the agent's machine, if measured. The field exists from protocol [`super::VITALS_PROTOCOL`] on.
    pub vitals: Option<Box<MachineVitals>>,
}

impl Hello {
    /// Creates the `Hello` of an agent of this program's version, without vitals.
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
