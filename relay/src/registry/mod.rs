//! The registry: plain, world-readable files in `platform/workers/` below the project root.
//!
//! ```text
//! relay launch ─ create ─► NAME.N.spec, NAME.N.json ─┐
//! relay cancel ─ requests ─► requests/*.json ────────┼─► daemon: sole writer of everything else
//! relay status │ logs │ events │ wait ◄─ read, watch ─┘
//! ```
//!
//! * [`layout`]: names and paths of the files; [`access`]: creation of the folders, and failures to read or write.
//! * [`create`]: creation of a job, which is durable before it is visible.
//! * [`requests`]: requests of commands to the daemon.
//! * [`heads`]: the fields by which jobs are listed; [`queue`]: the queue, with the reason why each job waits.
//! * [`read`]: records, references to jobs, listings. [`event_log`]: reader of event logs. [`log_file`]: the bounded
//!   log.
//! * [`history`]: all event logs read as one, in [`chunk`]s; [`log_cursor`]: the first event after a cursor in one log.
//! * [`lineage`]: predecessors and successors of a job.
//! * [`lease`]: identity and liveness of the daemon.
//! * [`outbox`]: completion notices to deliver, and the claims on them.
//! * [`sessions`]: state of the sessions of host agents.
//! * [`unseen`]: unclaimed completion notices.
//! * [`prune`]: permanent removal of archived jobs; `workspace_copy`: removal of copies of their logs in workspaces.
//! * [`leftovers`]: removal of temporary files that killed writers left.
//! * [`reserve`]: reserved space for job outcomes on a full disk.

mod access;
pub mod chunk;
pub mod create;
pub mod event_log;
pub mod heads;
pub mod history;
pub mod layout;
pub mod lease;
pub mod leftovers;
pub mod lineage;
pub mod log_cursor;
pub mod log_file;
pub mod outbox;
pub mod prune;
pub mod queue;
pub mod read;
pub mod requests;
pub mod reserve;
pub mod sessions;
pub mod unseen;
mod workspace_copy;

pub use layout::Registry;
