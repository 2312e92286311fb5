//! Assembly of the settings that all sandboxes of an agent share, from the configuration and the machine.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::caches::Caches;
use super::codex_programs::CodexPrograms;
use super::sandbox::SharedSettings;
use super::sockets;
use super::temp_dir;
use crate::codex::discovery::CodexInstallation;
use crate::config::Config;
use crate::environment::Variables;

/// Advice for a machine without a usable Codex.
const MISSING_CODEX_HINT: &str =
    "install it, or set [codex] sandbox = \"off\" in relay.toml and approve it with `relay up`";

/// Assembles the settings that all sandboxes share. `worker_env` must not contain values of a job.
pub(crate) fn assemble(
    config: &Config,
    state_dir: &Path,
    agent_env: &Variables,
    worker_env: &Variables,
    codex: &CodexInstallation,
) -> Result<SharedSettings, String> {
    if let Some(problem) = &codex.problem {
        return Err(format!(
            "no sandbox for the job's commands without Codex: {problem}; {MISSING_CODEX_HINT}"
        ));
    }
    let homes = codex_homes(agent_env, worker_env);
    for home in &homes {
        // A folder that is created later would not be hidden from running jobs, so it is created now.
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(home);
    }
    let caches = Caches::open(worker_env, state_dir)
        .map_err(|error| format!("the workers' caches can't be made in the cache folder of HOME: {error}"))?;
    let mut env = SharedSettings::launcher_env(worker_env);
    env.insert("CODEX_HOME".to_owned(), caches.launcher_home().display().to_string());
    // The launcher has a temporary folder of its own: Codex creates no helpers in a home below the temporary folder.
    env.insert("TMPDIR".to_owned(), caches.launcher_temp_dir().display().to_string());
    let temporary = temp_dir::choose_temp_dir(
        agent_env.get("TMPDIR").map(String::as_str),
        &never_writable_folders(config, state_dir, agent_env, worker_env),
    );
    Ok(SharedSettings {
        codex: codex.program.clone(),
        env,
        protected_folders: vec![caches.launcher_home().to_owned()],
        hidden_paths: hidden_paths(config, state_dir, agent_env, worker_env, &homes)?,
        codex_programs: CodexPrograms::new(codex_home(worker_env), Path::new(&codex.program)),
        // Each project has a hidden folder, `platform/`.
        projects: config
            .hidden
            .iter()
            .filter_map(|hidden| Path::new(hidden).parent())
            .map(|project| project.canonicalize().unwrap_or_else(|_| project.to_owned()))
            .collect(),
        temp_dir: temporary,
        roots: config.roots.clone(),
        state: state_dir.to_owned(),
        caches,
    })
}

/// Returns the folders that must stay read-only even if the temporary folder contains them.
fn never_writable_folders(
    config: &Config,
    state_dir: &Path,
    agent_env: &Variables,
    worker_env: &Variables,
) -> Vec<PathBuf> {
    let homes = [agent_env, worker_env].into_iter().filter_map(|env| env.get("HOME")).map(PathBuf::from);
    let configured = config.hidden.iter().chain(&config.roots).map(PathBuf::from);
    let fixed = [PathBuf::from("/root"), state_dir.to_owned()];
    homes.chain(configured).chain(fixed).chain(codex_homes(agent_env, worker_env)).collect()
}

/// Returns the home folder of a Codex with this environment.
fn codex_home(env: &Variables) -> Option<PathBuf> {
    let home = env.get("HOME").map(|home| Path::new(home).join(".codex"));
    env.get("CODEX_HOME").map(PathBuf::from).or(home).filter(|home| home.is_absolute())
}

/// Returns the folders in which the Codex of the user and of the workers keeps its login and its threads. Whole folders
/// are hidden, because a single file could be replaced, or created later.
fn codex_homes(agent_env: &Variables, worker_env: &Variables) -> Vec<PathBuf> {
    let mut homes = Vec::new();
    for env in [agent_env, worker_env] {
        homes.extend(codex_home(env));
        homes.extend(env.get("HOME").map(|home| Path::new(home).join(".codex")));
        homes.extend(env.get("CODEX_SQLITE_HOME").map(PathBuf::from));
    }
    homes.retain(|home| home.is_absolute());
    homes
}

/// Returns the paths hidden from every job: those of the configuration, the agent's state folder (`state_dir`), relay's
/// state, Codex's homes, and sockets of programs outside of the sandbox.
fn hidden_paths(
    config: &Config,
    state_dir: &Path,
    agent_env: &Variables,
    worker_env: &Variables,
    codex_homes: &[PathBuf],
) -> Result<Vec<PathBuf>, String> {
    let mut hidden: Vec<PathBuf> = config.hidden.iter().map(PathBuf::from).collect();
    hidden.push(state_dir.to_owned());
    for env in [agent_env, worker_env] {
        let home = env.get("HOME").map(Path::new);
        let states = env.get("XDG_STATE_HOME").map(PathBuf::from);
        hidden.extend(states.or_else(|| Some(home?.join(".local/state"))).map(|state| state.join("relay")));
    }
    hidden.extend_from_slice(codex_homes);
    hidden.extend(sockets::paths_to_hide(agent_env)?);
    let real_paths = hidden.into_iter().map(|path| path.canonicalize().unwrap_or(path));
    let mut paths: Vec<PathBuf> = real_paths.filter(|path| path.is_absolute()).collect();
    paths.sort();
    paths.dedup();
    // A path in a hidden folder needs no entry of its own.
    let all = paths.clone();
    paths.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    Ok(paths)
}
