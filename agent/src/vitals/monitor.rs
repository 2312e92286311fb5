//! Periodic measurement of the vitals in a separate thread, so that a call that hangs does not stop the agent.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use common::vitals::MachineVitals;
use tokio::sync::watch;
use tokio::time::timeout;

use super::disk::Disk;
use super::machine::Machine;

/// Time between two measurements: equal to the interval of the relay's heartbeat, which passes the vitals on.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum time to wait for the first measurement: enough even if two disks hang.
const FIRST_TIMEOUT: Duration = Duration::from_millis(2500);
/// Stack size of the measuring thread, in bytes.
const STACK_SIZE: usize = 128 * 1024;

/// Folders that workspaces are in; `None` until they are known.
type Workspaces = Mutex<Option<Vec<PathBuf>>>;

/// Handle of the measuring thread, with the newest vitals of the machine.
#[derive(Debug, Clone)]
pub(crate) struct VitalsMonitor {
    newest: watch::Receiver<Option<MachineVitals>>,
    workspaces: Arc<Workspaces>,
    /// The thread that measures; `None` if it could not be started.
    thread: Option<Thread>,
}

impl VitalsMonitor {
    /// Starts the thread. It begins to measure at the first [`set_workspaces`](Self::set_workspaces), and ends when the
    /// last copy of this monitor is dropped.
    pub(crate) fn start(state: PathBuf) -> Self {
        let (sender, newest) = watch::channel(None);
        let workspaces = Arc::<Workspaces>::default();
        let folders = Arc::clone(&workspaces);
        let work = move || measure(&sender, state, &folders);
        let thread = thread::Builder::new().name("vitals".to_owned()).stack_size(STACK_SIZE).spawn(work);
        let thread = thread.inspect_err(|error| {
            tracing::warn!("this machine's memory and disks are not measured: {error}");
        });
        Self { newest, workspaces, thread: thread.ok().map(|thread| thread.thread().clone()) }
    }

    /// Sets the folders that workspaces are in, and triggers a measurement.
    pub(crate) fn set_workspaces(&self, folders: impl IntoIterator<Item = PathBuf>) {
        let folders = folders.into_iter().collect();
        *self.workspaces.lock().unwrap_or_else(PoisonError::into_inner) = Some(folders);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }

    /// Returns the newest vitals, if they were measured.
    pub(crate) fn newest(&self) -> Option<MachineVitals> {
        *self.newest.borrow()
    }

    /// Returns the newest vitals, which [`next`](Self::next) then does not return again. Waits up to [`FIRST_TIMEOUT`]
    /// for the first measurement.
    pub(crate) async fn wait_for_first(&mut self) -> Option<MachineVitals> {
        let measured = timeout(FIRST_TIMEOUT, self.newest.wait_for(Option::is_some)).await;
        measured.ok()?.ok().and_then(|vitals| *vitals)
    }

    /// Waits for vitals that have not been returned yet. Cancel-safe: they count as returned only when this call
    /// completes.
    pub(crate) async fn next(&mut self) -> MachineVitals {
        loop {
            if self.newest.changed().await.is_err() {
                // The thread could not be started.
                std::future::pending::<()>().await;
            }
            if let Some(vitals) = *self.newest.borrow_and_update() {
                return vitals;
            }
        }
    }
}

/// Measures until no monitor is left.
fn measure(newest: &watch::Sender<Option<MachineVitals>>, state: PathBuf, workspace_folders: &Workspaces) {
    let mut machine = Machine::new();
    let mut state = Disk::new(vec![state]);
    let mut workspaces = Disk::new(Vec::new());
    while !newest.is_closed() {
        let folders = workspace_folders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(folders) = folders {
            if workspaces.folders() != folders {
                workspaces = Disk::new(folders);
            }
            let (state, workspaces) = (state.measure(), workspaces.measure());
            newest.send_replace(Some(MachineVitals { state, workspaces, ..machine.measure() }));
        }
        thread::park_timeout(MEASURE_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn vitals_are_measured_once_the_folders_are_known_and_returned_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut monitor = VitalsMonitor::start(dir.path().to_owned());
        assert_eq!(monitor.newest(), None);
        monitor.set_workspaces([dir.path().to_owned()]);
        let first = monitor.wait_for_first().await.unwrap();
        assert!(first.cores > 0 && first.memory.is_some(), "{first:?}");
        assert!(first.state.is_some() && first.workspaces.is_some(), "{first:?}");
        // The next measurement is due in seconds; a configuration triggers it earlier.
        monitor.set_workspaces([]);
        assert_eq!(monitor.next().await.workspaces, None);
        assert_eq!(monitor.newest().map(|vitals| vitals.workspaces), Some(None));
    }
}
