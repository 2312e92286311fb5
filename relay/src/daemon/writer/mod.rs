//! The sole writer of event logs, records and the logs with workers' output.
//!
//! The writer has a separate thread, because it waits for disks. It takes all queued commands, appends their events to
//! the logs, and syncs each log once. Only then does it refresh the records, send receipts and notify the core: disk,
//! ack, publish. In this way, many events of a busy agent share one sync, and an idle agent does not wait.
//!
//! ```text
//!  commands ─► apply ─► open jobs ─► commit: 1 write  2 sync  3 records  4 receipts  5 changes
//!                                      │ a write or a sync fails
//!                                      ▼
//!                          write_recovery: truncate, release the reserve, or rewrite ──► else no receipt is sent
//! ```
//!
//! * [`command`]: commands and receipts. [`writer_loop`]: the writer's state and loop.
//! * [`apply`]: applies commands to open jobs. [`commit`]: brings open jobs to the disk, then sends receipts and
//!   changes. [`write_recovery`]: recovers from a failed write or sync.
//! * [`ownership`]: the agent of each job. [`job`]: an open job. [`log`]: the file of an event log. [`checksums`]:
//!   checksums of a job's newest events.
//! * [`quarantine`]: jobs whose files fail. [`disk_full`]: handles a full disk. [`ids`]: ids of events.
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
mod archive_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;
