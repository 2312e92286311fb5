//! Requests to move limits, as [`super::extend`] decides them one by one.

use std::path::Path;

use common::ids::JobId;
use common::wire::RelayFrame;
use tokio::time::Instant;

use super::connections::{Connection, ConnectionNumber};
use super::effect::{Effect, LimitEffect};
use super::extend::{Extensions, JobStatus, LimitFacts, LimitQuery, LimitRequest, Next};
use super::handle::Core;
use super::scheduler::Assignment;
use super::turn::Turn;

/// Requests to move limits.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Filed requests, oldest first.
    requests: Vec<LimitRequest>,
    /// Requests of the list that is being read.
    collected: Vec<LimitRequest>,
    /// Progress of those whose turn it is.
    extensions: Extensions,
}

impl Limits {
    /// Returns true if no request is filed.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Adds a request of the list that is being read.
    pub(super) fn collect(&mut self, request: LimitRequest) {
        self.collected.push(request);
    }

    /// Replaces the requests by those of the list that was read.
    pub(super) fn collected(&mut self) {
        self.requests = std::mem::take(&mut self.collected);
    }

    /// Records that a request was sent on the agent's connection.
    pub(super) fn sent(&mut self, path: &Path, connection: ConnectionNumber, now: Instant) {
        self.extensions.sent(path, connection, now);
    }

    /// Adopts a request as it was rewritten.
    pub(super) fn amended(&mut self, new: LimitRequest) {
        if let Some(request) = self.requests.iter_mut().find(|request| request.path == new.path) {
            *request = new;
        }
    }

    fn find(&self, path: &Path) -> Option<LimitRequest> {
        self.requests.iter().find(|request| request.path == path).cloned()
    }
}

impl Core {
    /// Asks for what decides about the requests whose turn it is.
    pub(super) fn inspect_limits(&mut self, turn: &mut Turn) {
        let active = self.limits.extensions.active_requests(&self.limits.requests);
        self.inspect(&active, turn);
    }

    fn inspect(&mut self, requests: &[LimitRequest], turn: &mut Turn) {
        let queries: Vec<LimitQuery> = requests.iter().map(|request| self.query(request)).collect();
        if !queries.is_empty() {
            turn.push(Effect::Limit(LimitEffect::Inspect(queries)));
        }
    }

    fn query(&mut self, request: &LimitRequest) -> LimitQuery {
        let is_queued = self.scheduler.assignment(&request.job) == Some(&Assignment::Queued);
        LimitQuery {
            path: request.path.clone(),
            job: request.job.clone(),
            log: self.limits.extensions.position(&request.path),
            wants_spec: is_queued || request.to_ms.is_some(),
            wants_record: self.held(&request.job).is_some(),
        }
    }

    /// Advances each request, now that it is known what decides about it.
    pub(super) fn limits_inspected(&mut self, facts: Vec<LimitFacts>, turn: &mut Turn) {
        for facts in facts {
            if let Some(request) = self.limits.find(&facts.path) {
                self.move_limit(request, facts, turn);
            }
        }
    }

    fn move_limit(&mut self, request: LimitRequest, facts: LimitFacts, turn: &mut Turn) {
        let status = JobStatus {
            connection: self.agent_of(&request.job).map(|connection| connection.number),
            assignment: self.scheduler.assignment(&request.job).cloned(),
            caught_up: self.held(&request.job).is_none_or(|held| facts.durable >= Some(held)),
            spec_ms: facts.spec_ms,
        };
        match self.limits.extensions.next(&request, &status, facts.log, &facts.lines, turn.now) {
            Next::Wait => {}
            Next::Send => {
                let LimitRequest { path, job, step, by_ms, .. } = request;
                if let Some(to) = self.agent_of(&job).map(Connection::connection_id) {
                    let frame = RelayFrame::Extend { job, step, by_ms };
                    turn.push(Effect::Limit(LimitEffect::Send { path, to, frame }));
                }
            }
            Next::Promise(to_ms) => {
                turn.push(Effect::Limit(LimitEffect::Promise(LimitRequest {
                    to_ms: Some(to_ms),
                    ..request
                })));
            }
            Next::Move(job_ms) => {
                let LimitRequest { path, job, .. } = request;
                turn.push(Effect::Limit(LimitEffect::Move { path, job, job_ms }));
            }
            Next::Done(answer) => self.finish_request(request, answer, turn),
        }
    }

    /// Handles a request that now has its new limit.
    pub(super) fn limit_promised(&mut self, request: LimitRequest, turn: &mut Turn) {
        self.limits.amended(request.clone());
        self.inspect(&[request], turn);
    }

    /// Handles a request whose limit is in the spec.
    pub(super) fn limit_moved(&mut self, path: &Path, turn: &mut Turn) {
        let request = self.limits.find(path);
        self.inspect(request.as_slice(), turn);
    }

    /// Removes a completed request. First excludes its answer from the requests after it: a crash in between could let
    /// them take it as theirs.
    fn finish_request(&mut self, request: LimitRequest, answer: Option<u64>, turn: &mut Turn) {
        self.limits.requests.retain(|other| other.path != request.path);
        let behind = self.limits.requests.iter().filter(|other| other.job == request.job);
        if let Some(id) = answer {
            let amended = behind.map(|other| LimitRequest { after: other.after.max(id), ..other.clone() });
            turn.effects.extend(amended.map(LimitEffect::Amend).map(Effect::Limit));
        } else {
            tracing::info!("{}: no limit left to move", request.job);
        }
        turn.push(Effect::RemoveRequest(request.path));
        let active = self.limits.extensions.active_requests(&self.limits.requests);
        let next: Vec<LimitRequest> = active.into_iter().filter(|other| other.job == request.job).collect();
        self.inspect(&next, turn);
    }

    /// Returns the connection of a job's agent.
    fn agent_of(&self, job: &JobId) -> Option<&Connection> {
        self.scheduler.agent_of(job).and_then(|agent| self.agents.connections.get(agent))
    }

    /// Returns the run and the newest event that the job's agent had when it connected, if it had any.
    fn held(&self, job: &JobId) -> Option<(u32, u64)> {
        let mut known = self.agent_of(job)?.hello.jobs.iter();
        known.find(|held| held.job == *job).map(|held| (held.epoch, held.last_seq))
    }
}
