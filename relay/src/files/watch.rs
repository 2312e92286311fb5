//! Watch of folders: waits until files change, and returns the names of changed files.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};

use super::dir::RegistryDir;

/// Polling interval if the system can't watch the folder.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum number of changed names that are kept between two calls. Beyond it, the whole folder counts as changed.
const MAX_NAMES: usize = 4096;

/// Entries of a folder that have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedEntries {
    /// Any entry may have changed.
    All,
    /// These entries have changed.
    Names(BTreeSet<OsString>),
}

impl ChangedEntries {
    fn add(&mut self, event: &notify::Event) {
        match self {
            Self::Names(_) if event.need_rescan() => *self = Self::All,
            Self::Names(names) if names.len() < MAX_NAMES => {
                names.extend(event.paths.iter().filter_map(|path| path.file_name().map(OsString::from)));
            }
            Self::Names(_) => *self = Self::All,
            Self::All => {}
        }
    }
}

/// Watcher of the changes in a folder.
pub struct FolderWatch {
    wake_ups: Receiver<()>,
    /// Changes since the last call of `take_changes`.
    changed_entries: Arc<Mutex<ChangedEntries>>,
    /// Active watcher; `None` if the system refused it.
    watcher: Option<notify::RecommendedWatcher>,
}

impl FolderWatch {
    /// Watches a folder of the registry, without its subfolders. Falls back to polling.
    pub fn registry_folder(dir: &RegistryDir) -> Self {
        // The system watches by path, so the path is checked first: a link could lead to a folder of another user.
        Self::start(dir.path(), dir.reopen().exists().unwrap_or(false))
    }

    /// Watches a folder that only its owner may write.
    pub fn new(dir: &Path) -> Self {
        Self::start(dir, true)
    }

    fn start(dir: &Path, may_watch: bool) -> Self {
        // A capacity of one is enough, because a second pending wake-up has no effect.
        let (sender, wake_ups) = sync_channel(1);
        let changed_entries = Arc::new(Mutex::new(ChangedEntries::Names(BTreeSet::new())));
        let shared_entries = Arc::clone(&changed_entries);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Ok(event) = event
                && !event.kind.is_access()
            {
                shared_entries.lock().unwrap_or_else(PoisonError::into_inner).add(&event);
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher
            .ok()
            .filter(|_| may_watch)
            .and_then(|mut watcher| watcher.watch(dir, RecursiveMode::NonRecursive).ok().map(|()| watcher));
        Self { wake_ups, changed_entries, watcher }
    }

    /// Returns the changes since the last call; [`ChangedEntries::All`] if the system can't watch the folder.
    pub fn take_changes(&self) -> ChangedEntries {
        let mut entries = self.changed_entries.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = std::mem::replace(&mut *entries, ChangedEntries::Names(BTreeSet::new()));
        if self.watcher.is_some() { changed } else { ChangedEntries::All }
    }

    /// Waits for a change, until `deadline` at the latest. May wake without a change.
    ///
    /// Returns true while the deadline has not passed.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if remaining == Some(Duration::ZERO) {
            return false;
        }
        // A watched folder is also polled every second, because a queue overflow loses wake-ups.
        let max_pause = if self.watcher.is_some() { Duration::from_secs(1) } else { POLL_INTERVAL };
        let pause = remaining.map_or(max_pause, |remaining| remaining.min(max_pause));
        if matches!(self.wake_ups.recv_timeout(pause), Err(RecvTimeoutError::Disconnected)) {
            // Without a watcher the channel has no sender, so this sleeps instead.
            std::thread::park_timeout(pause);
        }
        true
    }
}
