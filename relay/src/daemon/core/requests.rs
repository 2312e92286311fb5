//! Handles requests that commands have filed, and jobs that the core does not know yet.

use std::path::PathBuf;

use common::ids::JobId;
use common::record::SCHEMA_VERSION;
use jiff::Timestamp;

use super::capacity::AgentId;
use super::effect::Effect;
use super::extend::LimitRequest;
use super::handle::Core;
use super::input_context::InputContext;
use crate::registry::read::FoundJob;
use crate::registry::requests::DaemonRequest;

impl Core {
    /// Handles a request that a command has filed; `None` for a file that contains no request.
    pub(super) fn apply_request(
        &mut self,
        path: PathBuf,
        request: Option<DaemonRequest>,
        wall_time: Timestamp,
        context: &mut InputContext,
    ) {
        let holder = self.platform.lease.current_holder();
        match request {
            Some(request) if !request.is_for(&holder) => {
                tracing::info!("{} is meant for another relay: removed", path.display());
            }
            Some(DaemonRequest::Cancel { job, grace_ms }) => {
                return self.cancel_job(path, job, grace_ms, context);
            }
            // These requests are collected first, and then handled one at a time for each job. They stay filed until
            // they are done.
            Some(DaemonRequest::Extend { job, step, by_ms, after, to_ms }) => {
                return self.limit_requests.add_incoming(LimitRequest {
                    path,
                    job,
                    is_for_step: step,
                    by_ms,
                    after_event_id: after,
                    target_ms: to_ms,
                });
            }
            Some(DaemonRequest::SetResultState { job, commit, state }) => {
                return context.push(Effect::SetResultState { path, job, commit, state });
            }
            Some(DaemonRequest::Up) => {
                self.end_hold_on_request(context);
                self.on_up_requested(wall_time, context);
            }
            Some(DaemonRequest::Down { .. }) => self.begin_shutdown(context),
            Some(DaemonRequest::Restart { .. }) => self.begin_hand_over(),
            Some(DaemonRequest::Prune { keep, .. }) => return context.push(Effect::Prune { path, keep }),
            // The record of the launched job was already passed to the core.
            Some(DaemonRequest::Launch { .. }) => {}
            None => tracing::warn!("{} is not a request", path.display()),
        }
        context.push(Effect::RemoveRequest(path));
    }

    /// Runs the work that is due after all filed requests were read.
    pub(super) fn on_requests_read(&mut self, context: &mut InputContext) {
        self.limit_requests.adopt_incoming();
        self.restart_stopped_for_job(context);
        self.inspect_limits(context);
    }

    /// Adds a job that was found in the registry, unless it is known.
    pub(super) fn add_new_job(&mut self, found: &FoundJob, context: &mut InputContext) {
        let FoundJob { record, is_record_stale } = found;
        let job = &record.job;
        // A record with a newer schema is left to the newer version of relay that wrote it.
        if self.known_jobs.contains(job) || (record.schema > SCHEMA_VERSION && !record.state.is_final()) {
            return;
        }
        self.known_jobs.insert(job.clone());
        if record.state.is_final() && !is_record_stale {
            return;
        }
        context.push(Effect::OpenJob(job.clone()));
        if record.state.is_final() {
            return;
        }
        let connections = &self.agents.connections;
        // Until the cause is known, the scheduler counts an agent as connected whose connection has just ended. Such an
        // agent is assumed to hold the job, and its next hello shows whether it does.
        let holds = |agent: &AgentId| {
            connections.get_connection(agent).is_none_or(|connection| connection.names_job(job))
        };
        let actions = self.scheduler.add_late_record(record, holds);
        self.execute_actions(actions, context);
        context.read_dependencies(self.scheduler.unknown_dependencies_of(job));
    }

    /// Cancels a job. The request stays filed until the job has ended, so that it survives a crash.
    fn cancel_job(&mut self, path: PathBuf, job: JobId, grace_ms: u64, context: &mut InputContext) {
        match self.scheduler.cancel_job(&job, grace_ms) {
            Some(actions) => self.execute_actions(actions, context),
            None => context.push(Effect::RemoveCancel { path, job }),
        }
    }
}
