//! Effects that the core requests from the daemon.

use std::path::PathBuf;

use common::event::EventBody;
use common::ids::JobId;
use common::record::JobRecord;
use common::result::ResultState;
use common::wire::{RelayFrame, TerminationCause};

use super::capacity::AgentId;
use super::connections::{ConnectionId, ConnectionNumber};
use super::extend::{ExtensionLookup, LimitRequest};
use crate::files::atomic::Durability;
use crate::job_box::BoxId;
use crate::registry::lease::Lease;
use crate::registry::prune::Retention;
use crate::state_dir::saved_state::SavedState;

/// Admission of an agent, with the cause of its container's last exit, if there was one; or the reason of a refusal.
pub(in crate::daemon) type Admission = Result<Option<TerminationCause>, String>;

/// An effect that the core requests.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::daemon) enum Effect {
    /// Answer the agent that asks for admission.
    Admit(Admission),
    /// Queue a frame for an agent's connection. If that fails, report it.
    Send { to: ConnectionId, frame: RelayFrame },
    /// Read a job's spec, assign the job to an agent and send it on the connection, if any. End a job without a spec.
    Offer { job: JobId, epoch: u32, agent: AgentId, connection: Option<ConnectionId> },
    /// End a connection.
    Close(ConnectionNumber),
    /// Report which of these agents have no valid token.
    FindRevoked(Vec<AgentId>),
    /// Revoke the tokens of all agents.
    RevokeTokens,

    /// Report the states of these jobs, which other jobs wait for.
    ReadDependencies(Vec<JobId>),

    /// Open a job that was found in the registry: log the first event of a new job, or repair an old job's record.
    OpenJob(JobId),
    /// Record an event of the relay itself.
    Record { job: JobId, body: EventBody },
    /// Read a job's spec. If the job has expectations, record a warning that the other job, which works in the same
    /// folder, may meet them.
    WarnOfSharedExpectations { job: JobId, other: JobId },
    /// Remove the job's environment values from its spec.
    RemoveEnvValues(JobId),
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
    RemoveCancel { path: PathBuf, job: JobId },
    /// Remove archived jobs in the background, then the request.
    Prune { path: PathBuf, keep: Retention },
    /// Execute an effect of a request to extend a limit.
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

    /// Deliver the notices of a job that has ended. For a job with a clone of its own, publish the result first.
    Notify(Box<JobRecord>),
    /// Close the event streams.
    CloseSubscribers,
}

/// Effect of a request to extend a limit.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::daemon) enum LimitEffect {
    /// Read the job states that these queries ask for, and report them.
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

/// Call of the platform's engine. Slow calls run in the background and report their outcome later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) enum EngineEffect {
    /// Start the platform in the background. `has_jobs` is true if jobs may be running on it.
    StartPlatform { has_jobs: bool },
    /// Stop the platform in the background.
    StopPlatform,
    /// Stop the platform, and wait until it has stopped.
    StopPlatformAndWait,
    /// In the background, query the address at which containers reach this host, and listen there.
    OpenGateway,
    /// Start the box of a job in the background. If it exists, it is used.
    StartBox(BoxId),
    /// Start a box that has exited, in the background, so that its agent delivers what it has. A new box would have
    /// nothing of that.
    RestartBox(BoxId),
    /// Remove a box in the background. Before, keep the Codex threads in it.
    RemoveBox(BoxId),
    /// Report whether the process of a local agent is running. `reason` says why the agent's connection ended.
    FindLocalAgentProcess { reason: String },
}
