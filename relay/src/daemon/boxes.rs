//! The engine calls for boxes, the containers of single jobs. They run in the background, a few at a time.

use std::path::{Component, Path, PathBuf};

use common::job::{JobSpec, Runner};
use tokio::sync::mpsc;

use super::core::{AgentId, Input};
use super::message::Message;
use super::platform::{Platform, run_blocking};
use crate::container_state::ContainerState;
use crate::engine::box_network;
use crate::engine::job_box::{self, BoxContent};
use crate::engine::workspace::MOUNT_POINT;
use crate::job_box::{BoxId, FoundBox};
use crate::job_identity::JobIdentity;
use crate::state_dir::tokens::box_holder;

/// Job for which a box is started.
pub(super) struct BoxJob {
    pub(super) id: BoxId,
    pub(super) spec: JobSpec,
    /// Job whose Codex thread the job continues.
    pub(super) continued: Option<JobIdentity>,
}

/// Starts a box in the background, and reports the outcome to the core.
pub(super) fn start_in_background(platform: Platform, job: BoxJob, core: mpsc::Sender<Message>) {
    tokio::spawn(async move {
        let agent: AgentId = job.id.agent().as_str().into();
        // The semaphore is never closed.
        let _permit = platform.box_permits.clone().acquire_owned().await;
        let result = run_blocking(move || platform.start_box(&job)).await;
        let _ = core.send(Input::BoxStarted { agent, result }.into()).await;
    });
}

/// Starts a box that has exited in the background, and reports the outcome to the core.
pub(super) fn restart_in_background(platform: Platform, id: BoxId, core: mpsc::Sender<Message>) {
    tokio::spawn(async move {
        let agent: AgentId = id.agent().as_str().into();
        let _permit = platform.box_permits.clone().acquire_owned().await;
        let result = run_blocking(move || platform.container().restart_box(&id)).await;
        let _ = core.send(Input::BoxStarted { agent, result }.into()).await;
    });
}

/// Removes a box in the background, and reports the outcome to the core.
pub(super) fn remove_in_background(platform: Platform, id: BoxId, core: mpsc::Sender<Message>) {
    tokio::spawn(async move {
        let agent: AgentId = id.agent().as_str().into();
        let _permit = platform.box_permits.clone().acquire_owned().await;
        let result = run_blocking(move || platform.remove_box(&id)).await;
        let _ = core.send(Input::BoxRemoved { agent, result }.into()).await;
    });
}

impl Platform {
    /// Starts a box, unless it runs already.
    fn start_box(&self, job: &BoxJob) -> Result<(), String> {
        let (container, id) = (self.container(), &job.id);
        let agent = id.agent();
        if self.tokens.has_token(&box_holder(&agent)) {
            match container.box_state(id)? {
                ContainerState::Running => return Ok(()),
                ContainerState::Paused => return Err("it is paused".to_owned()),
                ContainerState::Exited { .. } => return container.restart_box(id),
                ContainerState::Absent => {}
            }
        }
        let socket_folder = self.socket_folder()?;
        let token =
            self.tokens.mint_for_box(&agent).map_err(|e| format!("its agent's token can't be made: {e}"))?;
        self.tokens.revoke_older(&box_holder(&agent), Some(&token));
        let mut agent_config = self.agent_config(&token);
        (agent_config.max_jobs, agent_config.one_job) = (1, true);
        if socket_folder.is_some() {
            agent_config.socket = Some(box_network::socket_path());
            agent_config.network_proxy = true;
        }
        let threads = job.continued.as_ref().and_then(|earlier| self.threads.read(earlier));
        let mount = box_mount(&self.config.workspaces_folder, &job.spec);
        let copies = self.copies.join(id.agent());
        let content = BoxContent { id, agent_config: &agent_config, mount, socket_folder, threads, copies };
        let created = container.create_box(&content);
        created.inspect_err(|_| self.tokens.revoke(&token))
    }

    /// Returns the folder with the relay's socket for a box without a network; `None` for a box in the engine's network.
    ///
    /// # Errors
    /// The engine does not answer, or can't keep the job to the hosts that the user has named.
    fn socket_folder(&self) -> Result<Option<PathBuf>, String> {
        if !self.has_network_rules {
            return Ok(None);
        }
        match self.network_obstacle()? {
            None => Ok(Some(self.box_socket.clone())),
            Some(reason) if self.has_own_network_rules => Err(format!(
                "it can't be kept to the hosts in [network] allow, because {reason}: remove that setting, and jobs have \
                 the engine's network"
            )),
            Some(_) => Ok(None),
        }
    }

    /// Returns the reason why the containers of jobs can't be without a network, if there is one.
    fn network_obstacle(&self) -> Result<Option<String>, String> {
        if let Some(known) = self.network_obstacle.get() {
            return Ok(known.clone());
        }
        let obstacle = self.container().network_obstacle()?;
        if let Some(reason) = &obstacle {
            tracing::warn!("jobs can't be kept to the hosts in [network] allow: {reason}");
        }
        Ok(self.network_obstacle.get_or_init(|| obstacle).clone())
    }

    /// Removes a box. Its Codex threads are kept, so that a later job can continue them.
    fn remove_box(&self, id: &BoxId) -> Result<(), String> {
        let container = self.container();
        match container.read_threads(id) {
            Ok(Some(threads)) => self.threads.store(id.owner(), &threads),
            Ok(None) => {}
            Err(reason) => tracing::debug!("the Codex threads of {} can't be read: {reason}", id.job()),
        }
        container.remove_box(id)?;
        self.tokens.revoke_older(&box_holder(&id.agent()), None);
        Ok(())
    }

    /// Returns the state of a box.
    pub(super) async fn box_state(&self, id: BoxId) -> Result<ContainerState, String> {
        let platform = self.clone();
        run_blocking(move || platform.container().box_state(&id)).await
    }

    /// Returns the boxes of the registry.
    pub(super) async fn list_boxes(&self) -> Result<Vec<FoundBox>, String> {
        let platform = self.clone();
        run_blocking(move || job_box::list_boxes(platform.engine(), &platform.registry_dir)).await
    }

    /// Stops and removes all boxes of the registry.
    pub(super) fn stop_boxes(&self) -> Result<(), String> {
        for id in self.container().stop_boxes()? {
            self.remove_box(&id)?;
        }
        Ok(())
    }
}

/// Returns the folder of this machine that a job sees in its box, with the path there: the folder in the workspaces
/// folder that contains the job's workspace.
fn box_mount(workspaces: &Path, spec: &JobSpec) -> Option<(PathBuf, String)> {
    if spec.place.is_some() {
        return None;
    }
    let all = (workspaces.to_owned(), MOUNT_POINT.to_owned());
    let Ok(relative) = Path::new(&spec.workspace).strip_prefix(MOUNT_POINT) else { return Some(all) };
    let Some(Component::Normal(first)) = relative.components().next() else { return Some(all) };
    // The repository of a linked worktree is in another folder, which its `.git` file names.
    let has_outer_repository = relative
        .ancestors()
        .map(|folder| workspaces.join(folder).join(".git"))
        .any(|git| git.symlink_metadata().is_ok_and(|meta| !meta.is_dir()));
    if has_outer_repository {
        return Some(all);
    }
    Some((workspaces.join(first), format!("{MOUNT_POINT}/{}", first.to_string_lossy())))
}

/// Returns the job whose Codex thread a job with this spec continues, if the job follows one.
pub(super) fn continued_job(spec: &JobSpec, followed: Option<JobIdentity>) -> Option<JobIdentity> {
    followed.filter(|_| spec.runner == Runner::Codex && spec.thread.is_some())
}

#[cfg(test)]
mod tests {
    use common::place::PlaceSpec;

    use super::*;

    #[test]
    fn a_job_sees_only_the_folder_that_contains_its_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["abe/.git", "abe/sub", "tree"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("tree/.git"), "gitdir: ../abe/.git/worktrees/tree\n").unwrap();
        let mount = |workspace: &str| {
            let spec = JobSpec::new("a#1".parse().unwrap(), Runner::Shell, "true", workspace);
            box_mount(root, &spec).map(|(folder, target)| {
                (folder.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), target)
            })
        };
        let mounted = |folder: &str, target: &str| Some((folder.to_owned(), target.to_owned()));
        assert_eq!(mount("/workspaces/abe/sub"), mounted("abe", "/workspaces/abe"));
        assert_eq!(mount("/workspaces"), mounted("", "/workspaces"));
        assert_eq!(mount("/workspaces/tree"), mounted("", "/workspaces"), "a linked worktree");
        let mut spec = JobSpec::new("a#1".parse().unwrap(), Runner::Shell, "true", "/w");
        let id = "a".repeat(40);
        spec.place = Some(PlaceSpec::new(&id, &id, "relay/a-1", "").unwrap());
        assert_eq!(box_mount(root, &spec), None);
    }
}
