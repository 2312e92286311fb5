//! Effects of the core.

use std::path::PathBuf;

use common::event::EventBody;
use common::ids::JobId;
use common::record::JobRecord;
use common::result::ResultState;
use common::wire::{RelayFrame, TerminationCause};

use super::connections::{ConnectionId, ConnectionNumber};
use super::extend::{ExtensionLookup, LimitRequest};
use super::scheduler::AgentId;
use crate::files::atomic::Durability;
use crate::registry::lease::Lease;
use crate::registry::prune::Retention;
use crate::state_dir::saved_state::SavedState;

/// Number of a new connection and the cause of the last container exit, if there was one; or the reason of a refusal.
pub(in crate::daemon) type Admission = Result<Option<TerminationCause>, String>;

/// An effect that the core requests.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::daemon) enum Effect {
    /// Answer the agent that asks for admission.
    Admit(Admission),
    /// Queue a frame. If that fails, end the connection and report it.
    Send {
        to: ConnectionId,
        frame: RelayFrame,
    },
    /// Read the job's spec, assign the job to the agent and send it on the agent's connection, if there is one. A job
    /// without a valid spec ends.
    Offer {
        job: JobId,
        epoch: u32,
        agent: AgentId,
        connection: Option<ConnectionId>,
    },
    /// End a connection.
    Close(ConnectionNumber),
    /// Report which of these agents have no valid token.
    FindRevoked(Vec<AgentId>),
    RevokeTokens,

    /// Report the states of these jobs, which others wait for.
    ReadDependencies(Vec<JobId>),

    /// Open a job that was found in the registry: log the first event of a new one, and repair the record of an old one.
    OpenJob(JobId),
    /// Record an event of the relay itself.
    Record {
        job: JobId,
        body: EventBody,
    },
    /// Remove the job's environment values from its spec.
    DropEnv(JobId),
    /// Remove a connection that has ended from the writer.
    RemoveConnection(ConnectionId),
    /// Wait until everything that was sent to the writer is on disk.
    FlushWriter,

    /// Store the state for the next relay, if it has changed.
    SaveState(Box<SavedState>, Durability),
    /// Write the lease.
    PublishLease(Box<Lease>, Durability),
    /// Set the relay's time scale to the wall clock. The answer is the new scale.
    FollowWallClock,

    /// Remove a request that was applied.
    RemoveRequest(PathBuf),
    /// Remove a request to cancel a job that is not active, unless the job's record exists and can't be read: that job
    /// may be running.
    RemoveCancel {
        path: PathBuf,
        job: JobId,
    },
    /// Remove archived jobs in the background, then the request.
    Prune {
        path: PathBuf,
        keep: Retention,
    },
    /// Advance requests to extend limits.
    ExtendLimit(LimitEffect),
    /// Call the engine of the platform.
    Engine(EngineEffect),

    /// Change the state of a job's result, then remove the request.
    SetResultState {
        path: PathBuf,
        job: JobId,
        /// Commit of the result.
        commit: String,
        state: ResultState,
    },

    /// Deliver the notices of a job that has ended. A job with a clone of its own first gets its result.
    Notify(Box<JobRecord>),
    /// Close the event streams.
    CloseSubscribers,
}

/// Effects of a request to extend a limit.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::daemon) enum LimitEffect {
    /// Run these queries, and report their results.
    ReadExtensionStates(Vec<ExtensionLookup>),
    /// Queue the frame of a request; report success.
    SendRequest { path: PathBuf, to: ConnectionId, frame: RelayFrame },
    /// Rewrite a request; report success.
    RewriteRequest(LimitRequest),
    /// Write the new limit into the request; report success.
    StoreTargetLimit(LimitRequest),
    /// Write the limit into the spec of a queued job, and wait; report success.
    WriteSpecLimit { path: PathBuf, job: JobId, job_ms: u64 },
}

/// Call of the platform's engine. Slow calls are only started and report their outcome later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) enum EngineEffect {
    /// Begin to start the platform.
    StartPlatform,
    /// Begin to stop the platform.
    StopPlatform,
    /// Stop the platform, and wait for it.
    StopPlatformAndWait,
    /// Begin to query the address at which containers reach this host, and listen there.
    OpenGateway,
    /// Check whether the process of an agent of engine `local` runs, and report it.
    FindLocalAgentProcess { reason: String },
}
