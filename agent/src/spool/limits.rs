//! Limits of a run in the spool.

/// Limits, in bytes. Tests use small limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpoolLimits {
    /// Length of a segment at which a new one is started: short enough to read a whole segment at once, long enough to
    /// need few segments.
    pub(super) segment_bytes: u64,
    /// Space reserved after the end of the newest segment. Only the last flush of a run may use it. It is enough for
    /// all pending events and the final events.
    pub(super) reserve_bytes: u64,
    /// Amount of disk space reserved by one call.
    pub(super) preallocate_step: u64,
    /// Part of the reserve that only the final events may use: warnings, cleanup and `finished`, of a few KiB each.
    pub(super) end_reserve_bytes: usize,
    /// Number of pending bytes at which reading from the worker pauses while the disk is full. At most 64 KiB of output
    /// are read at once, so the events of the last read still fit into the reserve.
    pub(super) pending_bytes: usize,
    /// Number of unacknowledged bytes at which reading from the worker pauses: about a million events, more than any
    /// job emits in a day.
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

    /// Returns the maximum number of pending bytes. Any further events are dropped and counted.
    pub(super) fn max_pending_bytes(&self) -> usize {
        usize::try_from(self.reserve_bytes).unwrap_or(usize::MAX) - self.end_reserve_bytes
    }
}
