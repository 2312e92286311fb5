//! The sole writer of event logs, records and streamed logs.
//!
//! The writer has a thread of its own, because it waits for disks. It takes all commands that have gathered, appends
//! their events to the logs, makes each log durable once, and only then refreshes the records, sends receipts and
//! notifies the core: disk, ack, publish. A busy agent thus shares one sync among many events, and an idle one waits
//! for nothing.
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

pub(super) use command::{Changes, Command, Receipt, Receipts, WriterHandle};
#[cfg(feature = "internals")]
pub(super) use writer_loop::Writer;
pub(super) use writer_loop::start;

#[cfg(test)]
mod tests;
