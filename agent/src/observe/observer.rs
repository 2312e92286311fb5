//! The thread that looks again and again while somebody wants to know.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use super::eyes::Eyes;
use super::scan::Scanner;
use super::snapshot::Snapshot;
use super::waits;
use crate::shim::protocol::Ids;

/// Between two looks at a tree that costs little: a quarter of the shortest limit that anybody sets.
const SHORTEST: Duration = Duration::from_millis(250);
/// Between two looks at most: what is older says nothing about now.
const LONGEST: Duration = Duration::from_secs(2);
/// A look may use one part in this many of a core: 0.5 %.
const SHARE: u32 = 200;

/// Knows the process tree below the agent. One for an agent; clones are handles to it.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: u32,
    eyes: Eyes,
    demand: Mutex<Demand>,
    /// Told of every change of the demand that the thread must hear of at once.
    changed: Condvar,
    /// `None` before the first look.
    found: watch::Sender<Option<Arc<Snapshot>>>,
}

/// Who wants to know what.
#[derive(Debug, Default)]
struct Demand {
    /// By subscription: whose TCP bytes are counted.
    roots: HashMap<u64, Vec<u32>>,
    last: u64,
    /// Somebody came who has seen nothing yet.
    at_once: bool,
    /// Whether the thread is there. It ends when nobody wants to know any more.
    running: bool,
}

impl Observer {
    /// Will look at what is below this process. `user` is the one that the workers run as, if it is another.
    pub(crate) fn new(user: Option<Ids>) -> Self {
        let shared = Shared {
            root: std::process::id(),
            eyes: Eyes(user),
            demand: Mutex::default(),
            changed: Condvar::new(),
            found: watch::Sender::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Looks at once, and then again and again until the last subscription is dropped.
    pub(crate) fn subscribe(&self) -> Subscription {
        let found = self.shared.found.subscribe();
        let mut demand = self.shared.demand();
        demand.last += 1;
        let id = demand.last;
        demand.roots.insert(id, Vec::new());
        demand.at_once = true;
        self.shared.changed.notify_all();
        if !demand.running {
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new().name("observer".to_owned()).spawn(move || shared.run());
            demand.running = spawned.is_ok();
            if let Err(error) = spawned {
                tracing::warn!("processes are not observed: {error}");
            }
        }
        drop(demand);
        Subscription { shared: Arc::clone(&self.shared), id, found }
    }

    /// What a process waits for at this moment, for the reason of an error: `waiting on TCP 10.0.0.1:443 ESTABLISHED`,
    /// `sleeping in hrtimer_nanosleep`. `None` where that can't be read. Takes about a millisecond.
    pub(crate) fn waits_for(&self, pid: u32) -> Option<String> {
        self.shared.eyes.look(|| waits::waits_for(pid))
    }
}

impl Shared {
    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until nobody wants to know.
    fn run(&self) {
        self.eyes.open();
        let mut scanner = match Scanner::new(self.root) {
            Ok(scanner) => scanner,
            Err(error) => {
                tracing::warn!("processes are not observed: /proc can't be opened: {error}");
                self.demand().running = false;
                return;
            }
        };
        while let Some(watched) = self.watched() {
            let before = cpu_time();
            let snapshot = scanner.look(&watched);
            self.found.send_replace(Some(Arc::new(snapshot)));
            self.wait(Instant::now() + pause(cpu_time().saturating_sub(before)));
        }
    }

    /// Whose TCP bytes are counted now; nothing when the thread must end.
    fn watched(&self) -> Option<Vec<u32>> {
        let mut demand = self.demand();
        demand.at_once = false;
        demand.running = !demand.roots.is_empty();
        demand.running.then(|| demand.roots.values().flatten().copied().collect())
    }

    /// Waits until `due`, or until somebody comes or the last one goes.
    fn wait(&self, due: Instant) {
        let mut demand = self.demand();
        while !demand.at_once && !demand.roots.is_empty() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            demand = self.changed.wait_timeout(demand, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// How long to wait after a look that took `cost` of CPU time.
pub(super) fn pause(cost: Duration) -> Duration {
    cost.saturating_mul(SHARE).clamp(SHORTEST, LONGEST)
}

/// CPU time of this thread.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Sees every look, or the newest where it is slower. Dropping it ends the looking if it was the last.
#[derive(Debug)]
pub(crate) struct Subscription {
    shared: Arc<Shared>,
    id: u64,
    found: watch::Receiver<Option<Arc<Snapshot>>>,
}

impl Subscription {
    /// The next look. Cancel-safe: a look that was not given stays the next one.
    pub(crate) async fn next(&mut self) -> Arc<Snapshot> {
        loop {
            if self.found.changed().await.is_err() {
                // Not while `shared` holds the sender.
                return std::future::pending().await;
            }
            if let Some(snapshot) = self.found.borrow_and_update().clone() {
                return snapshot;
            }
        }
    }

    /// From now on TCP bytes are counted for these processes and everything below them: for network steps only, because
    /// it costs a look at their descriptors. Takes the place of what was asked before.
    pub(crate) fn watch_network(&self, roots: Vec<u32>) {
        self.shared.demand().roots.insert(self.id, roots);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.demand().roots.remove(&self.id);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
#[path = "observer_tests.rs"]
mod tests;
