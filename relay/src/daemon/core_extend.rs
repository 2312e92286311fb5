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
            for request in self.extensions.active_requests(&self.limit_requests) {
                again |= self.move_limit(&request).await;
            }
            if !again {
                return;
            }
        }
    }

    /// Advances one request; returns true if there may be more to do at once.
    async fn move_limit(&mut self, request: &LimitRequest) -> bool {
        let status = self.job_status(request);
        let (log, now) = (self.registry.events(&request.job), Instant::now());
        match self.extensions.next(request, &status, &log, now) {
            Next::Wait => false,
            Next::Send => {
                let frame =
                    RelayFrame::Extend { job: request.job.clone(), step: request.step, by_ms: request.by_ms };
                if let Some(connection) =
                    self.agent_of(&request.job).filter(|agent| agent.send(frame)).map(|agent| agent.id)
                {
                    self.extensions.sent(request, connection, now);
                }
                false
            }
            Next::Promise(to_ms) => {
                self.rewrite_request(&LimitRequest { to_ms: Some(to_ms), ..request.clone() })
            }
            Next::Move(job_ms) => {
                let (reply, flushed) = oneshot::channel();
                self.app.writer.send(Command::MoveLimit { job: request.job.clone(), job_ms }).await;
                self.app.writer.send(Command::Flush(reply)).await;
                flushed.await.is_ok() && self.spec_ms(&request.job) == Some(job_ms)
            }
            Next::Done(answer) => {
                self.finish_request(request, answer);
                true
            }
        }
    }

    fn job_status(&self, request: &LimitRequest) -> JobStatus {
        let assignment = self.scheduler.assignment(&request.job).cloned();
        let of_spec = assignment == Some(Assignment::Queued) || request.to_ms.is_some();
        JobStatus {
            connection: self.agent_of(&request.job).map(|agent| agent.id),
            assignment,
            caught_up: self.caught_up(&request.job),
            spec_ms: if of_spec { self.spec_ms(&request.job) } else { None },
        }
    }

    /// Returns the connection of a job's agent.
    fn agent_of(&self, job: &JobId) -> Option<&ConnectionHandle> {
        self.scheduler.agent_of(job).and_then(|agent| self.agents.get(agent))
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
    fn rewrite_request(&mut self, new: &LimitRequest) -> bool {
        let LimitRequest { path, job, step, by_ms, after, to_ms } = new.clone();
        if let Err(e) =
            requests::amend(&self.registry, &path, &Request::Extend { job, step, by_ms, after, to_ms })
        {
            tracing::error!("{} can't be replaced: {e}", path.display());
            return false;
        }
        if let Some(request) = self.limit_requests.iter_mut().find(|request| request.path == path) {
            request.clone_from(new);
        }
        true
    }

    /// Removes a completed request. First excludes its answer from the requests after it: a crash in between could let
    /// them take it as theirs.
    fn finish_request(&mut self, request: &LimitRequest, answer: Option<u64>) {
        if let Some(id) = answer {
            let behind: Vec<LimitRequest> = self
                .limit_requests
                .iter()
                .filter(|other| other.job == request.job && other.path != request.path)
                .cloned()
                .collect();
            for other in behind {
                self.rewrite_request(&LimitRequest { after: other.after.max(id), ..other });
            }
        } else {
            tracing::info!("{}: no limit left to move", request.job);
        }
        if let Err(e) = requests::remove(&self.registry, &request.path) {
            tracing::error!("{} can't be removed: {e}", request.path.display());
        }
        self.limit_requests.retain(|other| other.path != request.path);
    }
}
