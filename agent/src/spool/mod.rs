//! The spool: everything that the relay has not acknowledged yet, on disk.
//!
//! ```text
//! spool/NAME.N.EPOCH/spec.json       the job, as it was started
//!                    events.000001   a segment: a header, then one record per event; deleted once acknowledged
//!                    output          the log from its first byte; acknowledged parts are punched out of the file
//!                    recoveries      its length counts the agent processes that began to recover the run
//! spool/NAME.N.EPOCH.corrupt-1       a damaged segment, kept for inspection
//! ```
//!
//! Supervisors append data; the uplink reads and acknowledges it. They interact only through the spool. Data is written
//! to disk first, then the uplink is woken. A run's folder is deleted once its last event and all its output are
//! acknowledged, or once the relay has closed the run.
//!
//! * [`store`]: the folder of all runs.
//! * [`run`]: one run; [`run_id`]: id of a run; [`delivery`]: the uplink's side of a run.
//! * [`output`]: log of a run.
//! * [`events`]: events of a run; [`pending`]: events not written yet; [`reader`]: reading of stored events;
//!   [`limits`]: limits of a run; [`resequence`]: new sequence numbers, if the relay holds more events or fewer than
//!   the files.
//! * [`segment`]: one file of events, with a [`header`] and one [`record`] per event.
//! * [`preallocate`]: reserved disk space.
//! * [`scan`]: parser of a segment's bytes (pure).
//! * [`recovery`]: recovery of the events of an earlier process.
//! * [`repair`]: repair of damage during a run.
//! * `test_support`: handmade segments for tests of damage, and a reader of all events of a run.

mod delivery;
mod events;
mod header;
mod limits;
mod output;
mod pending;
mod preallocate;
mod reader;
mod record;
mod recovery;
mod repair;
mod resequence;
mod run;
mod run_id;
mod scan;
mod segment;
mod store;
#[cfg(feature = "internals")]
pub mod test_support;

#[cfg_attr(
    not(feature = "internals"),
    expect(unreachable_pub, reason = "the simulation uses them, too")
)]
pub use self::{run::JobSpool, run_id::RunId, store::Spool};
pub(crate) use preallocate::is_disk_full;
pub(crate) use reader::EncodedEvents;
pub(crate) use record::MAX_SEQ;
