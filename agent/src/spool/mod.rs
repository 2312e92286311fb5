//! The spool: everything the relay has not acknowledged yet, on disk.
//!
//! ```text
//! spool/NAME.N.EPOCH/spec.json       the job, as it was started
//!                    events.000001   a segment: a header, then a record an event; deleted once it is acknowledged
//!                    output          the log from its first byte; what is acknowledged is punched out of the file
//! spool/NAME.N.EPOCH.corrupt-1       a segment that was damaged, for whoever wants to look
//! ```
//!
//! Supervisors append, the uplink reads and acknowledges: they meet only here. Disk first, then the bell that wakes
//! the uplink. A run's folder is deleted once its last event and all its output are acknowledged, or the relay wants
//! nothing more of it.
//!
//! * [`store`]: the folder of all runs. * [`run`]: one run, and [`run_id`] which. * [`output`]: its log.
//! * [`events`]: its events, with what is [`waiting`] to be written, what is [`reading`] them back, their
//!   [`sizes`], and [`moving`] to other sequences where the relay holds more or less than the files.
//! * [`segment`]: one file of them, with a [`header`] and one [`record`] an event. * [`room`]: disk space that is kept.
//! * [`scan`]: what the bytes of a segment hold (pure). * [`recovery`]: what an earlier process left. * [`repair`]: what is
//!   damaged while the run goes on.
//! * `probe`: segments by hand, for tests of every damage.

mod events;
mod header;
mod moving;
mod output;
#[cfg(feature = "internals")]
pub mod probe;
mod reading;
mod record;
mod recovery;
mod repair;
mod room;
mod run;
mod run_id;
mod scan;
mod segment;
mod sizes;
mod store;
mod waiting;

pub(crate) use reading::Batch;
pub(crate) use record::MAX_SEQ;
pub(crate) use room::is_full;
pub(crate) use run::JobSpool;
pub(crate) use run_id::RunId;
pub(crate) use store::Spool;
