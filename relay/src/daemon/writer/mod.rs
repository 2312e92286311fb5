//! The sole writer of event logs, records and streamed logs.
//!
//! A thread, because it waits for disks. It takes whatever commands have gathered, appends their events to the logs,
//! makes each log durable once, and only then refreshes the records, hands out receipts and tells the core: disk, ack,
//! publish. A busy agent thus shares one sync among many events, a quiet one waits for nothing.
//!
//! ```text
//!  commands ─► apply ─► open jobs ─► commit: 1 write  2 sync  3 records  4 receipts  5 changes
//!                                      │ a write or a sync fails
//!                                      ▼
//!                                    mend: take back, give up the reserve, write anew ──► or no receipt, and a reason
//! ```
//!
//! * [`command`]: what it is asked and what it answers. [`thread`]: its state and its loop.
//! * [`apply`]: commands → open jobs. [`commit`]: open jobs → disk → whoever waits. [`mend`]: when that fails.
//! * [`claims`]: who may speak of a job. [`job`]: one open job. [`log`]: its event log. [`sums`]: what the agent's newest events were.
//! * [`quarantine`]: jobs whose files fail. [`room`]: what is done while the disk is full. [`ids`]: event ids.
//! * [`repair`]: one job's files, made whole. [`recover`]: what a start finds. [`archive`]: ended jobs move away.
//! * [`spec`]: what changes in a job's spec.

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
