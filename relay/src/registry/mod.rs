//! The registry: `platform/workers/` below the project root, plain files that everybody may read.
//!
//! ```text
//! relay launch ─ create ─► NAME.N.spec, NAME.N.json ─┐
//! relay cancel ─ requests ─► requests/*.json ────────┼─► daemon: sole writer of everything else
//! relay status │ logs │ events │ wait ◄─ read, watch ─┘
//! ```
//!
//! * [`dir`]: the folder, held open (`opened`: what is opened below it); [`file_ref`]: a file in it. Nothing here is opened in another way. [`refused`]: what is
//!   not opened, and why. [`staged`]: a file that is written beside its place.
//! * [`layout`]: which file is where.
//! * [`create`]: a new job, durable before it has a number that anybody sees.
//! * [`requests`]: what the command line asks of the daemon.
//! * [`read`]: records, references to jobs, listings. [`event_log`]: reading event logs. [`log_file`]: the bounded log.
//! * [`history`]: all event logs read as one, in [`chunk`]s; [`log_place`]: the place behind a cursor in one of them.
//! * [`kin`]: jobs that go on from one another.
//! * [`lease`]: who is the daemon, and does it live.
//! * [`watch`]: waiting for a file to change. [`atomic`]: replacing a file that only its owner may write. [`write_back`]: writing ahead.
//! * [`outbox`]: ends that are to be delivered, and who was shown them.
//! * [`sessions`]: what is known of the sessions of host agents.
//! * [`ends`]: those that nobody was told of yet.
//! * [`prune`]: removing archived jobs for good; `workspace_copy`: their logs in the workspaces.
//! * [`leftovers`]: what was left behind by writers that were killed.
//! * [`reserve`]: room for the ends of jobs on a full disk.

pub mod atomic;
pub mod chunk;
pub mod create;
pub mod dir;
pub mod ends;
pub mod event_log;
pub mod file_ref;
pub mod history;
pub mod kin;
pub mod layout;
pub mod lease;
pub mod leftovers;
pub mod log_file;
pub mod log_place;
mod opened;
pub mod outbox;
pub mod prune;
pub mod read;
pub mod refused;
pub mod requests;
pub mod reserve;
pub mod sessions;
pub mod staged;
pub mod watch;
mod workspace_copy;
pub mod write_back;

pub use layout::Registry;
