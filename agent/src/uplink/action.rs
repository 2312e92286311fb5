//! Actions that the state machine of the connection ([`Link`](super::link::Link)) requests.

#![cfg_attr(
    not(feature = "internals"),
    expect(unreachable_pub, reason = "the simulation executes the actions, too")
)]

use std::time::Duration;

use common::ids::JobId;
use common::stream::StreamPart;
use common::wire::{ModelGrant, TerminationCause};
use jiff::Timestamp;

use super::LinkError;
use crate::spool::RunId;

/// Action that follows an input. Actions are executed in order, before the next input is handled.
#[derive(Debug)]
pub enum Action {
    /// Checks for a new configuration; `Input::Configured` follows if there is one.
    CheckConfig,
    /// Connects to the relay; `Input::Connected` or `Input::Failed` follows.
    Connect,
    /// Derives the relay's time from the `Welcome`.
    Synchronize {
        /// Monotonic time at which the hello was created.
        hello_sent: Duration,
        /// Time that the relay sent in its `Welcome`.
        relay_now: Timestamp,
    },
    /// Passes the termination cause from the `Welcome` on to the recovery of interrupted runs.
    SetRecoveryCause {
        /// Reason for the end of the agent's last process, if the relay knows it.
        cause: Option<TerminationCause>,
    },
    /// Changes the spool.
    Spool(SpoolAction),
    /// Accepts or refuses a job; `Input::Started` follows at some later time.
    Start {
        /// Run of the job.
        run: RunId,
        /// Spec of the job.
        spec: String,
        /// The way to the model, if the job's worker reaches the model through the relay.
        model: Option<ModelGrant>,
    },
    /// Extends a limit of a job.
    Extend {
        /// Job to extend.
        job: JobId,
        /// True for the limit of the current step.
        is_step_limit: bool,
        /// Extension in milliseconds.
        by_ms: u64,
    },
    /// Cancels a job.
    Cancel {
        /// Job to cancel.
        job: JobId,
        /// Grace period in milliseconds.
        grace_ms: u64,
    },
    /// Ends the hold of a job.
    Continue(JobId),
    /// Handles a part of a stream.
    Stream {
        /// Number of the stream.
        stream: u32,
        /// Part of the stream.
        part: StreamPart,
    },
    /// Ends and removes a run that the relay has closed.
    Abandon(RunId),
    /// Closes the connection, if there is one, and drops the starts in progress; `Input::Closed` follows.
    Close(LinkError),
}

/// Change of the spool.
#[derive(Debug)]
pub enum SpoolAction {
    /// Continues a run after the data that the relay holds.
    Resume {
        /// Run to continue.
        run: RunId,
        /// Sequence of the last event that the relay holds.
        seq: u64,
        /// Length of the output that the relay holds.
        output_offset: u64,
    },
    /// Acknowledges the events of a run.
    Ack {
        /// Acknowledged run.
        run: RunId,
        /// Sequence of the last event that is acknowledged.
        seq: u64,
    },
    /// Acknowledges the output of a run.
    AckOutput {
        /// Acknowledged run.
        run: RunId,
        /// Length of the output that is acknowledged.
        offset: u64,
    },
}
