//! What the relay says.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::FailureKind;
use crate::ids::JobId;

/// A frame from the relay.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelayFrame {
    /// The answer to `Hello`.
    Welcome {
        /// The version both will speak.
        protocol: u32,
        /// What the registry holds of each job named in `Hello`.
        #[serde(deserialize_with = "crate::bounded::list::<_, _, { super::MAX_RUNS }>")]
        durable: Vec<Durable>,
        /// How the agent's last life ended, where the relay saw it: runs that it cut off end for this reason.
        fate: Option<Fate>,
        /// The relay's time. The agent stamps the events of jobs that it takes from then on with it.
        now: Timestamp,
    },
    /// Run a job. Repeating it is harmless.
    Start {
        /// Which job.
        job: JobId,
        /// Its run, from 1.
        epoch: u32,
        /// The [`crate::job::JobSpec`] as JSON.
        spec: String,
    },
    /// End a job. Repeating it is harmless.
    Cancel {
        /// Which job.
        job: JobId,
        /// From now to the last process killed, in milliseconds.
        grace_ms: u64,
    },
    /// Every event up to this one is on disk.
    Ack {
        /// Which job.
        job: JobId,
        /// Its run.
        epoch: u32,
        /// Sequence of the newest durable event.
        seq: u64,
    },
    /// The log up to this offset is in the registry.
    OutputAck {
        /// Which job.
        job: JobId,
        /// Its run.
        epoch: u32,
        /// In bytes from the log's start.
        offset: u64,
    },
    /// Asks for a sign of life.
    Ping {
        /// Comes back in the pong.
        nonce: u64,
    },
    /// Move a limit that runs.
    Extend {
        /// Which job.
        job: JobId,
        /// Whether the limit of the step that runs is meant, and not that of the whole job.
        step: bool,
        /// By how much, in milliseconds.
        by_ms: u64,
    },
}

// By hand, so that no environment value of a spec can get into a log.
impl fmt::Debug for RelayFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome { protocol, durable, fate, now } => {
                write!(f, "Welcome {{ {protocol}, durable: {durable:?}, fate: {fate:?}, now: {now} }}")
            }
            Self::Start { job, epoch, spec } => write!(f, "Start {{ {job}, {epoch}, {} bytes }}", spec.len()),
            Self::Cancel { job, grace_ms } => write!(f, "Cancel {{ {job}, grace_ms: {grace_ms} }}"),
            Self::Ack { job, epoch, seq } => write!(f, "Ack {{ {job}, {epoch}, seq: {seq} }}"),
            Self::OutputAck { job, epoch, offset } => {
                write!(f, "OutputAck {{ {job}, {epoch}, offset: {offset} }}")
            }
            Self::Ping { nonce } => write!(f, "Ping {{ {nonce} }}"),
            Self::Extend { job, step, by_ms } => {
                write!(f, "Extend {{ {job}, step: {step}, by_ms: {by_ms} }}")
            }
        }
    }
}

/// What the registry holds of one run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// Which job.
    pub job: JobId,
    /// Its run.
    pub epoch: u32,
    /// Sequence of the newest durable event; 0 for none.
    pub seq: u64,
    /// Bytes of the log, from its start.
    pub output: u64,
    /// Whether the registry wants nothing more of it: the job is unknown or has ended there.
    pub closed: bool,
}

/// How the agent's container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// [`FailureKind::ContainerExited`] or [`FailureKind::OomKilled`].
    pub kind: FailureKind,
    /// One line that a person can act on.
    pub message: String,
    /// Exit code of the container, where the engine told it.
    pub exit_code: Option<i32>,
}
