//! The job's own place: a clone that is made before the first command, and whose commits are pushed after the last one.

use std::sync::Arc;
use std::time::Duration;

use common::event::{EventBody, FailureKind, JobError};
use common::job::is_thread_id;
use common::stream::{StreamError, StreamService};
use tokio::time::timeout;

use super::control::Control;
use super::outcome::place_failure;
use super::running_command::EndReason;
use super::stage::{Stage, clone_title};
use super::supervisor::Supervisor;
use crate::place::cache::{RepositoryCache, WritableCache};
use crate::place::checkpoints::{Checkpoints, PushState, replaced_warning};
use crate::place::folder;
use crate::place::git::{PlaceGit, PushError, depth, is_known_cause};
use crate::place::prepared::{self, PreparedClone};
use crate::process::OutputPipes;
use crate::stream_request::OpenedStream;
use crate::workspace::WorkspaceDir;

/// Maximum number of attempts to fetch or push, if the connection is lost each time.
const MAX_ATTEMPTS: u32 = 20;
/// Maximum time to wait for the result of a stream after git has ended.
const STREAM_END_TIMEOUT: Duration = Duration::from_secs(10);
/// Time before a failed push of the result is repeated.
const REPEAT_PAUSE: Duration = Duration::from_millis(500);
/// Maximum time to push the result of a job when the agent itself has to stop.
const STOP_TIMEOUT: Duration = Duration::from_millis(1500);

/// Result of waiting for a future, which the end of the job or of the agent can interrupt.
pub(super) enum Wait<T> {
    Done(T),
    Interrupted,
}

impl Supervisor {
    /// Makes the job's place, if the job has one. Returns false if the job works in its workspace instead, or if it is
    /// to end.
    pub(super) async fn make_place(&mut self) -> Result<bool, JobError> {
        let Some(place) = self.resources.place.clone() else { return Ok(false) };
        let path = place.path().to_owned();
        tokio::task::spawn_blocking(move || folder::remove_leftovers(&path));
        let is_made = self.continue_in_kept_place(&place).await? || self.clone_from_cache(&place).await?;
        if self.end_reason.is_none() && !is_made {
            self.log.write_line(&format!("$ {}", clone_title(&self.spec, false)));
            self.fetch(&place, None).await?;
        }
        if self.end_reason.is_some() {
            return Ok(false);
        }
        folder::mark_complete(place.path());
        self.enter_subfolder(&place).map_err(|reason| setup_failed(place_failure(&reason)))?;
        Ok(true)
    }

    /// Uses the clone that was kept for the job's Codex thread as the place, with its base checked out. Returns false
    /// if that is impossible, or if the job is to end.
    async fn continue_in_kept_place(&mut self, place: &PlaceGit) -> Result<bool, JobError> {
        let git_dir = place.path().join(".git");
        if place.spec.continues().is_none() || git_dir.symlink_metadata().is_err() {
            return Ok(false);
        }
        self.log.write_line(&format!("$ {}", clone_title(&self.spec, true)));
        match self.run_command(Stage::Continue, OutputPipes::Merged).await {
            Ok(()) => Ok(self.end_reason.is_none()),
            Err(error) if error.kind == FailureKind::SetupFailed => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the place from the cache of its repository, into which the base is fetched first. Returns false if there
    /// is no cache that can be used.
    async fn clone_from_cache(&mut self, place: &PlaceGit) -> Result<bool, JobError> {
        let Some(cache) = &place.cache else { return Ok(false) };
        let Wait::Done(Ok(writable_cache)) = self.wait_unless_ended(cache.lock()).await else {
            return Ok(false);
        };
        if !writable_cache.has_base(place.spec.base()) {
            match self.fetch(place, Some(&writable_cache)).await {
                Ok(()) if self.end_reason.is_some() => return Ok(false),
                Ok(()) => {}
                Err(error) if error.kind == FailureKind::SetupFailed => {
                    writable_cache.clear();
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        let readable_cache = writable_cache.into_readable();
        self.log.write_line(&format!("$ {}", clone_title(&self.spec, true)));
        let cache_path = readable_cache.folder.path().to_owned();
        let is_advanced = self.advance_prepared_clone(place, cache, &cache_path).await?;
        let made = if is_advanced || self.end_reason.is_some() {
            Ok(())
        } else {
            self.run_command(Stage::Clone(Some(cache_path)), OutputPipes::Merged).await
        };
        match made {
            Ok(()) => {
                drop(readable_cache);
                prepare_next_clone(place, cache);
                Ok(self.end_reason.is_none())
            }
            Err(error) if error.kind == FailureKind::SetupFailed => {
                readable_cache.clear();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Checks the base out in a place that was made ahead. Returns false if the place was not made ahead, or if that
    /// fails: the place is empty then.
    async fn advance_prepared_clone(
        &mut self,
        place: &PlaceGit,
        cache: &RepositoryCache,
        cache_path: &str,
    ) -> Result<bool, JobError> {
        if !folder::is_prepared(place.path()) {
            return Ok(false);
        }
        let arguments = ["advance", place.spec.base(), place.spec.branch(), cache_path];
        let home = prepared::home(&self.resources.worker_env);
        let command = PreparedClone::of_cache(cache).command(&arguments, place.user, home);
        let stage = Stage::Advance(cache_path.to_owned());
        let advanced = self.run_in_folder(stage, command, OutputPipes::Merged, &place.top).await;
        folder::mark_not_prepared(place.path());
        match advanced {
            Ok(()) => Ok(self.end_reason.is_none()),
            Err(error) if error.kind == FailureKind::SetupFailed => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Fetches the job's base commit, into a cache or into the place itself. Also returns `Ok` if the job is to end.
    async fn fetch(&mut self, place: &PlaceGit, cache: Option<&WritableCache>) -> Result<(), JobError> {
        for attempt in 1.. {
            let opening = place.open_stream(StreamService::FetchPlace);
            let OpenedStream { job_side, result } = match self.wait_unless_ended(opening).await {
                Wait::Done(opened) => opened.map_err(|reason| setup_failed(place_failure(&reason)))?,
                Wait::Interrupted => return Ok(()),
            };
            let pipes = OutputPipes::Stream(job_side);
            let fetched = match cache {
                Some(cache) => {
                    let command = cache.fetch_command(place.spec.base(), depth(&place.spec));
                    self.run_in_folder(Stage::FillCache, command, pipes, &cache.folder).await
                }
                None => self.run_command(Stage::Clone(None), pipes).await,
            };
            if self.end_reason.is_some() {
                return Ok(());
            }
            let Err(error) = fetched else { break };
            if error.kind != FailureKind::SetupFailed {
                return Err(error);
            }
            match timeout(STREAM_END_TIMEOUT, result.wait()).await {
                Ok(Err(StreamError::Lost)) if attempt < MAX_ATTEMPTS => {}
                // If git could not start, the relay only sees that the stream ends.
                Ok(Err(StreamError::Refused(reason))) if !is_known_cause(&error.message) => {
                    return Err(JobError { message: place_failure(&reason), ..error });
                }
                _ => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for a future, or until the job is to end.
    pub(super) async fn wait_unless_ended<T>(&mut self, future: impl Future<Output = T>) -> Wait<T> {
        tokio::pin!(future);
        loop {
            self.apply_control(None);
            if self.end_reason.is_some() {
                return Wait::Interrupted;
            }
            tokio::select! {
                output = &mut future => return Wait::Done(output),
                Ok(()) = self.control.changed() => {}
            }
        }
    }

    /// Makes the subfolder that the spec names the working folder of all commands.
    fn enter_subfolder(&mut self, place: &PlaceGit) -> Result<(), String> {
        if place.spec.subfolder().is_empty() {
            return Ok(());
        }
        let path = place.path().join(place.spec.subfolder());
        let folder = WorkspaceDir::open(&path.to_string_lossy(), &[])?;
        self.resources.sandbox = self.resources.sandbox.take().map(|sandbox| sandbox.for_subfolder(&folder));
        self.resources.workspace = folder;
        Ok(())
    }

    /// Starts to push new commits in the background.
    pub(super) fn start_checkpoints(&self, has_place: bool) -> Option<Checkpoints> {
        let place = self.resources.place.clone().filter(|_| has_place)?;
        Some(Checkpoints::start(place, Arc::clone(&self.spool)))
    }

    /// Pushes the job's commits and uncommitted changes. All processes of the job have ended.
    pub(super) async fn push_result_at_end(&mut self, checkpoints: Checkpoints) {
        let pushed = checkpoints.stop().await;
        let Some(place) = self.resources.place.clone() else { return };
        let push = push_final_result(&place, pushed);
        let result = if self.end_reason == Some(EndReason::Stopped) {
            timeout(STOP_TIMEOUT, push).await.unwrap_or_else(|_| Err(vec![stopped_warning()]))
        } else {
            match self.wait_unless_stopped(push).await {
                Wait::Done(result) => result,
                Wait::Interrupted => Err(vec![stopped_warning()]),
            }
        };
        let (is_pushed, warnings) = match result {
            Ok(warnings) => (true, warnings),
            Err(warnings) => (false, warnings),
        };
        self.has_unpushed_commits = !is_pushed;
        self.emit(warnings.into_iter().map(|message| EventBody::Warning { message }));
    }

    /// Waits for a future, or until the agent itself has to stop. A cancelled job still pushes its commits.
    pub(super) async fn wait_unless_stopped<T>(&mut self, future: impl Future<Output = T>) -> Wait<T> {
        tokio::pin!(future);
        loop {
            if matches!(self.control.borrow_and_update().control, Control::Stop { .. }) {
                return Wait::Interrupted;
            }
            tokio::select! {
                output = &mut future => return Wait::Done(output),
                Ok(()) = self.control.changed() => {}
            }
        }
    }

    /// Removes the job's place, unless it has commits that could not be pushed. The place of a job with a Codex
    /// thread is kept for jobs that continue the thread.
    pub(super) fn remove_place(&mut self, is_complete: bool) {
        let Some(place) = &self.resources.place else { return };
        if is_complete && self.has_unpushed_commits {
            return folder::mark_kept(place.path());
        }
        let path = place.path().to_owned();
        let thread = self.thread_id.take().filter(|thread| is_complete && is_thread_id(thread));
        // The removal of a large place takes long, and nothing waits for it.
        tokio::task::spawn_blocking(move || match thread {
            Some(thread) => folder::keep_for_thread(&path, &thread),
            None => folder::remove(&path),
        });
    }
}

/// Prepares a clone for the next job on the same repository, and removes caches until all fit their limit. In the
/// background: no job waits for it.
fn prepare_next_clone(place: &PlaceGit, cache: &RepositoryCache) {
    let (place, cache) = (place.clone(), cache.clone());
    tokio::spawn(async move {
        let home = prepared::home(&place.env);
        PreparedClone::of_cache(&cache).make(place.path(), place.spec.base(), place.user, home).await;
        let _ = tokio::task::spawn_blocking(move || cache.trim_all()).await;
    });
}

fn setup_failed(message: String) -> JobError {
    JobError { kind: FailureKind::SetupFailed, message, step: None }
}

fn stopped_warning() -> String {
    "the result could not be handed over: the agent was stopped".to_owned()
}

/// Commits the uncommitted changes and pushes the result. Returns warnings, as an error if the push is incomplete.
pub(super) async fn push_final_result(
    place: &PlaceGit,
    pushed: PushState,
) -> Result<Vec<String>, Vec<String>> {
    let mut warnings = Vec::new();
    let committed = place.commit_changes().await;
    if let Err(reason) = &committed {
        warnings.push(format!("uncommitted changes could not be committed: {reason}"));
    }
    let head = place.head().await;
    let at_relay = pushed.commit.as_deref().unwrap_or(place.spec.base());
    if head.as_deref() == Some(at_relay) {
        return if committed.is_ok() { Ok(warnings) } else { Err(warnings) };
    }
    match push_result(place).await {
        Ok(was_replaced) => warnings.extend(was_replaced.then(|| replaced_warning(place))),
        Err(reason) => {
            warnings.push(format!(
                "the result could not be handed over: {reason}; it is in {} on the agent's machine",
                place.path().display()
            ));
            return Err(warnings);
        }
    }
    if committed.is_ok() { Ok(warnings) } else { Err(warnings) }
}

/// Pushes the result, and tries again after a lost connection. Returns true if the push replaced another commit.
async fn push_result(place: &PlaceGit) -> Result<bool, String> {
    let mut may_repeat = true;
    for _ in 0..MAX_ATTEMPTS {
        match place.push(true, None).await {
            Ok(was_replaced) => return Ok(was_replaced),
            // An earlier push that was just stopped may lock the reference for a moment.
            Err(PushError::Failed(reason)) if may_repeat && !is_known_cause(&reason) => {
                may_repeat = false;
                tokio::time::sleep(REPEAT_PAUSE).await;
            }
            Err(PushError::Failed(reason)) => return Err(reason),
            Err(PushError::ConnectionLost) => {}
        }
    }
    Err("the connection to the relay was lost again and again".to_owned())
}
