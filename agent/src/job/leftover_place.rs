//! Place of a run whose agent was killed. The next agent pushes what it holds, before it reports the end of the run.

use std::path::Path;
use std::time::Duration;

use common::job::JobSpec;
use tokio::time::timeout;

use super::manager::JobManager;
use super::own_place::push_final_result;
use crate::confine::admission;
use crate::environment::Variables;
use crate::place::checkpoints::Pushed;
use crate::place::folder;
use crate::place::git::PlaceGit;
use crate::spool::{JobSpool, RunId};
use crate::workspace::WorkspaceDir;

/// Maximum time to push the result of one place. The end of its job waits for it.
const PUSH_LIMIT: Duration = Duration::from_secs(120);

impl JobManager {
    /// Pushes the commits in the place of an interrupted run, none of whose processes is left, with what is
    /// uncommitted there. Returns warnings for the job. A place that was not complete yet is removed.
    pub(super) async fn push_result_of_leftover(&self, run: &JobSpool) -> Vec<String> {
        let spec = run.stored_spec().and_then(|spec| serde_json::from_str::<JobSpec>(&spec).ok());
        let Some(place) = self.leftover_place(run.run_id(), spec).await else { return Vec::new() };
        let path = place.path().to_owned();
        if !folder::was_made(&path) {
            remove(&path).await;
            return Vec::new();
        }
        let push = push_final_result(&place, Pushed::default());
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

    /// Returns git in the place of an earlier agent's run, if there is one.
    async fn leftover_place(&self, run: &RunId, spec: Option<JobSpec>) -> Option<PlaceGit> {
        let spec = spec?;
        let place = spec.place.clone()?;
        let (env, user) = self.environment(&Variables::new()).ok()?;
        let config = self.lock_state().config.clone()?;
        let confined = admission::admit(&spec, &config).ok()?;
        let path = folder::place_path(&self.context.state_dir, run, confined, &env).ok()?;
        let top = WorkspaceDir::open(&path.to_string_lossy(), &[]).ok()?;
        let sandbox = if confined { Some(self.sandbox(&config, &top, None).await.ok()?) } else { None };
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

/// Removes a place. A large one takes long.
async fn remove(place: &Path) {
    let place = place.to_owned();
    // The removal does not panic.
    let _ = tokio::task::spawn_blocking(move || folder::remove(&place)).await;
}
