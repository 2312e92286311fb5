//! Leftover output: the output folder of a run whose agent was killed. The next agent hands its files over before it
//! reports the end of the run.
//!
//! ```text
//!  folder found ──collector, stream──► relay has all files ──► warnings in the spool ──► removed
//!                       └── failed, or tried too often ──► reason in the spool, kept
//! ```
//!
//! An agent that is killed meanwhile leaves the folder to the next one, which hands over everything once more.

use std::path::Path;

use common::event::EventBody;
use common::job::{JobSpec, Sandbox};
use tokio::time::timeout;

use super::leftover_place::{PUSH_LIMIT, remove};
use super::manager::JobManager;
use super::output::{kept_warning, skipped_warning};
use crate::confine::admission;
use crate::environment::Variables;
use crate::output::collector::Report;
use crate::output::job_output::JobOutput;
use crate::place::folder::{self, FolderKind};
use crate::spool::{JobSpool, RunId};
use crate::workspace::WorkspaceDir;

impl JobManager {
    /// Hands over the output of an interrupted run, with warnings for the job, and removes its folder and the folder of
    /// its images. None of the run's processes is left. With an error in `may_push`, the output is kept instead, for
    /// that reason.
    pub(super) async fn push_leftover_output(
        &self,
        run: &JobSpool,
        spec: &JobSpec,
        may_push: Result<(), String>,
    ) {
        // The sandbox that the job was admitted with counts, even if other settings have been approved since.
        let is_confined = spec.codex.sandbox != Sandbox::Off;
        // Without an environment the output is kept, and the reason follows below.
        let env = self.environment(&Variables::new()).map(|(env, _)| env).unwrap_or_default();
        let existing_folder = |kind| {
            let path =
                folder::run_folder_path(kind, &self.context.state_dir, run.run_id(), is_confined, &env)
                    .ok()?;
            path.symlink_metadata().is_ok().then_some(path)
        };
        if let Some(images) = existing_folder(FolderKind::Images) {
            remove(&images).await;
        }
        let Some(path) = existing_folder(FolderKind::Output) else { return };
        let push = self.push_output_of(run.run_id(), spec, &path, may_push);
        let pushed = timeout(PUSH_LIMIT, push)
            .await
            .unwrap_or_else(|_| Err(format!("it took longer than {} s", PUSH_LIMIT.as_secs())));
        let is_pushed = pushed.is_ok();
        let warning = match pushed {
            Ok(report) => skipped_warning(&report),
            Err(reason) => Some(kept_warning(&reason, &path.to_string_lossy())),
        };
        // The run itself no longer knows any secrets. The worker chose the names of its files.
        let mask = self.build_masker("", None);
        let warning = warning.map(|message| mask.mask_text(&message).into_owned());
        // The warning comes first: after the removal the next agent could not find it out again.
        run.append_all(warning.map(|message| EventBody::Warning { message }));
        if is_pushed {
            remove(&path).await;
        } else {
            folder::mark_kept(&path);
        }
    }

    /// Sends the files in the output folder `path` to the relay.
    async fn push_output_of(
        &self,
        run: &RunId,
        spec: &JobSpec,
        path: &Path,
        may_push: Result<(), String>,
    ) -> Result<Report, String> {
        // The job may have replaced its folder.
        let folder = WorkspaceDir::open(&path.to_string_lossy(), &[])
            .map_err(|_| "its folder can't be opened, or is no folder any more".to_owned())?;
        let (env, user) = self.environment(&Variables::new())?;
        let streams = self.context.streams.clone();
        let output = JobOutput::new(run.clone(), streams, folder, (env, user.map(|user| user.ids)), None);
        if output.is_empty() {
            return Ok(Report::default());
        }
        may_push?;
        let config = self.lock_state().config.clone().ok_or("the agent is not configured yet")?;
        let sandbox = if admission::admit(spec, &config)? {
            Some(self.folder_sandbox(&config, &output.folder).await?)
        } else {
            None
        };
        JobOutput { sandbox, ..output }.push_output().await
    }
}
