//! Jobs of an earlier agent process.
//!
//! ```text
//!  cut off ──its shim is gone──► silent ──first welcome──► ended: with the container's exit cause, else as agent_lost
//! ```
//!
//! An agent can't determine why its last process ended; the relay may have seen it. So the end waits for the first
//! welcome, and the events spooled before are delivered as usual. Without a welcome nothing could be delivered
//! anyway.

use std::sync::Arc;

use common::event::{EventBody, FailureKind, FinalState, JobError};
use common::wire::Fate;
use tokio::sync::watch;

use crate::shim::exit_report;
use crate::spool::{JobSpool, Spool};

/// State of the information about the agent's last process.
#[derive(Debug)]
enum Word {
    /// No welcome has been received yet.
    Awaited,
    /// Cause from the first welcome.
    Told(Option<Fate>),
}

impl Word {
    fn fate(&self) -> Option<Fate> {
        match self {
            Self::Awaited => None,
            Self::Told(fate) => fate.clone(),
        }
    }
}

/// Sender of the cause that the first welcome gives for the end of the last process.
#[derive(Debug)]
pub(crate) struct Obituary {
    word: watch::Sender<Word>,
}

impl Obituary {
    /// Takes the cause that a welcome gives. Only the first welcome is about the last process.
    pub(crate) fn tell(&self, fate: Option<Fate>) {
        self.word.send_if_modified(|word| {
            let first = matches!(word, Word::Awaited);
            if first {
                *word = Word::Told(fate);
            }
            first
        });
    }
}

/// Ends every unfinished run, as soon as its cause is known. Its agent is gone, and its shim is ending its processes:
/// the end is reported once that is done, so that no process of the job is left when it is read.
pub(crate) fn recover(spool: &Spool) -> Obituary {
    let (word, heard) = watch::channel(Word::Awaited);
    for run in spool.all().into_iter().filter(|run| !run.finished()) {
        tracing::warn!("{} ran when the agent was last stopped: it is over", run.run());
        tokio::spawn(end(run, heard.clone()));
    }
    Obituary { word }
}

async fn end(run: Arc<JobSpool>, mut word: watch::Receiver<Word>) {
    let cleanup = exit_report::read(&run.testament()).await;
    // An agent that has to stop before its first welcome leaves the run to the next process.
    let Ok(fate) = word.wait_for(|word| matches!(word, Word::Told(_))).await.map(|word| word.fate()) else {
        return;
    };
    if let Some((killed, survivors)) = cleanup {
        run.append(EventBody::Cleanup { killed, survivors });
    }
    run.append(finished(fate));
}

fn finished(fate: Option<Fate>) -> EventBody {
    let fate = fate.unwrap_or_else(|| Fate {
        kind: FailureKind::AgentLost,
        message: "the agent was restarted while the job ran".to_owned(),
        exit_code: None,
    });
    EventBody::Finished {
        state: FinalState::Failed,
        error: Some(JobError { kind: fate.kind, message: fate.message, step: None }),
        exit_code: fate.exit_code,
        changes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::RunId;

    /// Returns a run that was cut off after its first event, as the next agent finds it.
    fn cut_off(dir: &std::path::Path) -> Spool {
        let run = RunId { job: "demo#1".parse().unwrap(), epoch: 1 };
        let spool = Spool::open(dir).unwrap();
        let made = spool.create(run, "{}", Arc::default()).unwrap();
        made.append(EventBody::Message { text: "at work".into() });
        drop((made, spool));
        Spool::open(dir).unwrap()
    }

    async fn last(run: &JobSpool) -> EventBody {
        while !run.finished() {
            tokio::task::yield_now().await;
        }
        run.read(run.last_seq(), 1, usize::MAX).unwrap().remove(0).body
    }

    #[tokio::test]
    async fn a_run_that_was_cut_off_ends_with_the_fate_that_the_first_welcome_tells() {
        let dir = tempfile::tempdir().unwrap();
        let spool = cut_off(dir.path());
        let run = spool.all().remove(0);
        let obituary = recover(&spool);
        tokio::task::yield_now().await;
        assert!(!run.finished(), "nobody has told why");
        let message = "the container exited".to_owned();
        let fate = Fate { kind: FailureKind::ContainerExited, message, exit_code: Some(137) };
        obituary.tell(Some(fate.clone()));
        obituary.tell(None);
        assert_eq!(last(&run).await, finished(Some(fate)));
    }

    #[tokio::test]
    async fn where_nobody_saw_why_it_is_the_agent_that_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let spool = cut_off(dir.path());
        let run = spool.all().remove(0);
        recover(&spool).tell(None);
        let EventBody::Finished { error, .. } = last(&run).await else { panic!("no end") };
        assert_eq!(error.map(|error| error.kind), Some(FailureKind::AgentLost));
    }

    #[tokio::test]
    async fn the_end_of_a_run_follows_events_that_only_the_relay_still_has() {
        let dir = tempfile::tempdir().unwrap();
        let spool = cut_off(dir.path());
        let run = spool.all().remove(0);
        let obituary = recover(&spool);
        run.continue_after(50);
        obituary.tell(None);
        assert!(matches!(last(&run).await, EventBody::Finished { .. }));
        assert_eq!(run.last_seq(), 51);
    }
}
