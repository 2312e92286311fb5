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
//!                                    mend: take back, give up the reserve, rewrite ──► or no receipt, and a reason
//! ```
//!
//! * [`command`]: commands and receipts. [`thread`]: the writer's state and loop.
//! * [`apply`]: commands → open jobs. [`commit`]: open jobs → disk → receipts and changes. [`mend`]: recovery when that
//!   fails.
//! * [`claims`]: ownership of jobs. [`job`]: an open job. [`log`]: its event log. [`sums`]: checksums of the agent's
//!   newest events.
//! * [`quarantine`]: jobs whose files fail. [`room`]: handling of a full disk. [`ids`]: event ids.
//! * [`repair`]: repairs one job's files. [`recover`]: scans the registry at startup. [`archive`]: archives ended jobs.
//! * [`spec`]: changes to a job's spec.

mod apply;
mod archive;
mod claims;
mod command;
mod commit;
mod ids;
mod job;
mod log;
mod mend;
mod quarantine;
mod recover;
mod repair;
mod room;
mod spec;
mod sums;
mod thread;

pub(super) use command::{Changes, Command, Receipt, WriterHandle};
#[cfg(feature = "internals")]
pub(super) use thread::Writer;
pub(super) use thread::start;

#[cfg(test)]
mod tests;
