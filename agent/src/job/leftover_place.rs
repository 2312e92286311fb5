//! Leftover place: the clone of a run whose agent was killed. The next agent pushes its commits before it reports the
//! end of the run.

use std::path::Path;
use std::time::Duration;

use common::job::JobSpec;
use tokio::time::timeout;

use super::manager::JobManager;
use super::own_place::push_final_result;
use crate::confine::admission;
use crate::environment::Variables;
use crate::place::checkpoints::PushState;
use crate::place::folder::{self, FolderKind};
use crate::place::git::PlaceGit;
use crate::spool::RunId;
use crate::workspace::WorkspaceDir;

/// Maximum time to push the result of one place, and also the output of its job. The job is not reported as ended
/// before.
pub(super) const PUSH_LIMIT: Duration = Duration::from_secs(120);

impl JobManager {
    /// Pushes the commits and the uncommitted changes of an interrupted run from its place to the relay. None of the
    /// run's processes is left. Returns warnings for the job. Removes a place that was not complete yet. With an error
    /// in `may_push`, the place is kept instead, for that reason.
    pub(super) async fn push_leftover_result(
        &self,
        run: &RunId,
        spec: &JobSpec,
        may_push: Result<(), String>,
    ) -> Vec<String> {
        let Some(place) = self.leftover_place(run, spec).await else { return Vec::new() };
        let path = place.path().to_owned();
        if !folder::is_complete(&path) {
            remove(&path).await;
            return Vec::new();
        }
        if let Err(reason) = may_push {
            folder::mark_kept(&path);
            let path = path.display();
            return vec![format!(
                "the result was not handed over: {reason}; it is in {path} on the agent's machine"
            )];
        }
        let push = push_final_result(&place, PushState::default());
        match timeout(PUSH_LIMIT, push).await {
            Ok(Ok(warnings)) => {
                remove(&path).await;
                warnings
            }
            Ok(Err(warnings)) => {
                folder::mark_kept(&path);
                warnings
            }
            Err(_) => {
                folder::mark_kept(&path);
                let (seconds, path) = (PUSH_LIMIT.as_secs(), path.display());
                vec![format!(
                    "the result was not handed over within {seconds} s; it is in {path} on the agent's machine"
                )]
            }
        }
    }

    /// Returns git for the leftover place of a run, if there is one.
    async fn leftover_place(&self, run: &RunId, spec: &JobSpec) -> Option<PlaceGit> {
        let place = spec.place.clone()?;
        let (env, user) = self.environment(&Variables::new()).ok()?;
        let config = self.lock_state().config.clone()?;
        let is_confined = admission::admit(spec, &config).ok()?;
        let state = &self.context.state_dir;
        let path = folder::path(FolderKind::Place, state, run, is_confined, &env).ok()?;
        let top = WorkspaceDir::open(&path.to_string_lossy(), &[]).ok()?;
        let sandbox = if is_confined { Some(self.sandbox(&config, &top, None).await.ok()?) } else { None };
        Some(PlaceGit {
            run: run.clone(),
            spec: place,
            streams: self.context.streams.clone(),
            top,
            env,
            user: user.map(|user| user.ids),
            sandbox,
            cache: None,
        })
    }
}

/// Removes a folder of a job on another thread, because the removal of a large one takes long.
pub(super) async fn remove(folder: &Path) {
    let folder = folder.to_owned();
    // An error would mean that the removal has panicked.
    let _ = tokio::task::spawn_blocking(move || folder::remove(&folder)).await;
}
