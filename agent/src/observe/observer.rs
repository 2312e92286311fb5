//! Thread that scans the process tree repeatedly while there are subscriptions.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use super::blocked_on;
use super::inspector_credentials::InspectorIds;
use super::scan::Scanner;
use super::snapshot::Snapshot;
use crate::user::UserIds;

/// Minimum time between two scans: a quarter of the shortest limit in use.
const MIN_PAUSE: Duration = Duration::from_millis(250);
/// Maximum time between two scans. An older snapshot would be useless.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Length of the pause after a scan, as a multiple of the scan's CPU time. With 200, scans use 0.5 % of a core.
const PAUSE_FACTOR: u32 = 200;

/// Observer of the process tree below the agent. An agent has one; its clones are handles.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    shared: Arc<ObserverState>,
}

#[derive(Debug)]
struct ObserverState {
    root_pid: u32,
    credentials: InspectorIds,
    demand: Mutex<Demand>,
    /// Wakes the thread after changes of the demand that it has to see immediately.
    demand_changed: Condvar,
    /// Latest snapshot; `None` before the first scan.
    latest: watch::Sender<Option<Arc<Snapshot>>>,
}

/// Demand of all subscriptions: what the next scan has to find.
#[derive(Debug, Default)]
struct Demand {
    /// Processes whose TCP bytes are counted, by subscription.
    watched_by_subscription: HashMap<u64, Vec<u32>>,
    last_subscription_id: u64,
    /// True if a new subscription waits for its first snapshot.
    must_scan_now: bool,
    /// True while the thread exists. The thread ends when no subscription is left.
    is_thread_running: bool,
}

impl Observer {
    /// Creates an observer of everything below this process. `user` is the workers' user, if it differs from the
    /// agent's.
    pub(crate) fn new(user: Option<UserIds>) -> Self {
        let shared = ObserverState {
            root_pid: std::process::id(),
            credentials: InspectorIds(user),
            demand: Mutex::default(),
            demand_changed: Condvar::new(),
            latest: watch::Sender::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns a new subscription. The thread scans at once, then repeatedly until no subscription is left.
    pub(crate) fn subscribe(&self) -> Subscription {
        let latest = self.shared.latest.subscribe();
        let mut demand = self.shared.lock_demand();
        demand.last_subscription_id += 1;
        let id = demand.last_subscription_id;
        demand.watched_by_subscription.insert(id, Vec::new());
        demand.must_scan_now = true;
        self.shared.demand_changed.notify_all();
        if !demand.is_thread_running {
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new()
                .name("observer".to_owned())
                .spawn(move || shared.scan_repeatedly());
            demand.is_thread_running = spawned.is_ok();
            if let Err(error) = spawned {
                tracing::warn!("processes are not observed: {error}");
            }
        }
        drop(demand);
        Subscription { shared: Arc::clone(&self.shared), id, latest }
    }

    /// Describes what a process waits for at this moment, for an error message: `waiting on TCP 10.0.0.1:443
    /// ESTABLISHED`, `sleeping in hrtimer_nanosleep`. Returns `None` if that can't be read. Takes about a millisecond.
    pub(crate) fn blocked_on(&self, pid: u32) -> Option<String> {
        self.shared.credentials.run_as(|| blocked_on::blocked_on(pid))
    }
}

impl ObserverState {
    fn lock_demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Scans until no subscription is left.
    fn scan_repeatedly(&self) {
        self.credentials.adopt();
        let mut scanner = match Scanner::new(self.root_pid) {
            Ok(scanner) => scanner,
            Err(error) => {
                tracing::warn!("processes are not observed: /proc can't be opened: {error}");
                self.lock_demand().is_thread_running = false;
                return;
            }
        };
        while let Some(watched) = self.watched_processes() {
            let cpu_time_before = thread_cpu_time();
            let snapshot = scanner.scan(&watched);
            self.latest.send_replace(Some(Arc::new(snapshot)));
            self.wait_until(
                Instant::now() + pause_after_scan(thread_cpu_time().saturating_sub(cpu_time_before)),
            );
        }
    }

    /// Returns the processes whose TCP bytes the next scan counts, or `None` if the thread must end.
    fn watched_processes(&self) -> Option<Vec<u32>> {
        let mut demand = self.lock_demand();
        demand.must_scan_now = false;
        demand.is_thread_running = !demand.watched_by_subscription.is_empty();
        demand.is_thread_running.then(|| demand.watched_by_subscription.values().flatten().copied().collect())
    }

    /// Waits until `due`, or until a subscription is added or the last one is dropped.
    fn wait_until(&self, due: Instant) {
        let mut demand = self.lock_demand();
        while !demand.must_scan_now && !demand.watched_by_subscription.is_empty() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            demand = self.demand_changed.wait_timeout(demand, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Returns the pause after a scan that took `cpu_cost` of CPU time.
pub(super) fn pause_after_scan(cpu_cost: Duration) -> Duration {
    cpu_cost.saturating_mul(PAUSE_FACTOR).clamp(MIN_PAUSE, MAX_PAUSE)
}

/// Returns the CPU time of this thread.
pub(super) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Receiver of snapshots; a slow one gets only the newest snapshot. Dropping the last subscription ends the scans.
#[derive(Debug)]
pub(crate) struct Subscription {
    shared: Arc<ObserverState>,
    id: u64,
    latest: watch::Receiver<Option<Arc<Snapshot>>>,
}

impl Subscription {
    /// Returns the next snapshot. Cancel-safe: a snapshot that was not returned is returned by the next call.
    pub(crate) async fn next(&mut self) -> Arc<Snapshot> {
        loop {
            if self.latest.changed().await.is_err() {
                // Can't happen while `shared` holds the sender.
                return std::future::pending().await;
            }
            if let Some(snapshot) = self.latest.borrow_and_update().clone() {
                return snapshot;
            }
        }
    }

    /// Counts TCP bytes for these processes and everything below them from now on, instead of the processes of earlier
    /// calls. Used only for network steps, because the descriptors of the processes have to be listed.
    pub(crate) fn watch_network(&self, roots: Vec<u32>) {
        self.shared.lock_demand().watched_by_subscription.insert(self.id, roots);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.lock_demand().watched_by_subscription.remove(&self.id);
        self.shared.demand_changed.notify_all();
    }
}

#[cfg(test)]
#[path = "observer_tests.rs"]
mod tests;
