//! Limits of a run in the spool.

/// Limits, in bytes. Tests use small ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpoolLimits {
    /// Length at which a new segment is started: short enough to be read back at once, long enough that few are made.
    pub(super) segment: u64,
    /// Space after the end of the newest segment that only the last events of the run may use: enough for all that
    /// may wait in memory, and the end itself.
    pub(super) reserve: u64,
    /// Amount of disk space reserved by one call.
    pub(super) step: u64,
    /// Part of the reserve that only the end of the run may use: its warnings, its cleanup and `finished`, each of
    /// which has at most some KiB.
    pub(super) end_reserve: usize,
    /// Number of bytes waiting for a full disk at which reading from the worker pauses. A worker writes at most 64 KiB
    /// at once, so what it has written by then fits into the reserve, too.
    pub(super) pending: usize,
    /// Number of unacknowledged bytes at which reading from the worker pauses: about a million events, more than any
    /// job of a day.
    pub(super) stored: u64,
}

impl SpoolLimits {
    pub(super) const PRODUCT: Self = Self {
        segment: 1024 * 1024,
        reserve: 512 * 1024,
        step: 128 * 1024,
        end_reserve: 64 * 1024,
        pending: 256 * 1024,
        stored: 256 * 1024 * 1024,
    };

    /// Returns the bytes that may wait before further events are counted and not kept.
    pub(super) fn max_pending(&self) -> usize {
        usize::try_from(self.reserve).unwrap_or(usize::MAX) - self.end_reserve
    }
}
