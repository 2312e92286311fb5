//! The core: the daemon's decisions. Pure: each input and the time go in, effects come out.
//!
//! ```text
//!  connections ─┐                                     ┌─► frames, closed connections, revoked tokens
//!  writer ──────┤             ┌──────────┐            ├─► commands to the writer
//!  engine ──────┼──► Input ──►│   Core   ├──► Effect ─┼─► lease, saved state, request files
//!  files, time ─┘      ▲      └──────────┘     │      ├─► engine calls
//!                      │                       │      └─► completion notices
//!                      └──── answer, before ◄──┘
//!                            the next effect
//! ```
//!
//! Nothing here is async, reads a file or a clock, or holds a channel. Only log messages are written. The daemon's main
//! loop and the simulation run the same core. Effects are executed in order: disk, ack, publish. Some have an answer,
//! which is an input that is handled before the next effect.
//!
//! * [`handle`]: the core, which handles its inputs in one exhaustive match. [`input`]: inputs of the core. [`effect`]:
//!   effects of the core. [`input_context`]: context for handling one input.
//! * [`agents`]: agents that connect, disconnect and answer. [`connections`]: connected agents. [`disconnects`]:
//!   timeouts of disconnected agents.
//! * [`scheduler`]: selects the next job and its agent. [`agent_jobs`]: jobs of agents that come and go. [`capacity`]:
//!   free slots of each agent. [`waiting`]: queued jobs that wait for other jobs ([`dependencies`]), for a folder
//!   ([`folder_guard`]) or for a slot ([`job_queue`]). [`folder_sharing`]: jobs that work in the same folder.
//!   [`job_end`]: final events of jobs that the relay ends itself.
//! * [`account_hold`]: hold of the queue while the account can't use the model. [`held_jobs`]: the jobs that it holds.
//!   [`account_report`]: reports of jobs that it can't. [`own_holds`]: holds of single jobs, because of reports that
//!   are not believed.
//! * [`boxes`]: containers of single jobs. [`box_slots`]: jobs that get one. [`box_changes`]: exits of boxes, and boxes
//!   of an earlier relay.
//! * [`requests`]: requests of commands, new jobs. [`limits`]: requests to extend limits; [`extend`]: decisions about
//!   one request.
//! * [`platform`]: status, lease, attempts to start the platform. [`container`]: exits and pauses of the platform's
//!   container. [`container_exit`]: descriptions of exits.
//! * [`shutdown`]: end of the daemon.

mod account_hold;
#[cfg(test)]
mod account_model;
mod account_report;
mod agent_jobs;
mod agents;
mod box_changes;
mod box_slots;
mod boxes;
#[cfg(test)]
mod boxes_model_tests;
#[cfg(test)]
mod boxes_tests;
mod capacity;
mod connections;
mod container;
mod container_exit;
mod dependencies;
mod disconnects;
mod effect;
mod extend;
mod folder_guard;
mod folder_sharing;
mod handle;
mod held_jobs;
#[cfg(test)]
mod held_jobs_tests;
mod input;
mod input_context;
mod job_end;
mod job_queue;
mod limits;
mod own_holds;
mod platform;
mod requests;
mod scheduler;
mod shutdown;
#[cfg(test)]
mod tests;
mod waiting;

pub(super) use capacity::AgentId;
pub(super) use connections::{Connection, ConnectionId, ConnectionNumber, NewestConnections};
pub(super) use container_exit::describe_pause;
pub(super) use dependencies::DependencyState;
pub(super) use effect::{Admission, Effect, EngineEffect, LimitEffect};
pub(super) use extend::{ExtensionLookup, ExtensionState, LimitRequest};
pub(super) use handle::{Core, CoreSettings, HEARTBEAT_INTERVAL};
pub(super) use input::{BoxChange, ContainerChange, Input};
pub(super) use job_end::{dependency_failed_event, refused_event};
#[cfg(feature = "internals")]
pub(super) use job_queue::GroupLimits;
