//! The core's handling of requests to move limits, as decided by the pure [`super::extend`].

use common::ids::JobId;
use common::job::JobSpec;
use common::wire::RelayFrame;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::core::Core;
use super::extend::{JobStatus, LimitRequest, Next};
use super::message::ConnectionHandle;
use super::scheduler::Assignment;
use super::writer::Command;
use crate::registry::read;
use crate::registry::requests::{self, Request};

impl Core {
    /// Advances all requests as far as possible.
    pub(super) async fn move_limits(&mut self) {
        // Each further round has ended a request or given it a limit, so the loop ends.
        loop {
            let mut again = false;
            for ask in self.extensions.turns(&self.asks) {
                again |= self.move_limit(&ask).await;
            }
            if !again {
                return;
            }
        }
    }

    /// Advances one request; returns true if there may be more to do at once.
    async fn move_limit(&mut self, ask: &LimitRequest) -> bool {
        let facts = self.facts(ask);
        let (log, now) = (self.registry.events(&ask.job), Instant::now());
        match self.extensions.next(ask, &facts, &log, now) {
            Next::Wait => false,
            Next::Send => {
                let frame = RelayFrame::Extend { job: ask.job.clone(), step: ask.step, by_ms: ask.by_ms };
                if let Some(session) =
                    self.agent_of(&ask.job).filter(|agent| agent.send(frame)).map(|agent| agent.id)
                {
                    self.extensions.sent(ask, session, now);
                }
                false
            }
            Next::Promise(to_ms) => self.amend(&LimitRequest { to_ms: Some(to_ms), ..ask.clone() }),
            Next::Move(job_ms) => {
                let (reply, flushed) = oneshot::channel();
                self.door.writer.send(Command::MoveLimit { job: ask.job.clone(), job_ms }).await;
                self.door.writer.send(Command::Flush(reply)).await;
                flushed.await.is_ok() && self.spec_ms(&ask.job) == Some(job_ms)
            }
            Next::Done(answer) => {
                self.settled(ask, answer);
                true
            }
        }
    }

    fn facts(&self, ask: &LimitRequest) -> JobStatus {
        let place = self.dispatch.place(&ask.job).cloned();
        let of_spec = place == Some(Assignment::Queued) || ask.to_ms.is_some();
        JobStatus {
            session: self.agent_of(&ask.job).map(|agent| agent.id),
            place,
            caught_up: self.caught_up(&ask.job),
            spec_ms: if of_spec { self.spec_ms(&ask.job) } else { None },
        }
    }

    /// Returns the connection of a job's agent.
    fn agent_of(&self, job: &JobId) -> Option<&ConnectionHandle> {
        self.dispatch.agent_of(job).and_then(|agent| self.agents.get(agent))
    }

    /// Returns true if everything that the agent had of the job when it connected is recorded.
    fn caught_up(&self, job: &JobId) -> bool {
        let mut known = self.agent_of(job).into_iter().flat_map(|agent| &agent.hello.jobs);
        let Some(held) = known.find(|held| held.job == *job) else { return true };
        read::load(&self.registry, job)
            .is_ok_and(|stored| (stored.record.epoch, stored.record.seq) >= (held.epoch, held.last_seq))
    }

    fn spec_ms(&self, job: &JobId) -> Option<u64> {
        let bytes = self.registry.spec(job).read(read::MAX_FILE_SIZE).ok()?;
        serde_json::from_slice::<JobSpec>(&bytes).ok().map(|spec| spec.limits.job_ms)
    }

    /// Rewrites a request; returns true on success.
    fn amend(&mut self, new: &LimitRequest) -> bool {
        let LimitRequest { path, job, step, by_ms, after, to_ms } = new.clone();
        if let Err(e) =
            requests::amend(&self.registry, &path, &Request::Extend { job, step, by_ms, after, to_ms })
        {
            tracing::error!("{} can't be replaced: {e}", path.display());
            return false;
        }
        if let Some(ask) = self.asks.iter_mut().find(|ask| ask.path == path) {
            ask.clone_from(new);
        }
        true
    }

    /// Removes a completed request. First excludes its answer from the requests after it: a crash in between could let
    /// them take it as theirs.
    fn settled(&mut self, ask: &LimitRequest, answer: Option<u64>) {
        if let Some(id) = answer {
            let behind: Vec<LimitRequest> = self
                .asks
                .iter()
                .filter(|other| other.job == ask.job && other.path != ask.path)
                .cloned()
                .collect();
            for other in behind {
                self.amend(&LimitRequest { after: other.after.max(id), ..other });
            }
        } else {
            tracing::info!("{}: nothing was left to move", ask.job);
        }
        if let Err(e) = requests::remove(&self.registry, &ask.path) {
            tracing::error!("{} can't be removed: {e}", ask.path.display());
        }
        self.asks.retain(|other| other.path != ask.path);
    }
}
