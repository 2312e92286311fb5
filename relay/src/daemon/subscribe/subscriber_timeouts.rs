//! Time limits of a subscriber.

use std::time::Duration;

/// Time limits of a subscriber.
#[derive(Debug, Clone, Copy)]
pub(super) struct SubscriberTimeouts {
    /// Time limit for sending one chunk, usually 64 KiB. A subscriber that needs longer hangs or was stopped.
    pub(super) chunk_timeout: Duration,
    /// Time limit for sending the reason of the disconnect.
    pub(super) close_reason_timeout: Duration,
    /// Interval between two keep-alive signals while there are no events.
    pub(super) keep_alive_interval: Duration,
}

impl SubscriberTimeouts {
    /// Default time limits. Proxies close an idle connection after 30 s at the earliest.
    pub(super) const DEFAULT: Self = Self {
        chunk_timeout: Duration::from_secs(10),
        close_reason_timeout: Duration::from_secs(5),
        keep_alive_interval: Duration::from_secs(15),
    };
}
