//! Limits of a run in the spool.

/// Limits, in bytes. Tests use small ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpoolLimits {
    /// Length at which a new segment is started: short enough to be read at once, long enough to need few segments.
    pub(super) segment_bytes: u64,
    /// Space after the end of the newest segment that only the final events of the run may use: enough for all pending
    /// events and the final ones.
    pub(super) reserve_bytes: u64,
    /// Amount of disk space reserved by one call.
    pub(super) preallocate_step: u64,
    /// Part of the reserve for the final events alone: warnings, cleanup and `finished`, of a few KiB each.
    pub(super) end_reserve_bytes: usize,
    /// Number of pending bytes at which reading from the worker pauses while the disk is full. A worker writes at most
    /// 64 KiB at once, so that output fits into the reserve too.
    pub(super) pending_bytes: usize,
    /// Number of unacknowledged bytes at which reading from the worker pauses: about a million events, more than any
    /// job of a day.
    pub(super) unacked_bytes: u64,
}

impl SpoolLimits {
    pub(super) const DEFAULT: Self = Self {
        segment_bytes: 1024 * 1024,
        reserve_bytes: 512 * 1024,
        preallocate_step: 128 * 1024,
        end_reserve_bytes: 64 * 1024,
        pending_bytes: 256 * 1024,
        unacked_bytes: 256 * 1024 * 1024,
    };

    /// Returns the maximum number of pending bytes. Further events are only counted.
    pub(super) fn max_pending_bytes(&self) -> usize {
        usize::try_from(self.reserve_bytes).unwrap_or(usize::MAX) - self.end_reserve_bytes
    }
}
