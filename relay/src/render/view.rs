//! What is known beside a job's record.

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
#[derive(Debug, Clone)]
pub struct View {
    /// The time.
    pub now: Timestamp,
    /// Where the reader is.
    pub zone: TimeZone,
    /// Whether a relay holds the registry.
    pub relay: Relay,
    /// How many jobs are queued in front of this one.
    pub ahead: usize,
    /// Colour.
    pub paint: Paint,
}
