//! All runs in the spool.

#![cfg_attr(not(feature = "internals"), expect(unreachable_pub, reason = "the simulation uses it, too"))]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::wire::{PROTOCOL, VITALS_PROTOCOL};
use tokio::sync::Notify;

use super::run::JobSpool;
use super::run_id::RunId;
use crate::mask::Masker;
use crate::relay_time::{Clocks, RelayTime};

type Runs = BTreeMap<RunId, Arc<JobSpool>>;

/// Folder of the spool.
#[derive(Debug)]
pub struct Spool {
    root: PathBuf,
    appended: Arc<Notify>,
    removed: Notify,
    time: Arc<RelayTime>,
    runs: Mutex<Runs>,
}

impl Spool {
    /// Opens the spool of a state directory, with the runs that earlier processes left in it.
    ///
    /// # Errors
    /// The folder can't be created or read. A run that can't be opened is set aside and reported.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        Self::open_with_clocks(state, Clocks::Real)
    }

    /// Opens the spool like [`open`](Self::open), on a machine that has these clocks.
    ///
    /// # Errors
    /// Same as [`open`](Self::open).
    pub fn open_with_clocks(state: &Path, machine: Clocks) -> io::Result<Self> {
        let root = Self::folder(state);
        adopt_older(state, &root)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        let appended = Arc::new(Notify::new());
        let time = Arc::new(RelayTime::new(machine));
        let mut runs = Runs::new();
        for entry in fs::read_dir(&root)? {
            let name = entry?.file_name();
            let Some(run) = name.to_str().and_then(RunId::from_folder) else { continue };
            match JobSpool::open(&root, run.clone(), Arc::clone(&appended), Arc::clone(&time)) {
                Ok(Some(spool)) => {
                    runs.insert(run, Arc::new(spool));
                }
                Ok(None) => tracing::info!("{run} was never accepted: what there was of it is deleted"),
                Err(error) => {
                    tracing::error!("{run} in the spool can't be opened and is left alone: {error}");
                }
            }
        }
        Ok(Self { root, appended, removed: Notify::new(), time, runs: Mutex::new(runs) })
    }

    /// Returns the folder of the spool in a state directory.
    pub fn folder(state: &Path) -> PathBuf {
        // Events are stored as on the wire: those of another protocol version would be misread.
        state.join(format!("spool.v{PROTOCOL}"))
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a run, with its spec on disk. Secrets that `mask` finds in its events are not written.
    ///
    /// # Errors
    /// The file system failed, for example for lack of space.
    pub fn create(&self, run: RunId, spec: &str, mask: Arc<Masker>) -> io::Result<Arc<JobSpool>> {
        let (appended, time) = (Arc::clone(&self.appended), Arc::clone(&self.time));
        let spool = JobSpool::create(&self.root, run.clone(), spec, mask, appended, time)?;
        let spool = Arc::new(spool);
        self.lock().insert(run, Arc::clone(&spool));
        Ok(spool)
    }

    /// Returns the clock for the times of events.
    pub fn time(&self) -> &RelayTime {
        &self.time
    }

    /// Returns one run.
    pub fn get(&self, run: &RunId) -> Option<Arc<JobSpool>> {
        self.lock().get(run).cloned()
    }

    /// Returns all runs, in order.
    pub fn all(&self) -> Vec<Arc<JobSpool>> {
        self.lock().values().cloned().collect()
    }

    /// Removes a run and deletes its folder.
    pub fn remove(&self, run: &RunId) {
        if let Some(spool) = self.lock().remove(run) {
            spool.remove();
            self.removed.notify_waiters();
        }
    }

    /// Waits until no run is left.
    pub(crate) async fn wait_empty(&self) {
        loop {
            // Registered before the check, so that a removal in between is not missed.
            let removed = self.removed.notified();
            if self.lock().is_empty() {
                return;
            }
            removed.await;
        }
    }

    /// Waits until something was appended since the last call. Cancel-safe: `Notify` stores one permit.
    pub async fn wait_appended(&self) {
        self.appended.notified().await;
    }
}

/// Takes over the spool of an older version of the agent: protocol 5 only added a kind of event. The older version does
/// not find it again, and could not read it.
fn adopt_older(state: &Path, root: &Path) -> io::Result<()> {
    let older = state.join(format!("spool.v{}", VITALS_PROTOCOL - 1));
    if root.exists() {
        return Ok(());
    }
    match fs::rename(older, root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use common::event::EventBody;

    use super::*;

    #[test]
    fn runs_of_the_version_before_are_delivered_by_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunId { job: "demo#1".parse().unwrap(), epoch: 1 };
        let spool = Spool::open(dir.path()).unwrap();
        spool
            .create(run.clone(), "{}", Arc::default())
            .unwrap()
            .append(EventBody::Message { text: "a".into() });
        drop(spool);
        fs::rename(Spool::folder(dir.path()), dir.path().join("spool.v4")).unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.get(&run).map(|run| run.last_seq()), Some(1));
        assert!(!dir.path().join("spool.v4").exists());
    }
}
