//! Waiting for files to change.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};

use super::dir::Dir;

/// How often files are looked at where the system can't watch the folder.
const FALLBACK: Duration = Duration::from_millis(200);

/// Names that are kept until they are asked for: more than that, and everything is looked at.
const MOST_NAMES: usize = 4096;

/// What has changed in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Anything may have.
    All,
    /// These names.
    Names(BTreeSet<OsString>),
}

impl Changed {
    fn take(&mut self, event: &notify::Event) {
        match self {
            Self::Names(_) if event.need_rescan() => *self = Self::All,
            Self::Names(names) if names.len() < MOST_NAMES => {
                names.extend(event.paths.iter().filter_map(|path| path.file_name().map(OsString::from)));
            }
            Self::Names(_) => *self = Self::All,
            Self::All => {}
        }
    }
}

/// Wakes when something in a folder changes.
pub struct Watch {
    changes: Receiver<()>,
    /// What has changed since it was last asked for.
    names: Arc<Mutex<Changed>>,
    /// Watches for as long as it lives; `None` where the system refused.
    watcher: Option<notify::RecommendedWatcher>,
}

impl Watch {
    /// Watches a folder of the registry (not what is below its folders). Falls back to looking regularly.
    pub fn folder(dir: &Dir) -> Self {
        // The system watches by path, so what stands there is looked at first: a link leads to a folder of others.
        Self::of(dir.path(), dir.anew().is_there().unwrap_or(false))
    }

    /// The same for a folder that only its owner may write.
    pub fn new(dir: &Path) -> Self {
        Self::of(dir, true)
    }

    fn of(dir: &Path, is_real: bool) -> Self {
        // One place is enough: a wake-up that finds another one waiting has nothing to add.
        let (sender, changes) = sync_channel(1);
        let names = Arc::new(Mutex::new(Changed::Names(BTreeSet::new())));
        let noted = Arc::clone(&names);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Ok(event) = event
                && !event.kind.is_access()
            {
                noted.lock().unwrap_or_else(PoisonError::into_inner).take(&event);
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher
            .ok()
            .filter(|_| is_real)
            .and_then(|mut watcher| watcher.watch(dir, RecursiveMode::NonRecursive).ok().map(|()| watcher));
        Self { changes, names, watcher }
    }

    /// What has changed since the last call; everything where the system can't watch the folder.
    pub fn changed(&self) -> Changed {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = std::mem::replace(&mut *names, Changed::Names(BTreeSet::new()));
        if self.watcher.is_some() { changed } else { Changed::All }
    }

    /// Waits for a change, until `deadline` at the latest. May wake without one.
    ///
    /// Returns whether the deadline is still ahead.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return false;
        }
        // A watched folder is looked at every second too: a queue overflow loses wake-ups.
        let longest = if self.watcher.is_some() { Duration::from_secs(1) } else { FALLBACK };
        let pause = left.map_or(longest, |left| left.min(longest));
        if matches!(self.changes.recv_timeout(pause), Err(RecvTimeoutError::Disconnected)) {
            // No watcher, so nobody can send: the pause has to be made some other way.
            std::thread::park_timeout(pause);
        }
        true
    }
}
