//! The end of the relay, as its subscribers hear of it.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells every subscriber.
#[derive(Debug, Clone)]
pub(super) struct Announcement(Arc<watch::Sender<bool>>);

impl Announcement {
    /// Nothing is announced yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Begins the end.
    pub(super) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// For one subscriber.
    pub(super) fn listen(&self) -> Ending {
        Ending(self.0.subscribe())
    }
}

/// One subscriber's side.
pub(super) struct Ending(watch::Receiver<bool>);

impl Ending {
    /// Returns once the end has begun. Cancel-safe.
    pub(super) async fn begun(&mut self) {
        // An announcement that is gone can't tell any more: the daemon has ended without one.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}
