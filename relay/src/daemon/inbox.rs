//! Tells when the command line has filed something.

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::registry::dir::Dir;

/// The hints of a watched folder.
pub(super) struct Inbox {
    hints: mpsc::Receiver<()>,
    /// Keeps the channel open where there is no watcher.
    _sender: mpsc::Sender<()>,
    /// Watches for as long as it lives.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Inbox {
    /// Watches the requests folder.
    pub(super) fn new(requests: &Dir) -> Self {
        // One place is enough: a hint that finds another one waiting has nothing to add.
        let (sender, hints) = mpsc::channel(1);
        let hint = sender.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = hint.try_send(());
            }
        });
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(requests.path(), RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let dir = requests.path().display();
        let watcher = watcher
            .inspect_err(|e| tracing::warn!("{dir} can't be watched ({e}): looking every few seconds"))
            .ok();
        Self { hints, _sender: sender, _watcher: watcher }
    }

    /// Waits for a hint. Cancel-safe, as a channel's `recv` is.
    pub(super) async fn hint(&mut self) {
        // The sender beside it keeps this from ever being `None`.
        let _ = self.hints.recv().await;
    }
}
