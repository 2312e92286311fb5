//! Collects and executes the requests to extend limits. [`super::extend`] decides about each of them.

use std::path::Path;

use common::ids::JobId;
use common::wire::RelayFrame;
use tokio::time::Instant;

use super::connections::{Connection, ConnectionNumber};
use super::effect::{Effect, LimitEffect};
use super::extend::{ExtensionLookup, ExtensionState, Extensions, JobStatus, LimitRequest, NextAction};
use super::handle::Core;
use super::input_context::InputContext;
use super::scheduler::Assignment;

#[derive(Debug, Default)]
pub(super) struct LimitRequests {
    /// Filed requests, oldest first.
    requests: Vec<LimitRequest>,
    /// Requests read so far from the registry. They replace `requests` once all are read.
    incoming: Vec<LimitRequest>,
    /// Progress of the active requests.
    extensions: Extensions,
}

impl LimitRequests {
    /// Returns true if no request is filed.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Adds a request that was read from the registry.
    pub(super) fn add_incoming(&mut self, request: LimitRequest) {
        self.incoming.push(request);
    }

    /// Replaces the requests with those that were read from the registry.
    pub(super) fn adopt_incoming(&mut self) {
        self.requests = std::mem::take(&mut self.incoming);
    }

    /// Records that a request was sent on the agent's connection.
    pub(super) fn set_sent(&mut self, path: &Path, connection: ConnectionNumber, now: Instant) {
        self.extensions.set_sent(path, connection, now);
    }

    /// Replaces a request that was rewritten.
    pub(super) fn replace_request(&mut self, rewritten: LimitRequest) {
        if let Some(request) = self.requests.iter_mut().find(|request| request.path == rewritten.path) {
            *request = rewritten;
        }
    }

    fn find_request(&self, path: &Path) -> Option<LimitRequest> {
        self.requests.iter().find(|request| request.path == path).cloned()
    }
}

impl Core {
    /// Queries the job states that decide about the active requests.
    pub(super) fn inspect_limits(&mut self, context: &mut InputContext) {
        let active = self.limit_requests.extensions.active_requests(&self.limit_requests.requests);
        self.run_queries(&active, context);
    }

    fn run_queries(&mut self, requests: &[LimitRequest], context: &mut InputContext) {
        let queries: Vec<ExtensionLookup> =
            requests.iter().map(|request| self.build_lookup(request)).collect();
        if !queries.is_empty() {
            context.push(Effect::ExtendLimit(LimitEffect::ReadExtensionStates(queries)));
        }
    }

    fn build_lookup(&mut self, request: &LimitRequest) -> ExtensionLookup {
        let is_queued = self.scheduler.assignment(&request.job) == Some(&Assignment::Queued);
        ExtensionLookup {
            path: request.path.clone(),
            job: request.job.clone(),
            log_position: self.limit_requests.extensions.log_position(&request.path),
            wants_spec: is_queued || request.target_ms.is_some(),
            wants_record: self.progress_at_connect(&request.job).is_some(),
        }
    }

    /// Advances each request according to the result of its query.
    pub(super) fn on_extension_states(&mut self, results: Vec<ExtensionState>, context: &mut InputContext) {
        for result in results {
            if let Some(request) = self.limit_requests.find_request(&result.path) {
                self.advance_request(request, result, context);
            }
        }
    }

    fn advance_request(&mut self, request: LimitRequest, result: ExtensionState, context: &mut InputContext) {
        let status = JobStatus {
            connection: self.agent_of(&request.job).map(|connection| connection.number),
            assignment: self.scheduler.assignment(&request.job).cloned(),
            has_caught_up: self
                .progress_at_connect(&request.job)
                .is_none_or(|progress| result.recorded_seq >= Some(progress)),
            spec_ms: result.spec_ms,
        };
        match self.limit_requests.extensions.next_action(
            &request,
            &status,
            result.log_position,
            &result.lines,
            context.now,
        ) {
            NextAction::Wait => {}
            NextAction::SendRequest => {
                let LimitRequest { path, job, is_for_step, by_ms, .. } = request;
                if let Some(to) = self.agent_of(&job).map(Connection::connection_id) {
                    let frame = RelayFrame::Extend { job, step: is_for_step, by_ms };
                    context.push(Effect::ExtendLimit(LimitEffect::SendRequest { path, to, frame }));
                }
            }
            NextAction::StoreTargetLimit(to_ms) => {
                context.push(Effect::ExtendLimit(LimitEffect::StoreTargetLimit(LimitRequest {
                    target_ms: Some(to_ms),
                    ..request
                })));
            }
            NextAction::WriteSpecLimit(job_ms) => {
                let LimitRequest { path, job, .. } = request;
                context.push(Effect::ExtendLimit(LimitEffect::WriteSpecLimit { path, job, job_ms }));
            }
            NextAction::Done(answer) => self.finish_request(request, answer, context),
        }
    }

    /// Handles a request into which the new limit was written.
    pub(super) fn on_target_limit_stored(&mut self, request: LimitRequest, context: &mut InputContext) {
        self.limit_requests.replace_request(request.clone());
        self.run_queries(&[request], context);
    }

    /// Handles a request whose new limit was written into the job's spec.
    pub(super) fn on_spec_limit_written(&mut self, path: &Path, context: &mut InputContext) {
        let request = self.limit_requests.find_request(path);
        self.run_queries(request.as_slice(), context);
    }

    /// Removes a completed request. Before that, rewrites the later requests of the job to skip the event that answered
    /// this request. After a crash they could mistake the event for their own answer.
    fn finish_request(
        &mut self,
        request: LimitRequest,
        answer_event_id: Option<u64>,
        context: &mut InputContext,
    ) {
        self.limit_requests.requests.retain(|other| other.path != request.path);
        let later = self.limit_requests.requests.iter().filter(|other| other.job == request.job);
        if let Some(id) = answer_event_id {
            let rewritten = later
                .map(|other| LimitRequest { after_event_id: other.after_event_id.max(id), ..other.clone() });
            context.effects.extend(rewritten.map(LimitEffect::RewriteRequest).map(Effect::ExtendLimit));
        } else {
            tracing::info!("{}: no limit left to extend", request.job);
        }
        context.push(Effect::RemoveRequest(request.path));
        let active = self.limit_requests.extensions.active_requests(&self.limit_requests.requests);
        let next: Vec<LimitRequest> = active.into_iter().filter(|other| other.job == request.job).collect();
        self.run_queries(&next, context);
    }

    fn agent_of(&self, job: &JobId) -> Option<&Connection> {
        self.scheduler.agent_of(job).and_then(|agent| self.agents.connections.get_connection(agent))
    }

    /// Returns the run and the number of the newest event that the agent of a job had when it connected, if it had any.
    fn progress_at_connect(&self, job: &JobId) -> Option<(u32, u64)> {
        let mut progresses = self.agent_of(job)?.hello.jobs.iter();
        progresses.find(|progress| progress.job == *job).map(|progress| (progress.epoch, progress.last_seq))
    }
}
