//! The registry: plain, world-readable files in `platform/workers/` below the project root.
//!
//! ```text
//! relay launch ─ create ─► NAME.N.spec, NAME.N.json ─┐
//! relay cancel ─ requests ─► requests/*.json ────────┼─► daemon: sole writer of everything else
//! relay status │ logs │ events │ wait ◄─ read, watch ─┘
//! ```
//!
//! * [`layout`]: names and paths of the files; [`access`]: creation of the folders, and failures of reading and
//!   writing.
//! * [`create`]: creation of a job, durable before its number is visible.
//! * [`requests`]: requests of the command line to the daemon.
//! * [`heads`]: the fields by which jobs are listed; [`queue`]: why each queued job waits.
//! * [`read`]: records, references to jobs, listings. [`event_log`]: reader of event logs. [`log_file`]: the bounded
//!   log.
//! * [`history`]: all event logs read as one, in [`chunk`]s; [`log_cursor`]: the position after a cursor in one of
//!   them.
//! * [`lineage`]: predecessors and successors of a job.
//! * [`lease`]: identity and liveness of the daemon.
//! * [`outbox`]: completion notices to deliver, and the claims on them.
//! * [`sessions`]: state of the sessions of host agents.
//! * [`unseen`]: unclaimed completion notices.
//! * [`prune`]: permanent removal of archived jobs; `workspace_copy`: their logs in the workspaces.
//! * [`leftovers`]: files left behind by killed writers.
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
