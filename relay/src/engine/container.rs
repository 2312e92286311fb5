//! Engines `docker` and `podman`, used through their commands.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::job::Sandbox;
use sha2::{Digest, Sha256};

use super::agent_config::AgentConfig;
use super::codex_home::{self, CODEX_HOME};
use super::command::{ACTION_TIMEOUT, engine_command, query, run_with_input, run_with_output};
use super::engine_facts::EngineFacts;
use super::existing_container::{ARGUMENTS_DIGEST_LABEL, ExistingContainer, Reuse, find_container};
use crate::config::PlatformConfig;
use crate::engine_kind::EngineKind;
use crate::protected_paths;

/// Path of the agent's state inside the container, on a volume.
pub(super) const AGENT_STATE_PATH: &str = "/var/lib/worker-agent";
/// Host name of this machine in a Docker container, which gets it as an additional entry of its hosts file.
pub(super) const DOCKER_HOST_NAME: &str = "host.docker.internal";
/// Host name of this machine in a podman container. Podman adds it to every container by itself, with an address that
/// suits the container's network. Its versions before 4.7 can't be asked to add another name for that address.
const PODMAN_HOST_NAME: &str = "host.containers.internal";
/// Host names under which this machine is reached from containers.
pub const HOST_NAMES: [&str; 2] = [DOCKER_HOST_NAME, PODMAN_HOST_NAME];
/// Label that ties the container to a registry.
pub(super) const REGISTRY_LABEL: &str = "relay.registry";

/// Container of a registry's platform, which may not exist yet.
pub struct Container<'a> {
    /// `docker` or `podman`.
    pub engine: EngineKind,
    /// Configuration of the platform.
    pub platform: &'a PlatformConfig,
    /// Path of the registry that the container belongs to.
    pub registry: &'a Path,
    /// Sandbox of Codex in the container.
    pub sandbox: Sandbox,
    /// Folder with the relay's socket.
    pub socket_folder: &'a Path,
}

impl Container<'_> {
    /// Checks that the engine answers and has the image. Returns facts about the engine, which are queried anew: what kept a
    /// container from starting may have been mended.
    pub fn check_engine_and_image(&self) -> Result<EngineFacts, String> {
        self.query(&["version", "--format", "{{.Server.Version}}"])
            .or_else(|reason| {
                // Podman without a service reports no server version.
                if self.engine == EngineKind::Podman { self.query(&["version"]) } else { Err(reason) }
            })
            .map_err(|reason| {
                let engine = self.engine;
                format!("{engine} does not answer ({reason}): start it, or use `relay up --engine local`")
            })?;
        let facts = self.query_facts()?;
        if facts.needs_socket() && facts.info.has_selinux {
            return Err("SELinux keeps containers of podman without root from the relay: run podman as root, or set \
                        `label = false` in [containers] of ~/.config/containers/containers.conf, which takes SELinux's \
                        protection from all your containers"
                .to_owned());
        }
        self.image_id().map(|_| facts)
    }

    /// Queries the facts that decide how the engine creates containers.
    pub fn query_facts(&self) -> Result<EngineFacts, String> {
        EngineFacts::query(self.engine, self.sandbox)
    }

    fn image_id(&self) -> Result<String, String> {
        self.query(&["image", "inspect", "--format", "{{.Id}}", &self.platform.image]).map_err(|_| {
            format!("image {} is missing: build it with `relay up --build`", self.platform.image)
        })
    }

    /// Returns the address at which the container reaches this host, if that address belongs to this machine (Linux).
    /// The address is read from the container, because an inspection of the network does not always show it.
    pub fn gateway_address(&self) -> Option<IpAddr> {
        let format = "{{range .NetworkSettings.Networks}}{{.Gateway}} {{end}}";
        let answer = self.query(&["container", "inspect", "--format", format, &self.platform.name]).ok()?;
        answer.split_whitespace().find_map(|word| word.parse().ok())
    }

    /// Ensures that the container runs, and configures the agent in it. A container with other settings is replaced, unless
    /// it runs and `has_jobs` is true: that would end its jobs. `facts` are those of [`Self::check_engine_and_image`].
    pub fn ensure_running(
        &self,
        facts: &EngineFacts,
        config: &AgentConfig,
        has_jobs: bool,
    ) -> Result<(), String> {
        // The engine would create a missing folder as root, and follow a link with its name.
        self.check_workspaces(protected_paths::create_folders)?;
        let args = self.run_arguments(facts);
        match find_container(self.engine, &self.platform.name)? {
            None => self.create(facts, &args)?,
            Some(container) => self.check_reusable(&container, facts, &args, has_jobs)?,
        }
        self.check_workspaces(protected_paths::check_unlinked).inspect_err(|_| {
            // The container may see folders that were not approved, so it is removed.
            let _ = self.query(&["rm", "-f", &self.platform.name]);
        })?;
        self.start_and_configure(config).map_err(|e| {
            let name = &self.platform.name;
            match find_container(self.engine, name) {
                Ok(Some(container)) if !container.is_running => {
                    format!("container '{name}' ended during its setup: see `{} logs {name}`", self.engine)
                }
                _ => e,
            }
        })
    }

    fn start_and_configure(&self, config: &AgentConfig) -> Result<(), String> {
        self.reset_codex_home(config.model_gateway)?;
        self.check_write_access()?;
        let mut exec = self.command(&["exec", "-i", "-u", "root", &self.platform.name]);
        exec.args(["worker-agent", "configure", "--state", AGENT_STATE_PATH]);
        let config = serde_json::to_vec(config).map_err(|e| e.to_string())?;
        run_with_input(&mut exec, &config, ACTION_TIMEOUT).map_err(|e| {
            let (engine, name) = (self.engine, &self.platform.name);
            format!(
                "the agent in container '{name}' could not be configured ({e}): see `{engine} logs \
                    {name}`"
            )
        })
    }

    /// Checks the path of the workspaces folder with `check`.
    pub(super) fn check_workspaces(&self, check: fn(&Path) -> io::Result<()>) -> Result<(), String> {
        let folder = &self.platform.workspaces_folder;
        check(folder)
            .map_err(|e| format!("the workspaces folder {} is not the approved one ({e})", folder.display()))
    }

    fn check_reusable(
        &self,
        container: &ExistingContainer,
        facts: &EngineFacts,
        args: &[String],
        has_jobs: bool,
    ) -> Result<(), String> {
        let name = &self.platform.name;
        let owner = container.labels.get(REGISTRY_LABEL).map_or("another program", String::as_str);
        if Path::new(owner) != self.registry {
            return Err(format!(
                "container '{name}' belongs to {owner}: remove it, or set [platform] name in platform/relay.toml"
            ));
        }
        match container.reuse(&self.image_id()?, &arguments_digest(args, facts), has_jobs) {
            Reuse::AsItIs => Ok(()),
            Reuse::ForItsJobs => {
                tracing::warn!(
                    "container '{name}' keeps the settings and image that it was started with, because jobs run in it: run \
                     `relay restart` once they have ended"
                );
                Ok(())
            }
            Reuse::Started => self.query(&["start", name]).map(|_| ()),
            Reuse::Never => {
                self.query(&["rm", "-f", name])?;
                self.create(facts, args)
            }
        }
    }

    /// Returns the arguments of `run` that determine what the container can do.
    fn run_arguments(&self, facts: &EngineFacts) -> Vec<String> {
        let mut args = self.limit_arguments(facts);
        args.extend(facts.mount_arguments(&self.platform.workspaces_folder, super::workspace::MOUNT_POINT));
        for (volume, path) in [("codex-home", CODEX_HOME), ("agent", AGENT_STATE_PATH)] {
            args.extend(["--volume".to_owned(), format!("{}:{path}", self.volume_name(volume))]);
        }
        args
    }

    /// Returns the name of a volume. Each registry has its own volumes, independent of the container's name.
    fn volume_name(&self, purpose: &str) -> String {
        let digest = hex::encode(Sha256::digest(self.registry.as_os_str().as_encoded_bytes()));
        format!("{}-{}-{purpose}", self.platform.name, &digest[..8])
    }

    fn create(&self, facts: &EngineFacts, args: &[String]) -> Result<(), String> {
        let name = &self.platform.name;
        let mut run = self.command(&["run", "--detach", "--name", name]);
        run.args(["--label", &format!("{REGISTRY_LABEL}={}", self.registry.display())])
            .args(["--label", &format!("{ARGUMENTS_DIGEST_LABEL}={}", arguments_digest(args, facts))])
            .args(self.network_arguments(facts))
            .args(args)
            .arg(&self.platform.image);
        run_with_input(&mut run, facts.create_input(), facts.create_limit())
            .map_err(|e| format!("{} could not run '{name}': {e}", self.engine))
    }

    /// Removes the workers' files from Codex's home, and copies the host's Codex settings into it. With a gateway to the
    /// model, no key gets there, and none stays if workers run in this container.
    fn reset_codex_home(&self, model_gateway: bool) -> Result<(), String> {
        let name = &self.platform.name;
        let script = |script: &str, extra_args: &[&str]| {
            // `timeout` runs inside the container, because the time limit of the engine's command would not end the
            // process there.
            let mut exec = self.command(&["exec", "-i", "-u", "worker", name, "timeout", "-s", "KILL", "20"]);
            exec.args(["sh", "-c", script, "sh", CODEX_HOME]).args(extra_args);
            exec
        };
        let reset_error = |e: io::Error| format!("Codex's home in '{name}' could not be reset: {e}");
        let has_workers = !self.platform.has_boxes(self.engine);
        let kept_login = if model_gateway && has_workers { &[][..] } else { &["auth.json"] };
        match run_with_input(&mut script(codex_home::RESET_SCRIPT, kept_login), &[], ACTION_TIMEOUT) {
            // The image has no shell, and therefore no Codex that needs a reset. A worker can't have removed the shell.
            Err(e) if is_missing_program(&e.to_string()) => return Ok(()),
            reset => reset.map_err(reset_error)?,
        }
        for (file, bytes) in codex_home::worker_files(&self.platform.codex_config, model_gateway) {
            run_with_input(&mut script(codex_home::COPY_SCRIPT, &[file]), &bytes, ACTION_TIMEOUT)
                .map_err(reset_error)?;
        }
        Ok(())
    }

    /// Checks that workers can write to the workspaces folder, because the workers' user in the container may map to
    /// another user on the host.
    fn check_write_access(&self) -> Result<(), String> {
        let user = user_argument(self.platform.worker_ids);
        match self.query(&write_test_arguments(&self.platform.name, &user)) {
            Err(e) if !is_missing_program(&e) => Err(unwritable_message(self.platform, &e)),
            _ => Ok(()),
        }
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        engine_command(self.engine, args)
    }

    pub(super) fn query(&self, args: &[&str]) -> Result<String, String> {
        query(self.engine, args)
    }
}

/// Returns the host name under which a container of this engine reaches this machine.
pub fn host_name(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Docker => DOCKER_HOST_NAME,
        EngineKind::Podman => PODMAN_HOST_NAME,
        EngineKind::Local => "127.0.0.1",
    }
}

/// Returns true if an engine's message says that the image does not have the program to run. The words are those of
/// the runtimes: runc writes `"sh": executable file not found in $PATH`, crun `` executable file `sh` not found ``.
pub fn is_missing_program(message: &str) -> bool {
    message.split_once("executable file").is_some_and(|(_, rest)| rest.contains("not found"))
}

/// Script that creates and removes a file in the workspaces folder.
const WRITE_TEST: &str = "f=/workspaces/.relay-try-$$; (: >\"$f\") && rm -f \"$f\"";

/// Returns the user of a container's workers, as an argument for its engine.
pub fn user_argument((uid, gid): (u32, u32)) -> String {
    format!("{uid}:{gid}")
}

/// Returns the engine's arguments to test whether this user can write to the workspaces folder of this container.
pub fn write_test_arguments<'a>(name: &'a str, user: &'a str) -> [&'a str; 7] {
    ["exec", "-u", user, name, "sh", "-c", WRITE_TEST]
}

/// Builds the message for a failed write test whose output ended with `last_line`.
pub fn unwritable_message(platform: &PlatformConfig, last_line: &str) -> String {
    let (folder, (uid, _)) = (platform.workspaces_folder.display(), platform.worker_ids);
    let reason = last_line.rsplit(": ").next().unwrap_or(last_line);
    let remedy = if last_line.contains("Read-only file system") {
        "mount it writable, or set [platform] workspaces to another folder".to_owned()
    } else {
        format!(
            "they are user {uid} in the container: give the folder to that user as the engine maps it (podman without root: \
             to yourself), or under SELinux label it as `:z` does: `chcon -Rt container_file_t {folder}`"
        )
    };
    format!("workers can't write in {folder} ({reason}): {remedy}")
}

/// Environment variable that names the context that the `docker` command uses.
pub const CONTEXT_VARIABLE: &str = "DOCKER_CONTEXT";
/// Time limit for the `docker` command to print its current context.
const CONTEXT_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the context selected in Docker's own configuration; `None` if the environment selects one, and for other
/// engines.
pub fn selected_context(engine: EngineKind) -> Option<String> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if engine != EngineKind::Docker || is_set("DOCKER_HOST") || is_set(CONTEXT_VARIABLE) {
        return None;
    }
    run_with_output(&mut engine_command(engine, &["context", "show"]), CONTEXT_TIMEOUT)
        .ok()
        .filter(|name| !name.is_empty())
}

/// Stops and removes a registry's container with its workers; the volumes stay. A container of another registry is not
/// touched.
pub fn stop(engine: EngineKind, name: &str, registry: &Path) -> Result<(), String> {
    let is_ours = |container: &ExistingContainer| {
        container.labels.get(REGISTRY_LABEL).is_some_and(|owner| Path::new(owner) == registry)
    };
    let Some(container) = find_container(engine, name)?.filter(is_ours) else { return Ok(()) };
    // The processes of a paused container can't end cleanly, and podman refuses to stop it.
    if !container.is_paused {
        query(engine, &["stop", "-t", "10", name])?;
    }
    query(engine, &["rm", "-f", name]).map(|_| ())
}

/// Returns the engine's filter for the containers of a registry.
pub fn registry_filter(registry: &Path) -> String {
    format!("label={REGISTRY_LABEL}={}", registry.display())
}

/// Returns the names of a registry's containers on an engine.
pub fn container_names(engine: EngineKind, registry: &Path) -> Result<Vec<String>, String> {
    labeled_containers(engine, registry, None)
}

/// Returns the names of a registry's containers that have a further label, if one is given.
pub(super) fn labeled_containers(
    engine: EngineKind,
    registry: &Path,
    further_label: Option<&str>,
) -> Result<Vec<String>, String> {
    let label = registry_filter(registry);
    let mut args = vec!["container", "ls", "--all", "--filter", &label, "--format", "{{.Names}}"];
    let further_filter = further_label.map(|name| format!("label={name}"));
    args.extend(further_filter.iter().flat_map(|filter| ["--filter", filter]));
    let answer = query(engine, &args)?;
    Ok(answer.split_whitespace().map(str::to_owned).collect())
}

/// Returns the digest of the arguments that a container is created with, and of its filter of system calls.
fn arguments_digest(args: &[String], facts: &EngineFacts) -> String {
    let digest = Sha256::new().chain_update(args.join("\n")).chain_update(facts.create_input());
    hex::encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::engine_info::EngineInfo;

    #[test]
    fn a_container_is_replaced_if_its_filter_of_system_calls_changes() {
        let facts = |filter: Option<&[u8]>| EngineFacts {
            info: EngineInfo::default(),
            filter: filter.map(<[u8]>::to_vec),
        };
        let args = ["--memory".to_owned(), "1".to_owned()];
        let digest = |filter| arguments_digest(&args, &facts(filter));
        assert_ne!(digest(Some(b"{\"a\":1}")), digest(Some(b"{\"a\":2}")));
        // Containers without a filter, as those of Docker, are not replaced.
        assert_eq!(digest(None), hex::encode(Sha256::digest("--memory\n1")));
    }

    #[test]
    fn a_program_that_an_image_lacks_is_recognized_with_every_runtime() {
        for message in [
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \"sh\": executable file not \
             found in $PATH: unknown",
            "Error: runc: exec failed: unable to start container process: exec: \"sh\": executable file not found in \
             $PATH: OCI runtime attempted to invoke a command that was not found",
            "Error: crun: executable file `sh` not found in $PATH: No such file or directory: OCI runtime attempted to \
             invoke a command that was not found",
        ] {
            assert!(is_missing_program(message), "{message}");
        }
        assert!(!is_missing_program("sh: 1: cannot create /workspaces/x: Permission denied"));
        assert!(!is_missing_program("Error: no container with name \"platform\" found: no such container"));
    }
}
