//! Requests that commands filed, and jobs that the core does not know.

use std::path::PathBuf;

use common::ids::JobId;
use common::record::{JobRecord, SCHEMA};
use jiff::Timestamp;

use super::effect::Effect;
use super::extend::LimitRequest;
use super::handle::Core;
use super::scheduler::AgentId;
use super::turn::Turn;
use crate::registry::requests::Request;

impl Core {
    /// Handles a filed request.
    pub(super) fn apply_request(
        &mut self,
        path: PathBuf,
        request: Option<Request>,
        wall: Timestamp,
        turn: &mut Turn,
    ) {
        let holder = self.platform.lease.holder();
        match request {
            Some(request) if !request.is_for(&holder) => {
                tracing::info!("{} is meant for another relay: removed", path.display());
            }
            Some(Request::Cancel { job, grace_ms }) => return self.cancel(path, job, grace_ms, turn),
            // Collected and handled together: they take turns, and stay filed until they are done.
            Some(Request::Extend { job, step, by_ms, after, to_ms }) => {
                return self.limits.collect(LimitRequest { path, job, step, by_ms, after, to_ms });
            }
            Some(Request::Up) => self.up_requested(wall, turn),
            Some(Request::Down { .. }) => self.go_down(turn),
            Some(Request::Restart { .. }) => self.hand_over(),
            Some(Request::Prune { keep, .. }) => return turn.push(Effect::Prune { path, keep }),
            // Its job was handed in before.
            Some(Request::Launch { .. }) => {}
            None => tracing::warn!("{} is not a request", path.display()),
        }
        turn.push(Effect::RemoveRequest(path));
    }

    /// Handles the end of the list of requests.
    pub(super) fn requests_read(&mut self, turn: &mut Turn) {
        self.limits.collected();
        self.wake_stopped(turn);
        self.inspect_limits(turn);
    }

    /// Takes in a new job.
    pub(super) fn adopt_job(&mut self, record: &JobRecord, turn: &mut Turn) {
        let job = &record.job;
        // A record with a newer schema is left to the newer program, which may also fix it.
        if self.known.contains(job) || (record.schema > SCHEMA && !record.state.is_final()) {
            return;
        }
        self.known.insert(job.clone());
        if record.state.is_final() {
            return;
        }
        turn.push(Effect::Adopt(job.clone()));
        let connections = &self.agents.connections;
        // An agent whose connection has just ended counts as connected for the scheduler until the cause is known. Its
        // next hello tells.
        let holds = |agent: &AgentId| connections.get(agent).is_none_or(|connection| connection.holds(job));
        let actions = self.scheduler.add_found(record, holds);
        self.act(actions, turn);
    }

    /// Cancels a job. The request stays filed until the job has ended, so that it survives a crash.
    fn cancel(&mut self, path: PathBuf, job: JobId, grace_ms: u64, turn: &mut Turn) {
        match self.scheduler.cancel(&job, grace_ms) {
            Some(actions) => self.act(actions, turn),
            None => turn.push(Effect::RemoveCancel { path, job }),
        }
    }
}
