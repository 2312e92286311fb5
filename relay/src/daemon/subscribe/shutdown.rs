//! Shutdown notification for subscribers.

use std::sync::Arc;

use tokio::sync::watch;

/// Sender of the notification to every subscriber.
#[derive(Debug, Clone)]
pub(super) struct ShutdownSender(Arc<watch::Sender<bool>>);

impl ShutdownSender {
    /// Creates a sender that has announced nothing yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Announces the relay's end.
    pub(super) fn announce(&self) {
        self.0.send_replace(true);
    }

    /// Returns the receiver for one subscriber.
    pub(super) fn subscribe(&self) -> ShutdownReceiver {
        ShutdownReceiver(self.0.subscribe())
    }
}

/// Receiver of one subscriber.
pub(super) struct ShutdownReceiver(watch::Receiver<bool>);

impl ShutdownReceiver {
    /// Waits until the end is announced. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        // A dropped sender also ends the wait: the daemon has ended without an announcement.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}
