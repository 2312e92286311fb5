//! The spool: everything the relay has not acknowledged yet, on disk.
//!
//! ```text
//! spool/NAME.N.EPOCH/spec.json   the job, as it was started
//!                    events      append-only records: length u32 LE, CRC-32C u32 LE, one event of the wire
//!                    output      the log from its first byte; what is acknowledged is punched out of the file
//! ```
//!
//! Supervisors append, the uplink reads and acknowledges: they meet only here. Disk first, then the bell that wakes
//! the uplink. A run's folder is deleted once its last event and all its output are acknowledged, or the relay wants
//! nothing more of it.
//!
//! * [`store`]: the folder of all runs. * [`run`]: one run. * [`events`], [`output`]: its files.

mod events;
mod output;
mod run;
mod store;

pub(crate) use run::{JobSpool, RunId};
pub(crate) use store::Spool;
