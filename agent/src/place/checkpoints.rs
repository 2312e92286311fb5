//! Pushes of new commits while a job runs, so that a lost machine loses no commit.

use std::sync::Arc;
use std::time::Duration;

use common::event::EventBody;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::git::{PlaceGit, PushError};
use crate::spool::JobSpool;

/// Time between two looks at `HEAD`, and so between two pushes. A look reads two small files.
const INTERVAL: Duration = Duration::from_secs(2);

/// The task that pushes new commits.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Pushed>,
}

/// State of the job's result at the relay.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Pushed {
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
    pub(crate) async fn stop(self) -> Pushed {
        // The task ends only when it is told to.
        let _ = self.stop.send(());
        self.task.await.unwrap_or_default()
    }
}

async fn push_new_commits(git: PlaceGit, spool: Arc<JobSpool>, mut stopped: oneshot::Receiver<()>) -> Pushed {
    let mut pushed = Pushed::default();
    // Commit that needs no further attempt.
    let mut settled = git.spec.base().to_owned();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = &mut stopped => return pushed,
            _ = ticks.tick() => {}
        }
        let Some(head) = git.head().await.filter(|head| *head != settled) else { continue };
        // The end of the job pushes again, and must not wait for a connection twice.
        let result = tokio::select! {
            result = git.push() => result,
            _ = &mut stopped => return pushed,
        };
        match result {
            Ok(replaced) => {
                if replaced {
                    spool.append(EventBody::Warning { message: replaced_warning(&git) });
                }
                settled.clone_from(&head);
                pushed.commit = Some(head);
            }
            Err(PushError::ConnectionLost) => {}
            Err(PushError::Failed(reason)) => {
                let message = format!("commits could not be handed over yet: {reason}");
                spool.append(EventBody::Warning { message });
                settled = head;
            }
        }
    }
}

/// Returns the warning for a result whose earlier commits are no longer part of it.
pub(crate) fn replaced_warning(git: &PlaceGit) -> String {
    format!("the history of {} was rewritten: its earlier commits were replaced", git.spec.branch())
}
