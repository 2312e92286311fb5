//! The sole writer of event logs, records and streamed logs.
//!
//! The writer has a separate thread, because it waits for disks. It takes all queued commands, appends their events to
//! the logs, syncs each log once, and only then refreshes the records, sends receipts and notifies the core: disk, ack,
//! publish. In this way, many events of a busy agent share one sync, and an idle agent does not wait.
//!
//! ```text
//!  commands ─► apply ─► open jobs ─► commit: 1 write  2 sync  3 records  4 receipts  5 changes
//!                                      │ a write or a sync fails
//!                                      ▼
//!                          write_recovery: take back, give up the reserve, rewrite ──► or no receipt, and a reason
//! ```
//!
//! * [`command`]: commands and receipts. [`writer_loop`]: the writer's state and loop.
//! * [`apply`]: commands → open jobs. [`commit`]: open jobs → disk → receipts and changes. [`write_recovery`]: recovery
//!   when that fails.
//! * [`ownership`]: ownership of jobs. [`job`]: an open job. [`log`]: its event log. [`checksums`]: checksums of the
//!   agent's newest events.
//! * [`quarantine`]: jobs whose files fail. [`disk_full`]: handling of a full disk. [`ids`]: event ids.
//! * [`log_repair`]: repairs one job's files. [`archive`]: archives ended jobs.
//! * [`spec`]: changes to a job's spec.

mod apply;
mod archive;
mod checksums;
mod command;
mod commit;
mod disk_full;
mod ids;
mod job;
mod log;
mod log_repair;
mod ownership;
mod quarantine;
mod spec;
mod write_recovery;
mod writer_loop;

pub(super) use command::{Changes, Receipt, Receipts, WriterCommand, WriterHandle};
#[cfg(feature = "internals")]
pub(super) use writer_loop::Writer;
pub(super) use writer_loop::start_writer;

#[cfg(test)]
mod tests;
