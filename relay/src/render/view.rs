//! What is known beside a job's record.

use common::ids::JobId;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Paint;
use crate::registry::lease::PlatformStatus;

/// Whether a relay holds the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relay {
    /// None does: records are as old as their last event.
    Down,
    /// One does.
    Up(PlatformStatus),
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
