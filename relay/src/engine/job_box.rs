//! Box of a job: a container for one run of one job.
//!
//! ```text
//!  create ──► copy the files of the agent and of Codex into it ──► start … exit ──► threads are copied out ──► remove
//! ```
//!
//! The files go through the engine's own copy command, as an archive. So the token and the model key are in no argument
//! and no environment, and no process of relay opens a file that a worker can replace.

#![expect(
    clippy::disallowed_methods,
    reason = "a folder in the user's state folder, which no session may write"
)]

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use common::ids::JobId;
use sha2::{Digest, Sha256};

use super::agent_config::{AgentConfig, MODEL_KEYS};
use super::codex_home::{self, CODEX_HOME};
use super::command::{ACTION_TIMEOUT, query, run_with_bytes, run_with_input};
use super::container::{AGENT_STATE_PATH, Container, REGISTRY_LABEL, labeled_containers};
use super::engine_facts::EngineFacts;
use super::inspect::{INSPECT_FORMAT, container_state, parse_state};
use super::owned_archive;
use crate::container_state::ContainerState;
use crate::engine_kind::EngineKind;
use crate::job_box::{BoxId, FoundBox};
use crate::job_identity::JobIdentity;
use crate::protected_paths;

/// Label with the id of the job, as `NAME.N`.
pub const JOB_LABEL: &str = "relay.job";
/// Label with the run of the job.
pub const EPOCH_LABEL: &str = "relay.epoch";
/// Label with the time of the job's launch, in milliseconds since 1970.
pub const LAUNCHED_LABEL: &str = "relay.launched";
/// Folder in Codex's home with the files of the threads.
const THREADS_FOLDER: &str = "sessions";
/// Maximum length of the archive with the threads of a job, in bytes. A long thread has some MiB.
const MAX_THREADS_BYTES: u64 = 64 << 20;
/// File with Codex's login in Codex's home.
const LOGIN_FILE: &str = "auth.json";
/// Maximum length of the archive with a login, in bytes.
const MAX_LOGIN_BYTES: u64 = 1 << 20;
/// Length of the part of a digest that makes the name of a box unique on its engine, in hexadecimal digits.
const NAME_DIGITS: usize = 8;

/// Content of a new box.
pub struct BoxContent<'a> {
    /// Identity of the box.
    pub id: &'a BoxId,
    /// Configuration of its agent.
    pub agent_config: &'a AgentConfig,
    /// Folders of this machine that the job needs, and their paths in the box; none for a job with a clone.
    pub mounts: Vec<(PathBuf, String)>,
    /// True for a box in the engine's network.
    pub has_network: bool,
    /// Archive with the threads of an earlier job, which this job continues.
    pub threads: Option<Vec<u8>>,
    /// Folder of relay's own for the copies that podman makes of what it gets on stdin, and does not remove.
    pub copies: PathBuf,
}

/// Creates an empty folder that only this user can enter. What an earlier process left there is removed.
fn private_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Returns the identity of a box from the labels of its container; `None` for a container that is no box.
pub fn box_of_labels<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<BoxId> {
    let job: JobId = label(JOB_LABEL)?.parse().ok()?;
    let owner = JobIdentity::new(job, label(LAUNCHED_LABEL)?.parse().ok()?);
    Some(BoxId::new(owner, label(EPOCH_LABEL)?.parse().ok()?))
}

impl Container<'_> {
    /// Returns the name of a box, which does not depend on settings.
    fn box_name(&self, id: &BoxId) -> String {
        let registry = self.registry.display();
        let mut digest = hex::encode(Sha256::digest(format!("{registry} {}", id.agent())));
        digest.truncate(NAME_DIGITS);
        format!("relay-{}-{}-{digest}", id.job().file_stem(), id.epoch())
    }

    /// Returns the state of a box.
    pub fn box_state(&self, id: &BoxId) -> Result<ContainerState, String> {
        container_state(self.engine, &self.box_name(id))
    }

    /// Starts a box that has exited.
    pub fn restart_box(&self, id: &BoxId) -> Result<(), String> {
        self.query(&["start", &self.box_name(id)]).map(|_| ())
    }

    /// Creates and starts a box. A container with its name, which never ran or whose agent can't connect, is replaced.
    pub fn create_box(&self, facts: &EngineFacts, content: &BoxContent<'_>) -> Result<(), String> {
        let name = self.box_name(content.id);
        self.query(&["rm", "-f", "-v", &name]).or_else(ignore_missing)?;
        self.check_mounts(content)?;
        let mut create = self.command(&["create", "--name", &name, "--pull", "never"]);
        let labels = [
            (REGISTRY_LABEL, self.registry.display().to_string()),
            (JOB_LABEL, content.id.job().file_stem()),
            (EPOCH_LABEL, content.id.epoch().to_string()),
            (LAUNCHED_LABEL, content.id.owner().launched_at_ms().to_string()),
        ];
        for (label, value) in labels {
            create.args(["--label", &format!("{label}={value}")]);
        }
        create.args(self.limit_arguments(facts));
        create.args(if content.has_network {
            self.network_arguments(facts)
        } else {
            self.no_network_arguments()
        });
        for (folder, target) in &content.mounts {
            create.args(facts.mount_arguments(folder, target));
        }
        create.arg(&self.platform.image);
        let engine = self.engine;
        run_with_input(&mut create, facts.create_input(), facts.create_limit())
            .map_err(|e| format!("{engine} create: {e}"))?;
        let started = self
            .check_mounts(content)
            .and_then(|()| self.fill_box(&name, content))
            .and_then(|()| self.query(&["start", &name]).map(|_| ()));
        started.inspect_err(|_| {
            // The container may see a folder that was not approved, or lack its files.
            let _ = self.query(&["rm", "-f", "-v", &name]);
        })
    }

    /// Copies the files of the agent and of Codex into a box that does not run yet.
    fn fill_box(&self, name: &str, content: &BoxContent<'_>) -> Result<(), String> {
        let copy_error = |e: io::Error| format!("its files could not be copied into it: {e}");
        let archive = self.build_archive(content).map_err(copy_error)?;
        private_folder(&content.copies).map_err(copy_error)?;
        let copy = |archive: &[u8], target: &str| {
            let mut copy = self.command(&["cp"]);
            if self.engine == EngineKind::Podman {
                // With `--archive`, its default, podman would give the files to root instead of their owners.
                copy.arg("--archive=false");
            }
            copy.args(["-", &format!("{name}:{target}")]).env("TMPDIR", &content.copies);
            run_with_input(&mut copy, archive, ACTION_TIMEOUT).map_err(copy_error)
        };
        let copy_to_home = |archive: &[u8]| {
            let owned = owned_archive::set_owner(archive, self.platform.worker_ids).map_err(copy_error)?;
            copy(&owned, CODEX_HOME)
        };
        let copied = copy(&archive, "/")
            .and_then(|()| self.read_login(content.agent_config).map_or(Ok(()), |login| copy_to_home(&login)))
            .and_then(|()| content.threads.as_deref().map_or(Ok(()), copy_to_home));
        fs::remove_dir_all(&content.copies).map_err(copy_error)?;
        copied
    }

    /// Returns an archive with the API key with which a person logged in in the platform's container, if the job has no
    /// other way to the model. No worker runs in that container. Copies of another login would log each other out.
    fn read_login(&self, agent_config: &AgentConfig) -> Option<Vec<u8>> {
        let has_key = MODEL_KEYS.iter().any(|key| agent_config.env.contains_key(*key));
        let has_login = || {
            codex_home::worker_files(&self.platform.codex_config, false)
                .iter()
                .any(|(name, _)| *name == LOGIN_FILE)
        };
        if agent_config.model_gateway || has_key || has_login() {
            return None;
        }
        let source = format!("{}:{CODEX_HOME}/{LOGIN_FILE}", self.platform.name);
        let copied =
            run_with_bytes(&mut self.command(&["cp", &source, "-"]), ACTION_TIMEOUT, MAX_LOGIN_BYTES);
        copied.ok().filter(|archive| is_key_login(archive))
    }

    fn build_archive(&self, content: &BoxContent<'_>) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |path: &str, bytes: &[u8], (uid, gid): (u32, u32)| {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            header.set_uid(uid.into());
            header.set_gid(gid.into());
            header.set_mtime(0);
            archive.append_data(&mut header, path.trim_start_matches('/'), bytes)
        };
        let config = serde_json::to_vec(content.agent_config)?;
        add(&format!("{AGENT_STATE_PATH}/config.json"), &config, (0, 0))?;
        add(&format!("{AGENT_STATE_PATH}/agent-id"), content.id.agent().as_bytes(), (0, 0))?;
        for (name, bytes) in
            codex_home::worker_files(&self.platform.codex_config, content.agent_config.model_gateway)
        {
            add(&format!("{CODEX_HOME}/{name}"), &bytes, self.platform.worker_ids)?;
        }
        archive.into_inner()
    }

    fn check_mounts(&self, content: &BoxContent<'_>) -> Result<(), String> {
        if !content.mounts.is_empty() {
            self.check_workspaces(protected_paths::check_unlinked)?;
        }
        content.mounts.iter().try_for_each(|(folder, _)| {
            protected_paths::check_unlinked(folder)
                .map_err(|e| format!("the workspace {} can't be mounted ({e})", folder.display()))
        })
    }

    /// Returns an archive with the Codex threads in a box; `None` if there are none.
    pub fn read_threads(&self, id: &BoxId) -> Result<Option<Vec<u8>>, String> {
        let source = format!("{}:{CODEX_HOME}/{THREADS_FOLDER}", self.box_name(id));
        let mut copy = self.command(&["cp", &source, "-"]);
        match run_with_bytes(&mut copy, ACTION_TIMEOUT, MAX_THREADS_BYTES) {
            Ok(archive) => Ok(Some(archive)),
            Err(e) if is_missing_file(&e.to_string()) => Ok(None),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Removes a box with its processes, whatever its name is. A missing one is not an error.
    pub fn remove_box(&self, id: &BoxId) -> Result<(), String> {
        self.query(&["rm", "-f", "-v", &self.box_name(id)]).or_else(ignore_missing)?;
        let label = format!("{JOB_LABEL}={}", id.job().file_stem());
        for (name, _) in
            labeled_boxes(self.engine, self.registry, &label)?.iter().filter(|(_, found)| found.id == *id)
        {
            self.query(&["rm", "-f", "-v", name]).or_else(ignore_missing)?;
        }
        Ok(())
    }

    /// Stops the boxes of the registry, all at once. Returns their identities.
    pub fn stop_boxes(&self) -> Result<Vec<BoxId>, String> {
        let boxes = list_boxes(self.engine, self.registry)?;
        let names: Vec<String> = boxes
            .iter()
            .filter(|found| found.state == ContainerState::Running)
            .map(|found| self.box_name(&found.id))
            .collect();
        if !names.is_empty() {
            let mut args = vec!["stop", "-t", "10"];
            args.extend(names.iter().map(String::as_str));
            self.query(&args).or_else(ignore_missing)?;
        }
        Ok(boxes.into_iter().map(|found| found.id).collect())
    }
}

/// Returns the boxes of a registry on an engine.
pub fn list_boxes(engine: EngineKind, registry: &Path) -> Result<Vec<FoundBox>, String> {
    Ok(named_boxes(engine, registry)?.into_iter().map(|(_, found)| found).collect())
}

/// Returns the boxes of a registry on an engine, with the names of their containers.
pub fn named_boxes(engine: EngineKind, registry: &Path) -> Result<Vec<(String, FoundBox)>, String> {
    labeled_boxes(engine, registry, JOB_LABEL)
}

fn labeled_boxes(
    engine: EngineKind,
    registry: &Path,
    label: &str,
) -> Result<Vec<(String, FoundBox)>, String> {
    let mut boxes = Vec::new();
    for name in labeled_containers(engine, registry, Some(label))? {
        let format = format!("{{{{json .Config.Labels}}}}\n{INSPECT_FORMAT}");
        let answer = match query(engine, &["container", "inspect", "--format", &format, &name]) {
            Ok(answer) => answer,
            // It was removed meanwhile.
            Err(reason) if is_missing_container(&reason) => continue,
            Err(reason) => return Err(reason),
        };
        let (labels, state) = answer.split_once('\n').unwrap_or_default();
        let labels: BTreeMap<String, String> = serde_json::from_str(labels).unwrap_or_default();
        let id = box_of_labels(|label| labels.get(label).map(String::as_str));
        boxes.extend(id.zip(parse_state(state)).map(|(id, state)| (name, FoundBox { id, state })));
    }
    Ok(boxes)
}

/// Returns true if the file in an archive with one file is a login with an API key.
fn is_key_login(archive: &[u8]) -> bool {
    let read_file = || -> io::Result<bool> {
        let mut archive = tar::Archive::new(archive);
        let Some(entry) = archive.entries()?.next() else { return Ok(false) };
        let mut bytes = Vec::new();
        entry?.take(MAX_LOGIN_BYTES).read_to_end(&mut bytes)?;
        Ok(codex_home::contains_api_key(&bytes))
    };
    read_file().unwrap_or(false)
}

fn ignore_missing(reason: String) -> Result<String, String> {
    if is_missing_container(&reason) { Ok(String::new()) } else { Err(reason) }
}

fn is_missing_container(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    reason.contains("no such container") || reason.contains("no container with name")
}

/// Returns true if an engine's message says that a container does not have the file to copy. Docker writes `Could not
/// find the file`, podman `could not be found in container`.
fn is_missing_file(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["could not find the file", "could not be found", "no such file"].iter().any(|text| reason.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_login_with_an_api_key_is_copied_from_the_platform() {
        let archive = |content: &str| {
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, LOGIN_FILE, content.as_bytes()).unwrap();
            archive.into_inner().unwrap()
        };
        assert!(is_key_login(&archive("{\"OPENAI_API_KEY\":\"sk-1\"}")));
        assert!(!is_key_login(&archive("{\"tokens\":{\"refresh_token\":\"r\"}}")));
        assert!(!is_key_login(&archive("")) && !is_key_login(b"") && !is_key_login(b"no archive"));
    }

    #[test]
    fn only_a_container_with_all_labels_is_a_box() {
        let labels = [(JOB_LABEL, "demo.3"), (EPOCH_LABEL, "2"), (LAUNCHED_LABEL, "1767323045123")];
        let without = |missing: &str| {
            box_of_labels(|name| {
                labels.iter().find(|(label, _)| *label == name && name != missing).map(|(_, value)| *value)
            })
        };
        let expected = BoxId::new(JobIdentity::for_test("demo#3", 1_767_323_045_123), 2);
        assert_eq!(without(""), Some(expected));
        for (label, _) in labels {
            assert_eq!(without(label), None, "{label}");
        }
    }
}
