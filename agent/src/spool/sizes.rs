//! How much of everything a run may take in the spool.

/// Sizes in bytes. Tests take small ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// A segment that is as long is followed by a new one: short enough to be read back at once, long enough that few
    /// are made.
    pub(super) segment: u64,
    /// Room behind the end of the newest segment that only the last events of the run may use: all that may wait in
    /// memory, and the end itself.
    pub(super) reserve: u64,
    /// Room is taken in such steps, one call each.
    pub(super) step: u64,
    /// Of the reserve, what only the end of the run may use: its warnings, its cleanup and `finished`, each of which has
    /// at most some KiB.
    pub(super) ends: usize,
    /// If so much waits for a full disk, nothing more is read from the worker. A worker writes at most 64 KiB at once, so
    /// what it has written then finds room in the reserve too.
    pub(super) waiting: usize,
    /// If so much is not acknowledged, the same: about a million events, more than any job of a day.
    pub(super) stored: u64,
}

impl Sizes {
    /// Those of the product.
    pub(super) const PRODUCT: Self = Self {
        segment: 1024 * 1024,
        reserve: 512 * 1024,
        step: 128 * 1024,
        ends: 64 * 1024,
        waiting: 256 * 1024,
        stored: 256 * 1024 * 1024,
    };

    /// What may wait before events are counted and not kept.
    pub(super) fn most_waiting(&self) -> usize {
        usize::try_from(self.reserve).unwrap_or(usize::MAX) - self.ends
    }
}
