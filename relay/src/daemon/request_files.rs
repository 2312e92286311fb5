//! Files of requests, and the frames and commands that move limits.

use std::io;
use std::path::{Path, PathBuf};

use common::ids::JobId;
use common::job::JobSpec;

use super::core::{Input, LimitEffect, LimitFacts, LimitQuery, LimitRequest};
use super::effects::Executor;
use super::writer::Command;
use crate::registry::requests::{self, Request};
use crate::registry::{Registry, read};

/// Removes a request that was applied.
pub(super) fn remove(registry: &Registry, path: &Path) {
    if let Err(e) = requests::remove(registry, path) {
        tracing::error!("{} can't be removed: {e}", path.display());
    }
}

/// Removes a request to cancel a job that is not active, unless the job's record exists and can't be read.
pub(super) fn remove_cancel(registry: &Registry, path: &Path, job: &JobId) {
    if !read::load(registry, job).is_err_and(|e| e.kind() != io::ErrorKind::NotFound) {
        remove(registry, path);
    }
}

impl Executor {
    /// Advances requests to move limits. Returns the answer, if there is one.
    pub(super) async fn limit(&mut self, effect: LimitEffect) -> Option<Input> {
        match effect {
            LimitEffect::Inspect(queries) => {
                let facts = queries.into_iter().map(|query| inspect(&self.registry, query)).collect();
                Some(Input::LimitsInspected(facts))
            }
            LimitEffect::Send { path, to, frame } => {
                self.queue(&to, frame).then_some(Input::LimitSent { path, connection: to.number })
            }
            LimitEffect::Amend(request) => self.amend(&request).then_some(Input::RequestAmended(request)),
            LimitEffect::Promise(request) => self.amend(&request).then_some(Input::LimitPromised(request)),
            LimitEffect::Move { path, job, job_ms } => self.move_limit(path, job, job_ms).await,
        }
    }

    /// Rewrites a request; returns true on success.
    fn amend(&self, request: &LimitRequest) -> bool {
        let LimitRequest { path, job, step, by_ms, after, to_ms } = request.clone();
        let amended =
            requests::amend(&self.registry, &path, &Request::Extend { job, step, by_ms, after, to_ms });
        if let Err(e) = &amended {
            tracing::error!("{} can't be replaced: {e}", path.display());
        }
        amended.is_ok()
    }

    async fn move_limit(&self, path: PathBuf, job: JobId, job_ms: u64) -> Option<Input> {
        self.write(Command::MoveLimit { job: job.clone(), job_ms }).await;
        let is_moved = self.flush().await.is_ok() && spec_ms(&self.registry, &job) == Some(job_ms);
        is_moved.then_some(Input::LimitMoved(path))
    }
}

fn inspect(registry: &Registry, query: LimitQuery) -> LimitFacts {
    let LimitQuery { path, job, mut log, wants_spec, wants_record } = query;
    let lines = log.next_lines(&registry.events(&job)).unwrap_or_else(|e| {
        tracing::warn!("the log of {job} can't be read: {e}");
        Vec::new()
    });
    let record = if wants_record { read::load(registry, &job).ok() } else { None };
    LimitFacts {
        path,
        log,
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        spec_ms: if wants_spec { spec_ms(registry, &job) } else { None },
        durable: record.map(|stored| (stored.record.epoch, stored.record.seq)),
    }
}

fn spec_ms(registry: &Registry, job: &JobId) -> Option<u64> {
    let bytes = registry.spec(job).read(read::MAX_FILE_SIZE).ok()?;
    serde_json::from_slice::<JobSpec>(&bytes).ok().map(|spec| spec.limits.job_ms)
}
