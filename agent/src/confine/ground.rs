//! Properties of the machine that every sandbox of an agent depends on.

use std::path::{Path, PathBuf};

use super::caches::Caches;
use super::sandbox::Ground;
use super::sockets;
use crate::codex::install::Found;
use crate::config::Config;
use crate::environment::Variables;

/// Advice for a machine without a usable Codex.
const WAY_ON: &str =
    "install it, or set [codex] sandbox = \"off\" in relay.toml and approve it with relay up";

/// Puts together what all sandboxes share. `own` is the agent's environment, `workers` that of its workers without any
/// job's values.
///
/// # Errors
/// One line that says what is missing.
pub(crate) fn ground(
    config: &Config,
    state: &Path,
    own: &Variables,
    workers: &Variables,
    found: &Found,
) -> Result<Ground, String> {
    if let Some(problem) = &found.problem {
        return Err(format!("no sandbox for the job's commands without Codex: {problem}; {WAY_ON}"));
    }
    let caches = Caches::open(own, state)
        .map_err(|error| format!("the workers' caches can't be made in the cache folder of HOME: {error}"))?;
    let mut env = Ground::launcher_env(workers);
    env.insert("CODEX_HOME".to_owned(), caches.launcher().display().to_string());
    Ok(Ground {
        codex: found.program.clone(),
        env,
        kept: kept(workers, &caches),
        hidden: hidden(config, state, own, workers),
        roots: config.roots.clone(),
        state: state.to_owned(),
        caches,
    })
}

/// Folders that Codex starts programs from, or takes settings from that name some.
fn kept(workers: &Variables, caches: &Caches) -> Vec<PathBuf> {
    let home = workers.get("HOME").map(|home| Path::new(home).join(".codex"));
    let codex = workers.get("CODEX_HOME").map(PathBuf::from).or(home);
    let real = codex.and_then(|codex| codex.canonicalize().ok());
    real.into_iter().chain([caches.launcher().to_owned()]).collect()
}

/// Paths hidden from every job: those of the configuration, relay's state, Codex's login, and sockets that lead out.
fn hidden(config: &Config, state: &Path, own: &Variables, workers: &Variables) -> Vec<PathBuf> {
    let mut hidden: Vec<PathBuf> = config.hidden.iter().map(PathBuf::from).collect();
    hidden.push(state.to_owned());
    for env in [own, workers] {
        let home = env.get("HOME").map(Path::new);
        let states = env.get("XDG_STATE_HOME").map(PathBuf::from);
        hidden.extend(states.or_else(|| Some(home?.join(".local/state"))).map(|state| state.join("relay")));
        let codex = env.get("CODEX_HOME").map(PathBuf::from).or_else(|| Some(home?.join(".codex")));
        hidden.extend(codex.map(|codex| codex.join("auth.json")));
    }
    hidden.extend(sockets::doors(own));
    let real = hidden.into_iter().map(|path| path.canonicalize().unwrap_or(path));
    let mut paths: Vec<PathBuf> = real.filter(|path| path.is_absolute()).collect();
    paths.sort();
    paths.dedup();
    // What lies in a hidden folder is hidden with it.
    let all = paths.clone();
    paths.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    paths
}
