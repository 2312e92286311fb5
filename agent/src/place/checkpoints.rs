//! Pushes that are made while a job runs: new commits, so that they survive a lost machine, and snapshots of the work
//! tree, so that `relay diff` shows what the worker is doing.

use std::sync::Arc;
use std::time::Duration;

use common::event::EventBody;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::git::{PlaceGit, PushError, Snapshot};
use crate::spool::JobSpool;

/// Time between two checks of `HEAD`. A check reads two small files.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum time between two pushes.
const PUSH_INTERVAL: Duration = Duration::from_secs(2);
/// Minimum time between two snapshots until the first change, so that a user soon sees that change.
const FIRST_CHANGE_INTERVAL: Duration = Duration::from_millis(750);
/// Time between two snapshots of a job without new events and output. Snapshots go on: a silent command may
/// still write files.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// Handle of the task that pushes new commits and snapshots.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    stop: oneshot::Sender<()>,
    task: JoinHandle<PushState>,
}

/// State of the job's result at the relay.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct PushState {
    /// Commit that was pushed last.
    pub(crate) commit: Option<String>,
}

impl Checkpoints {
    /// Starts the task. Warnings become events of the job.
    pub(crate) fn start(git: PlaceGit, spool: Arc<JobSpool>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(push_new_commits(git, spool, stopped)) }
    }

    /// Stops the task, and a push that is under way. Returns what was pushed.
    pub(crate) async fn stop(self) -> PushState {
        // An error would mean that the task has panicked.
        let _ = self.stop.send(());
        self.task.await.unwrap_or_default()
    }
}

async fn push_new_commits(
    git: PlaceGit,
    spool: Arc<JobSpool>,
    mut stopped: oneshot::Receiver<()>,
) -> PushState {
    let mut state = CheckpointState::new(&git);
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Stopping drops a push, because the end of the job pushes again and must not wait for a connection twice.
        tokio::select! {
            _ = &mut stopped => return state.pushed,
            () = async { ticks.tick().await; state.check(&git, &spool).await } => {}
        }
    }
}

/// State of the last push, which decides about the next one.
struct CheckpointState {
    pushed: PushState,
    /// Commit that needs no further push: it was pushed, or its push failed.
    settled_head: String,
    /// Tree of the newest snapshot; the base before the first one.
    tree: String,
    /// Last event and length of the output at the newest snapshot. If they have grown, files may have changed.
    activity: (u64, u64),
    next_push: Instant,
    /// Time of the next snapshot without events or output.
    next_snapshot: Instant,
    has_warned: bool,
}

impl CheckpointState {
    fn new(git: &PlaceGit) -> Self {
        let now = Instant::now();
        Self {
            pushed: PushState::default(),
            settled_head: git.spec.base().to_owned(),
            tree: git.spec.base().to_owned(),
            activity: (0, 0),
            next_push: now,
            next_snapshot: now + IDLE_INTERVAL,
            has_warned: false,
        }
    }

    /// Pushes new commits and changed files, if there are any and the last push is old enough.
    async fn check(&mut self, git: &PlaceGit, spool: &JobSpool) {
        let begun = Instant::now();
        if begun < self.next_push {
            return;
        }
        let head = git.head().await.filter(|head| *head != self.settled_head);
        let activity = (spool.last_seq(), spool.output_end());
        if head.is_none() && activity == self.activity && begun < self.next_snapshot {
            return;
        }
        self.activity = activity;
        let snapshot = git.snapshot(&self.tree).await.unwrap_or_else(|reason| {
            tracing::debug!("{}: no snapshot: {reason}", git.run.job);
            None
        });
        // Reading a large work tree takes long: it may cost a twentieth of the time, a sixth before the first change.
        let is_unchanged = self.tree == git.spec.base();
        let (min_interval, cost_factor) =
            if is_unchanged { (FIRST_CHANGE_INTERVAL, 6) } else { (PUSH_INTERVAL, 20) };
        self.next_push = Instant::now() + min_interval.max(begun.elapsed() * cost_factor);
        self.next_snapshot = Instant::now() + IDLE_INTERVAL;
        if head.is_some() || snapshot.is_some() {
            self.push(git, spool, head, snapshot).await;
        }
    }

    async fn push(
        &mut self,
        git: &PlaceGit,
        spool: &JobSpool,
        head: Option<String>,
        snapshot: Option<Snapshot>,
    ) {
        let result = git.push(head.is_some(), snapshot.as_ref()).await;
        if result == Err(PushError::ConnectionLost) {
            // The next check tries again.
            return;
        }
        if let Some(snapshot) = snapshot {
            self.tree = snapshot.tree;
        }
        if let Some(head) = head {
            self.settled_head.clone_from(&head);
            self.pushed.commit = result.is_ok().then_some(head).or(self.pushed.commit.take());
        }
        match result {
            Ok(true) => spool.append(EventBody::Warning { message: replaced_warning(git) }),
            Err(PushError::Failed(reason)) if !self.has_warned => {
                self.has_warned = true;
                let message = format!("commits could not be handed over yet: {reason}");
                spool.append(EventBody::Warning { message });
            }
            Ok(false) | Err(_) => {}
        }
    }
}

/// Returns the warning for a result that no longer contains its earlier commits.
pub(crate) fn replaced_warning(git: &PlaceGit) -> String {
    format!("the history of {} was rewritten: its earlier commits were replaced", git.spec.branch())
}
