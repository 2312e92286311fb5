//! The core's handling of requests that commands filed, and of records whose hint was lost.

use std::collections::BTreeSet;
use std::io;

use common::ids::JobId;
use common::record::SCHEMA;

use super::core::{Core, Shutdown};
use super::extend::LimitRequest;
use super::scheduler::AgentId;
use super::writer::Command;
use crate::registry::lease::PlatformStatus;
use crate::registry::read;
use crate::registry::requests::{self, Request};

impl Core {
    /// Reads and handles the filed requests.
    pub(super) async fn apply_requests(&mut self) {
        // Anything else in place of the folder is removed, so that the next request finds a folder.
        let pending = match requests::pending(&self.registry).or_else(|e| {
            self.registry.ensure().map_err(|_| e)?;
            requests::pending(&self.registry)
        }) {
            Ok(pending) => pending,
            Err(e) => return tracing::error!("requests can't be read: {e}"),
        };
        self.limit_requests.clear();
        for filed in pending {
            let holder = self.lease.holder();
            let applied = match filed.request {
                Some(request) if !request.is_for(&holder) => {
                    tracing::info!("{} is meant for another relay: removed", filed.path.display());
                    true
                }
                Some(Request::Cancel { job, grace_ms }) => {
                    // Its record may be newer than the last scan of the registry.
                    self.adopt_job(job.clone()).await;
                    self.cancel(&job, grace_ms).await
                }
                // Collected and handled together below: they take turns, and stay filed until they are done.
                Some(Request::Extend { job, step, by_ms, after, to_ms }) => {
                    self.adopt_job(job.clone()).await;
                    self.limit_requests.push(LimitRequest {
                        path: filed.path.clone(),
                        job,
                        step,
                        by_ms,
                        after,
                        to_ms,
                    });
                    false
                }
                Some(Request::Up) => {
                    tracing::info!("the platform was requested");
                    self.container.up_requested();
                    let engine = self.platform.engine();
                    self.set_platform(PlatformStatus::Starting { detail: format!("starting {engine}") });
                    if let Some(attempt) = &mut self.attempt {
                        attempt.up_requested();
                    }
                    self.try_platform();
                    true
                }
                Some(Request::Down { .. }) => {
                    self.go_down();
                    true
                }
                Some(Request::Restart { .. }) => {
                    if self.shutdown == Shutdown::No {
                        tracing::info!("stopping for another relay; workers go on");
                        self.shutdown = Shutdown::HandingOver;
                    }
                    true
                }
                Some(Request::Prune { keep, .. }) => {
                    super::prune::spawn_prune(&self.registry, &filed.path, keep);
                    false
                }
                // The job is loaded by name: listing the folder at each launch would cost more the more jobs there are.
                Some(Request::Launch { job }) => {
                    self.adopt_job(job).await;
                    true
                }
                None => {
                    tracing::warn!("{} is not a request", filed.path.display());
                    true
                }
            };
            if applied && let Err(e) = requests::remove(&self.registry, &filed.path) {
                tracing::error!("{} can't be removed: {e}", filed.path.display());
            }
        }
        self.wake_stopped();
        self.move_limits().await;
    }

    /// Finds jobs whose hint was lost.
    pub(super) async fn find_new_jobs(&mut self) -> io::Result<()> {
        let there: BTreeSet<JobId> = read::jobs(&self.registry)?.into_iter().collect();
        // Ended jobs stay known until they are archived, so that no scan reads them again.
        self.known.retain(|job| there.contains(job));
        for job in there {
            self.adopt_job(job).await;
        }
        Ok(())
    }

    /// Takes in a new job.
    async fn adopt_job(&mut self, job: JobId) {
        if self.known.contains(&job) {
            return;
        }
        let Ok(stored) = read::load(&self.registry, &job) else { return };
        // A record with a newer schema is left to the newer program, which may also fix it.
        if stored.record.schema > SCHEMA && !stored.record.state.is_final() {
            return;
        }
        self.known.insert(job.clone());
        if stored.record.state.is_final() {
            return;
        }
        self.writer().send(Command::Adopt(job.clone())).await;
        let holds = |agent: &AgentId| self.agents.get(agent).is_some_and(|connection| connection.holds(&job));
        let actions = self.scheduler.add_found(&stored.record, holds);
        self.perform(actions).await;
    }

    /// Cancels a job. Returns true if the request is done: it stays filed until the job has ended, so that it survives
    /// a crash.
    async fn cancel(&mut self, job: &JobId, grace_ms: u64) -> bool {
        match self.scheduler.cancel(job, grace_ms) {
            Some(actions) => {
                self.perform(actions).await;
                false
            }
            // An unreadable record may belong to a running job.
            None => match read::load(&self.registry, job) {
                Err(e) => e.kind() == io::ErrorKind::NotFound,
                Ok(_) => true,
            },
        }
    }

    fn go_down(&mut self) {
        if self.is_going_down() {
            return;
        }
        tracing::info!("shutting down");
        self.shutdown = Shutdown::Down;
        self.next_try = None;
        // A platform that is just being started would not be found: it is stopped once it is up.
        if self.attempt.is_none() {
            self.stop_platform();
        }
    }
}
