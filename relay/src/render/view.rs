//! What is known beside a job's record.

use common::duration;
use common::ids::JobId;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Paint;
use crate::registry::lease::{Lease, PlatformStatus};

/// Whether a relay holds the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relay {
    /// None does: records are as old as their last event.
    Down,
    /// One does, and has said nothing for long: records are as old as their last event.
    Silent {
        /// Its process id.
        pid: u32,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// One does.
    Up(PlatformStatus),
}

impl Relay {
    /// The relay that holds the registry, by its lease; one that has just started has none yet.
    pub fn of(is_held: bool, lease: Option<Lease>, now: Timestamp) -> Self {
        let Some(lease) = lease.filter(|_| is_held) else {
            let detail = "the relay has just been started".to_owned();
            return if is_held { Self::Up(PlatformStatus::Starting { detail }) } else { Self::Down };
        };
        match lease.silence(now) {
            Some(silence) => Self::Silent { pid: lease.pid, for_ms: duration::millis(silence) },
            None => Self::Up(lease.platform),
        }
    }

    /// Whether records are as new as they can be.
    pub fn is_heard(&self) -> bool {
        matches!(self, Self::Up(_))
    }
}

/// Everything a text needs that is not in the record.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The time.
    pub now: Timestamp,
    /// Where the reader is.
    pub zone: TimeZone,
    /// Whether a relay holds the registry.
    pub relay: Relay,
    /// Those that are queued, the next one first, where several jobs are looked at.
    pub queue: Vec<JobId>,
    /// How many jobs are queued in front of one that is not in `queue`.
    pub ahead: usize,
    /// Columns of the terminal that shows it; `None` where there is none.
    pub columns: Option<usize>,
    /// How the delivery of its end is, where that is no success.
    pub delivery: Option<String>,
    /// Colour.
    pub paint: Paint,
}
