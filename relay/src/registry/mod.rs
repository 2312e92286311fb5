//! The registry: plain, world-readable files in `platform/workers/` below the project root.
//!
//! ```text
//! relay launch ─ create ─► NAME.N.spec, NAME.N.json ─┐
//! relay cancel ─ requests ─► requests/*.json ────────┼─► daemon: sole writer of everything else
//! relay status │ logs │ events │ wait ◄─ read, watch ─┘
//! ```
//!
//! * [`dir`]: a folder, held open (`safe_open`: opening its entries); [`file_ref`]: a file in it. Every access to the
//!   registry goes through these. [`refused`]: entries that are not opened, and the reasons. [`staged`]: files that are
//!   written beside their final place.
//! * [`layout`]: names and places of the files.
//! * [`create`]: creation of a job, durable before its number is visible.
//! * [`requests`]: requests of the command line to the daemon.
//! * [`read`]: records, references to jobs, listings. [`event_log`]: reading event logs. [`log_file`]: the bounded log.
//! * [`history`]: all event logs read as one, in [`chunk`]s; [`log_cursor`]: the position after a cursor in one of
//!   them.
//! * [`lineage`]: predecessors and successors of a job.
//! * [`lease`]: identity and liveness of the daemon.
//! * [`watch`]: waiting for a file to change. [`atomic`]: replacing a file that only its owner may write.
//!   [`flush_hint`]: early write-back.
//! * [`outbox`]: completion notices to deliver, and the claims on them.
//! * [`sessions`]: state of the sessions of host agents.
//! * [`unseen`]: unclaimed completion notices.
//! * [`prune`]: permanent removal of archived jobs; `workspace_copy`: their logs in the workspaces.
//! * [`leftovers`]: files left behind by killed writers.
//! * [`reserve`]: reserved space for job outcomes on a full disk.

pub mod atomic;
pub mod chunk;
pub mod create;
pub mod dir;
pub mod event_log;
pub mod file_ref;
pub mod flush_hint;
pub mod history;
pub mod layout;
pub mod lease;
pub mod leftovers;
pub mod lineage;
pub mod log_cursor;
pub mod log_file;
pub mod outbox;
pub mod prune;
pub mod read;
pub mod refused;
pub mod requests;
pub mod reserve;
mod safe_open;
pub mod sessions;
pub mod staged;
pub mod unseen;
pub mod watch;
mod workspace_copy;

pub use layout::Registry;
