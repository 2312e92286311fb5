//! Watcher for requests that commands file.

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::files::dir::RegistryDir;

/// Watcher of the requests folder. Its hints say that the folder has changed, but not how.
pub(super) struct RequestWatcher {
    hints: mpsc::Receiver<()>,
    /// Keeps the channel open if there is no watcher.
    _sender: mpsc::Sender<()>,
    /// Watches until it is dropped.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl RequestWatcher {
    /// Starts to watch the requests folder.
    pub(super) fn new(requests: &RegistryDir) -> Self {
        // A capacity of one is enough, because a second pending hint has no effect.
        let (sender, hints) = mpsc::channel(1);
        let hint_sender = sender.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = hint_sender.try_send(());
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
    pub(super) async fn next_hint(&mut self) {
        // Never `None`: `_sender` keeps the channel open.
        let _ = self.hints.recv().await;
    }
}
