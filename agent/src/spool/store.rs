//! Spool of an agent: the folder of all its runs.

#![cfg_attr(
    not(feature = "internals"),
    expect(unreachable_pub, reason = "the simulation uses the spool, too")
)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::wire::VITALS_PROTOCOL;
use tokio::sync::Notify;

use super::run::JobSpool;
use super::run_id::RunId;
use crate::mask::Masker;
use crate::relay_time::{ClockSource, RelayTime};

type Runs = BTreeMap<RunId, Arc<JobSpool>>;

/// Spool of an agent.
#[derive(Debug)]
pub struct Spool {
    root: PathBuf,
    data_appended: Arc<Notify>,
    run_removed: Notify,
    relay_time: Arc<RelayTime>,
    runs: Mutex<Runs>,
    /// True once there was a run.
    had_run: AtomicBool,
}

impl Spool {
    /// Opens the spool of a state directory, with the runs that earlier processes left in it.
    ///
    /// # Errors
    /// The folder can't be created or read. A run that can't be opened is not an error: it is logged and left alone.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        Self::open_with_clocks(state, ClockSource::Real)
    }

    /// Opens the spool like [`open`](Self::open), with the clocks of `clock_source`.
    ///
    /// # Errors
    /// Same as [`open`](Self::open).
    pub fn open_with_clocks(state: &Path, clock_source: ClockSource) -> io::Result<Self> {
        let root = Self::folder_path(state);
        adopt_older_spool(state, &root)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        let appended = Arc::new(Notify::new());
        let time = Arc::new(RelayTime::new(clock_source));
        let mut runs = Runs::new();
        for entry in fs::read_dir(&root)? {
            let name = entry?.file_name();
            let Some(run) = name.to_str().and_then(RunId::from_folder_name) else { continue };
            match JobSpool::open(&root, run.clone(), Arc::clone(&appended), Arc::clone(&time)) {
                Ok(Some(spool)) => {
                    runs.insert(run, Arc::new(spool));
                }
                Ok(None) => tracing::info!("{run} was never accepted: its files are deleted"),
                Err(error) => {
                    tracing::error!("{run} in the spool can't be opened and is left alone: {error}");
                }
            }
        }
        Ok(Self {
            root,
            had_run: AtomicBool::new(!runs.is_empty()),
            data_appended: appended,
            run_removed: Notify::new(),
            relay_time: time,
            runs: Mutex::new(runs),
        })
    }

    /// Returns the folder of the spool in a state directory.
    pub fn folder_path(state: &Path) -> PathBuf {
        // The folder has the newest protocol version that added events in its name, because events are stored in wire
        // format.
        state.join(format!("spool.v{VITALS_PROTOCOL}"))
    }

    fn lock_runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a run, with its spec on disk. Secrets that `mask` finds in its events are not written.
    ///
    /// # Errors
    /// The file system failed, for example for lack of space.
    pub fn create_run(&self, run: RunId, spec: &str, mask: Arc<Masker>) -> io::Result<Arc<JobSpool>> {
        let (appended, time) = (Arc::clone(&self.data_appended), Arc::clone(&self.relay_time));
        let spool = JobSpool::create(&self.root, run.clone(), spec, mask, appended, time)?;
        let spool = Arc::new(spool);
        self.lock_runs().insert(run, Arc::clone(&spool));
        self.had_run.store(true, Ordering::Relaxed);
        Ok(spool)
    }

    /// Returns the clock for the times of events.
    pub fn relay_time(&self) -> &RelayTime {
        &self.relay_time
    }

    /// Returns one run.
    pub fn get_run(&self, run: &RunId) -> Option<Arc<JobSpool>> {
        self.lock_runs().get(run).cloned()
    }

    /// Returns all runs, in order.
    pub fn all_runs(&self) -> Vec<Arc<JobSpool>> {
        self.lock_runs().values().cloned().collect()
    }

    /// Removes a run and deletes its folder.
    pub fn remove_run(&self, run: &RunId) {
        if let Some(spool) = self.lock_runs().remove(run) {
            spool.remove();
            self.run_removed.notify_waiters();
        }
    }

    /// Waits until no run is left.
    pub(crate) async fn wait_empty(&self) {
        loop {
            // The waiter is registered before the check, so that it misses no removal right after the check.
            let removed = self.run_removed.notified();
            if self.lock_runs().is_empty() {
                return;
            }
            removed.await;
        }
    }

    /// Waits until there was a run, and none is left.
    pub(crate) async fn wait_drained(&self) {
        loop {
            let removed = self.run_removed.notified();
            if self.had_run.load(Ordering::Relaxed) && self.lock_runs().is_empty() {
                return;
            }
            removed.await;
        }
    }

    /// Waits until data was appended after the last call. Cancel-safe: `Notify` stores one permit.
    pub async fn wait_appended(&self) {
        self.data_appended.notified().await;
    }
}

/// Takes over the spool of an older agent by renaming its folder. The events in it can be decoded, because protocol 5
/// only added a kind of event. The older agent could not read the new events, and will not find the folder again.
fn adopt_older_spool(state: &Path, root: &Path) -> io::Result<()> {
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

    #[tokio::test]
    async fn a_spool_is_drained_only_after_its_first_run() {
        use futures_util::FutureExt;

        let dir = tempfile::tempdir().unwrap();
        let run = RunId { job: "demo#1".parse().unwrap(), epoch: 1 };
        let spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.wait_drained().now_or_never(), None);
        spool.create_run(run.clone(), "{}", Arc::default()).unwrap();
        assert_eq!(spool.wait_drained().now_or_never(), None);
        let drained = spool.wait_drained();
        spool.remove_run(&run);
        drained.await;
    }

    #[test]
    fn runs_of_an_agent_of_the_previous_version_are_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunId { job: "demo#1".parse().unwrap(), epoch: 1 };
        let spool = Spool::open(dir.path()).unwrap();
        spool
            .create_run(run.clone(), "{}", Arc::default())
            .unwrap()
            .append(EventBody::Message { text: "a".into() });
        drop(spool);
        fs::rename(Spool::folder_path(dir.path()), dir.path().join("spool.v4")).unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.get_run(&run).map(|run| run.last_seq()), Some(1));
        assert!(!dir.path().join("spool.v4").exists());
    }
}
