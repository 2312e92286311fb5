//! Context for the display of a job's record.

use common::duration;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Paint;
use crate::registry::lease::{Lease, PlatformStatus};
use crate::registry::queue::Queue;

/// State of the relay of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayState {
    /// No relay holds the registry. Records may be out of date.
    Down,
    /// A relay holds the registry but has not renewed its lease in time. Records may be out of date.
    Silent {
        /// Process id of the relay.
        pid: u32,
        /// Length of the silence, in milliseconds.
        for_ms: u64,
    },
    /// A relay holds the registry and publishes its state.
    Up(PlatformStatus),
}

impl RelayState {
    /// Determines the state of the relay from its lease. A relay that has just started has no lease yet.
    pub fn from_lease(is_held: bool, lease: Option<Lease>, now: Timestamp) -> Self {
        let Some(lease) = lease.filter(|_| is_held) else {
            let detail = "the relay has just started".to_owned();
            return if is_held { Self::Up(PlatformStatus::Starting { detail }) } else { Self::Down };
        };
        match lease.silence(now) {
            Some(silence) => Self::Silent { pid: lease.pid, for_ms: duration::to_millis(silence) },
            None => Self::Up(lease.platform),
        }
    }

    /// Returns true if a relay reports, so that records are up to date.
    pub fn is_reporting(&self) -> bool {
        matches!(self, Self::Up(_))
    }
}

/// Context that a text needs besides the record.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Current time.
    pub now: Timestamp,
    /// Time zone of the reader.
    pub zone: TimeZone,
    /// State of the relay.
    pub relay: RelayState,
    /// Queued and running jobs, for views of queued jobs.
    pub queue: Queue,
    /// Width of the terminal, in columns; `None` without a terminal.
    pub columns: Option<usize>,
    /// Text about failed deliveries of the job's completion notice.
    pub delivery: Option<String>,
    /// Painter of the text.
    pub paint: Paint,
}
