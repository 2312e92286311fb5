//! The engine calls for boxes, the containers of single jobs. They run in the background, a few at a time.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use common::job::{JobSpec, Runner};
use tokio::sync::mpsc;

use super::core::{AgentId, Input};
use super::message::Message;
use super::platform::{Platform, run_blocking};
use crate::container_state::ContainerState;
use crate::engine::box_network;
use crate::engine::engine_facts::EngineFacts;
use crate::engine::job_box::{self, BoxContent};
use crate::engine::workspace::{self, MOUNT_POINT};
use crate::job_box::{BoxFailure, BoxId, FoundBox};
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
        let result = run_blocking(move || Ok(platform.start_box(&job))).await;
        let result = result.unwrap_or_else(|reason| Err(reason.into()));
        let _ = core.send(Input::BoxStarted { agent, result }.into()).await;
    });
}

/// Starts a box that has exited in the background, and reports the outcome to the core.
pub(super) fn restart_in_background(platform: Platform, id: BoxId, core: mpsc::Sender<Message>) {
    tokio::spawn(async move {
        let agent: AgentId = id.agent().as_str().into();
        let _permit = platform.box_permits.clone().acquire_owned().await;
        let result = run_blocking(move || platform.container().restart_box(&id)).await;
        let result = result.map_err(BoxFailure::from);
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
    fn start_box(&self, job: &BoxJob) -> Result<(), BoxFailure> {
        let (container, id) = (self.container(), &job.id);
        let agent = id.agent();
        if self.tokens.has_token(&box_holder(&agent)) {
            match container.box_state(id)? {
                ContainerState::Running => return Ok(()),
                ContainerState::Paused => return Err("it is paused".to_owned().into()),
                ContainerState::Exited { .. } => return container.restart_box(id).map_err(BoxFailure::from),
                ContainerState::Absent => {}
            }
        }
        let facts = self.engine_facts()?;
        let has_network = self.has_box_network(&facts)?;
        let token =
            self.tokens.mint_for_box(&agent).map_err(|e| format!("its agent's token can't be made: {e}"))?;
        self.tokens.revoke_older(&box_holder(&agent), Some(&token));
        let mut agent_config = self.agent_config(&token, facts.needs_socket());
        (agent_config.max_jobs, agent_config.one_job) = (1, true);
        agent_config.disk = self.config.resources.disk;
        if !has_network {
            agent_config.socket = Some(box_network::socket_path());
            agent_config.network_proxy = true;
            agent_config.secrets = self.secret_names();
        }
        let threads = job.continued.as_ref().and_then(|earlier| self.threads.read(earlier));
        let mounts = box_mounts(&self.config.workspaces_folder, &job.spec);
        let copies = self.copies.join(id.agent());
        let content = BoxContent { id, agent_config: &agent_config, mounts, has_network, threads, copies };
        let created = container.create_box(&facts, &content);
        created.inspect_err(|_| self.tokens.revoke(&token)).map_err(BoxFailure::from)
    }

    /// Returns the names of the secrets that the relay adds to requests. A job also runs if they can't be read.
    fn secret_names(&self) -> Vec<String> {
        let secrets = self.secrets.load().inspect_err(|reason| tracing::warn!("{reason}"));
        secrets.unwrap_or_default().into_keys().collect()
    }

    /// Returns true if a new box is in the engine's network.
    ///
    /// # Errors
    /// The engine does not answer, or the user's list of hosts can't be enforced.
    fn has_box_network(&self, facts: &EngineFacts) -> Result<bool, BoxFailure> {
        if !self.has_allow_list {
            return Ok(true);
        }
        match self.no_network_obstacle(facts)? {
            None => Ok(false),
            Some(reason) if self.is_explicit_allow_list => Err(BoxFailure {
                reason: format!(
                    "the hosts in [network] allow can't be enforced: {reason}; without that setting, jobs use the \
                     engine's network"
                ),
                is_permanent: true,
            }),
            Some(_) => Ok(true),
        }
    }

    /// Returns the reason why the containers of jobs can't be without a network, if there is one.
    fn no_network_obstacle(&self, facts: &EngineFacts) -> Result<Option<String>, String> {
        if let Some(known) = self.no_network_obstacle.get() {
            return Ok(known.clone());
        }
        let obstacle = self.container().no_network_obstacle(facts)?;
        if let Some(reason) = &obstacle {
            tracing::warn!("the hosts in [network] allow can't be enforced: {reason}");
        }
        Ok(self.no_network_obstacle.get_or_init(|| obstacle).clone())
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

/// Returns the folders of this machine that a job sees in its box, with their paths there: the folder in the workspaces
/// folder that contains the job's workspace, and for a linked worktree the folder with its repository.
fn box_mounts(workspaces: &Path, spec: &JobSpec) -> Vec<(PathBuf, String)> {
    if spec.place.is_some() {
        return Vec::new();
    }
    let all = || vec![(workspaces.to_owned(), MOUNT_POINT.to_owned())];
    let Ok(relative) = Path::new(&spec.workspace).strip_prefix(MOUNT_POINT) else { return all() };
    if relative.as_os_str().is_empty() {
        return all();
    }
    let workspace = workspaces.join(relative);
    let needed = workspace::git_folders(workspaces, &workspace);
    let folders =
        std::iter::once(workspace).chain(needed).filter_map(|folder| top_folder(workspaces, &folder));
    let folders: BTreeSet<OsString> = folders.collect();
    let mount =
        |name: &OsString| (workspaces.join(name), format!("{MOUNT_POINT}/{}", name.to_string_lossy()));
    folders.iter().map(mount).collect()
}

/// Returns the name of the folder in the workspaces folder that contains `path`. A repository of the whole workspaces
/// folder belongs to no single job.
fn top_folder(workspaces: &Path, path: &Path) -> Option<OsString> {
    match path.strip_prefix(workspaces).ok()?.components().next()? {
        Component::Normal(name) if name != ".git" => Some(name.to_owned()),
        _ => None,
    }
}

/// Returns the job whose Codex thread a job with this spec continues, if the job follows one.
pub(super) fn continued_job(spec: &JobSpec, followed: Option<JobIdentity>) -> Option<JobIdentity> {
    followed.filter(|_| spec.runner == Runner::Codex && spec.thread.is_some())
}

#[cfg(test)]
mod tests {
    use common::place::PlaceSpec;

    use super::*;

    /// Writes a file with its folders.
    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn mounted(root: &Path, workspace: &str) -> Vec<(String, String)> {
        std::fs::create_dir_all(
            root.join(workspace.trim_start_matches("/workspaces").trim_start_matches('/')),
        )
        .unwrap();
        let spec = JobSpec::new("a#1".parse().unwrap(), Runner::Shell, "true", workspace);
        let name = |folder: PathBuf| folder.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        box_mounts(root, &spec).into_iter().map(|(folder, target)| (name(folder), target)).collect()
    }

    fn mounts(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| ((*name).to_owned(), format!("/workspaces/{name}"))).collect()
    }

    #[test]
    fn a_job_sees_only_the_folder_that_contains_its_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        assert_eq!(mounted(&root, "/workspaces/abe/sub"), mounts(&["abe"]));
        write(&root.join(".git/HEAD"), "x");
        assert_eq!(mounted(&root, "/workspaces/abe"), mounts(&["abe"]));
        assert_eq!(mounted(&root, "/workspaces"), [(String::new(), "/workspaces".to_owned())]);
        let mut spec = JobSpec::new("a#1".parse().unwrap(), Runner::Shell, "true", "/w");
        let id = "a".repeat(40);
        spec.place = Some(PlaceSpec::new(&id, &id, "relay/a-1", "").unwrap());
        assert_eq!(box_mounts(&root, &spec), []);
    }

    #[test]
    fn a_linked_worktree_comes_with_its_repository_if_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let git = root.join("abe/.git");
        for file in ["HEAD", "objects/x", "refs/x", "worktrees/tree/HEAD"] {
            write(&git.join(file), "x");
        }
        write(&git.join("worktrees/tree/commondir"), "../..\n");
        write(&root.join("tree/.git"), "gitdir: ../abe/.git/worktrees/tree\n");
        // A worker can write this file, but none in the repository.
        assert_eq!(mounted(&root, "/workspaces/tree"), mounts(&["tree"]));
        write(&git.join("worktrees/tree/gitdir"), &root.join("tree/.git").display().to_string());
        assert_eq!(mounted(&root, "/workspaces/tree"), mounts(&["abe", "tree"]));
        write(&root.join("other/.git"), "gitdir: ../abe/.git/worktrees/tree\n");
        assert_eq!(mounted(&root, "/workspaces/other"), mounts(&["other"]));
        for forged in ["gitdir: ../abe/.git\n", "gitdir: /\n", "", "x"] {
            write(&root.join("forged/.git"), forged);
            assert_eq!(mounted(&root, "/workspaces/forged"), mounts(&["forged"]), "{forged:?}");
        }
    }
}
