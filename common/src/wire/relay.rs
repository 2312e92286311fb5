//! Frames sent by the relay.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::FailureKind;
use crate::ids::JobId;
use crate::stream::StreamPart;

/// A frame sent by the relay.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelayFrame {
    /// The answer to `Hello`.
    Welcome {
        /// Protocol version of the connection.
        protocol: u32,
        /// State, in the registry, of each run that `Hello` names.
        #[serde(deserialize_with = "crate::bounded::deserialize_list::<_, _, { super::MAX_RUNS }>")]
        durable: Vec<Durable>,
        /// Cause of the last exit of the agent's container, if the relay observed it. The agent reports it as the
        /// reason for the outcome of the runs that were interrupted by the exit.
        exit_cause: Option<TerminationCause>,
        /// The relay's time. The agent uses it for the timestamps of jobs that it accepts from now on.
        now: Timestamp,
    },
    /// Requests the start of a job. Idempotent.
    Start {
        /// Id of the job.
        job: JobId,
        /// Run of the job, from 1.
        epoch: u32,
        /// The [`crate::job::JobSpec`] as JSON.
        spec: String,
    },
    /// Requests the end of a job. Idempotent.
    Cancel {
        /// Id of the job.
        job: JobId,
        /// Grace period from now until the last process is killed, in milliseconds.
        grace_ms: u64,
    },
    /// Acknowledges that all events of a run up to `seq` are on disk.
    Ack {
        /// Id of the job.
        job: JobId,
        /// Run of the job.
        epoch: u32,
        /// Sequence number of the newest durable event.
        seq: u64,
    },
    /// Acknowledges that the registry has the log of a run up to `offset`.
    OutputAck {
        /// Id of the job.
        job: JobId,
        /// Run of the job.
        epoch: u32,
        /// Offset, in bytes from the start of the log.
        offset: u64,
    },
    /// Requests a pong.
    Ping {
        /// Number of the ping, repeated in the pong.
        nonce: u64,
    },
    /// Extends a limit of a running job.
    Extend {
        /// Id of the job.
        job: JobId,
        /// True for the limit of the active step, false for that of the whole job.
        step: bool,
        /// Extension, in milliseconds.
        by_ms: u64,
    },
    /// A part of a stream that the agent has opened.
    Stream {
        /// Number of the stream.
        stream: u32,
        /// Next part of the stream.
        part: StreamPart,
    },
    /// Requests the start of a job whose worker reaches the model through the relay. Idempotent. This frame exists from
    /// protocol [`super::MODEL_PROTOCOL`] on.
    StartWithModel {
        /// Id of the job.
        job: JobId,
        /// Run of the job, from 1.
        epoch: u32,
        /// The [`crate::job::JobSpec`] as JSON.
        spec: String,
        /// Secret and settings for the way to the model.
        model: ModelGrant,
    },
    /// Ends the hold of a job, if it is held: its worker goes on in its thread. This frame exists from protocol
    /// [`super::HOLD_PROTOCOL`] on.
    Continue {
        /// Id of the job.
        job: JobId,
    },
}

/// Access of a worker to the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelGrant {
    /// Secret that the worker presents in place of the model's key.
    pub token: ModelToken,
    /// The user's settings about retries.
    pub retries: RetrySettings,
    /// True if the model's server is one of Azure: Codex has to know, because it shapes its requests differently.
    pub is_azure: bool,
}

/// Codex's settings about failed requests to the model; `None` for its own default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrySettings {
    /// Number of times that a request is repeated.
    pub request_max_retries: Option<u64>,
    /// Number of times that an interrupted answer is requested again.
    pub stream_max_retries: Option<u64>,
    /// Time without an event after which an answer counts as interrupted, in milliseconds.
    pub stream_idle_timeout_ms: Option<u64>,
}

/// Secret of one run of a job. Its worker presents it to the relay in place of the model's key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelToken(String);

impl ModelToken {
    /// Creates a token from its text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the text of the token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// Implemented by hand so that no token can get into a log.
impl fmt::Debug for ModelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelToken(…)")
    }
}

// Implemented by hand so that no environment value of a spec can get into a log.
impl fmt::Debug for RelayFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome { protocol, durable, exit_cause, now } => {
                write!(f, "Welcome {{ {protocol}, durable: {durable:?}, cause: {exit_cause:?}, now: {now} }}")
            }
            Self::Start { job, epoch, spec } => write!(f, "Start {{ {job}, {epoch}, {} bytes }}", spec.len()),
            Self::StartWithModel { job, epoch, spec, .. } => {
                write!(f, "StartWithModel {{ {job}, {epoch}, {} bytes }}", spec.len())
            }
            Self::Cancel { job, grace_ms } => write!(f, "Cancel {{ {job}, grace_ms: {grace_ms} }}"),
            Self::Ack { job, epoch, seq } => write!(f, "Ack {{ {job}, {epoch}, seq: {seq} }}"),
            Self::OutputAck { job, epoch, offset } => {
                write!(f, "OutputAck {{ {job}, {epoch}, offset: {offset} }}")
            }
            Self::Ping { nonce } => write!(f, "Ping {{ {nonce} }}"),
            Self::Extend { job, step, by_ms } => {
                write!(f, "Extend {{ {job}, step: {step}, by_ms: {by_ms} }}")
            }
            Self::Continue { job } => write!(f, "Continue {{ {job} }}"),
            Self::Stream { stream, part } => match part {
                StreamPart::Data(bytes) => write!(f, "Stream {{ {stream}, {} bytes }}", bytes.len()),
                part => write!(f, "Stream {{ {stream}, {part:?} }}"),
            },
        }
    }
}

/// State of one run of a job in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// Id of the job.
    pub job: JobId,
    /// Run of the job.
    pub epoch: u32,
    /// Sequence number of the newest durable event; 0 if there is none.
    pub seq: u64,
    /// Length of the stored log, in bytes from its start.
    pub output: u64,
    /// True if the relay accepts no more data for the run: the job is unknown to it or has ended.
    pub closed: bool,
}

/// Cause of the exit of the container that an agent runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminationCause {
    /// Kind of the failure: [`FailureKind::ContainerExited`] or [`FailureKind::OomKilled`].
    pub kind: FailureKind,
    /// Description of the cause, in one line that a person can act on.
    pub message: String,
    /// Exit code of the container, if the engine reported it.
    pub exit_code: Option<i32>,
}
