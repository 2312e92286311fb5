//! What Codex pays with. Only kinds are told, never a value.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::finding::Finding;
use super::scene::Scene;
use crate::registry::lease::PlatformStatus;

const CREDENTIALS: &str = "credentials";
/// Most bytes that are read of a file.
const MOST: u64 = 256 * 1024;

/// What there is on this machine.
#[derive(Debug, Default)]
struct Found {
    codex_key: bool,
    openai_key: bool,
    /// `auth.json` holds an API key.
    file_key: bool,
    /// `auth.json` holds a login.
    login: bool,
    /// `config.toml` names a provider, which brings its own way.
    provider: bool,
}

/// Whether workers have credentials.
pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let home = scene.codex_home().unwrap_or_default();
    let auth: serde_json::Value = serde_json::from_str(&read(&home.join("auth.json"))).unwrap_or_default();
    let config: toml::Table = toml::from_str(&read(&home.join("config.toml"))).unwrap_or_default();
    let found = Found {
        codex_key: scene.variable("CODEX_API_KEY").is_some(),
        openai_key: scene.variable("OPENAI_API_KEY").is_some(),
        file_key: auth["OPENAI_API_KEY"].as_str().is_some_and(|key| !key.is_empty()),
        login: auth["tokens"].is_object(),
        provider: config.contains_key("model_provider"),
    };
    let name = scene.config.as_ref().map_or("platform", |config| &config.platform.name);
    let inside = scene.engine.is_container().then(|| {
        let engine = scene.engine;
        format!("`{engine} exec -it -u worker {name} codex login --device-auth` logs in inside, once")
    });
    vec![judge(&found, inside.as_deref(), scene.platform(), &scene.up())]
}

/// `inside`: what logs in inside of the container, where workers are in one.
fn judge(found: &Found, inside: Option<&str>, platform: Option<&PlatformStatus>, up: &str) -> Finding {
    let here = match found {
        Found { codex_key: true, .. } => Some("CODEX_API_KEY is set"),
        Found { openai_key: true, .. } => Some("OPENAI_API_KEY is set and handed on as CODEX_API_KEY"),
        Found { file_key: true, .. } => Some("auth.json holds an API key"),
        Found { provider: true, .. } => Some("config.toml names a model provider of its own"),
        // A copy of a login would log the host out.
        Found { login: true, .. } if inside.is_none() => Some("auth.json holds a login"),
        _ => None,
    };
    let lacks = match platform {
        Some(PlatformStatus::Ready { codex_problem, .. }) => {
            Some(codex_problem.as_ref().is_some_and(|problem| problem.contains("credentials")))
        }
        _ => None,
    };
    match (lacks, here) {
        (Some(true), Some(here)) => Finding::fail(
            CREDENTIALS,
            format!("{here}, but the platform was started without"),
            format!("when no job runs: `relay down`, then {up} where it is set"),
        ),
        (Some(false), None) => Finding::ok(CREDENTIALS, "the platform has its own"),
        (_, Some(here)) => Finding::ok(CREDENTIALS, here),
        (_, None) => missing(found, inside, up),
    }
}

fn missing(found: &Found, inside: Option<&str>, up: &str) -> Finding {
    const NONE: &str = "neither CODEX_API_KEY, nor OPENAI_API_KEY, nor a login was found";
    match inside {
        Some(login) if found.login => Finding::fail(
            CREDENTIALS,
            "the login of this machine is not copied into the container, which would log you out here",
            login,
        ),
        Some(login) => Finding::fail(CREDENTIALS, NONE, format!("set CODEX_API_KEY before {up}, or {login}")),
        None => Finding::fail(
            CREDENTIALS,
            NONE,
            format!("set CODEX_API_KEY before {up}, or log in with `codex login`"),
        ),
    }
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    // What can't be read holds nothing that Codex could use.
    let _ =
        path.is_file() && File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text)).is_ok();
    text
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn workers_have_a_key_a_login_or_a_provider_of_their_own() {
        let ready = |problem: Option<&str>| PlatformStatus::Ready {
            agent: "a".into(),
            version: "1".into(),
            max_jobs: 4,
            codex: None,
            codex_problem: problem.map(str::to_owned),
            agents: 1,
        };
        let key = || Found { codex_key: true, ..Found::default() };
        let login = || Found { login: true, ..Found::default() };
        let lacks = Some("codex has no credentials: …");
        for (found, container, platform, state, words) in [
            (key(), true, None, State::Ok, "CODEX_API_KEY is set"),
            (
                Found { openai_key: true, ..login() },
                true,
                None,
                State::Ok,
                "OPENAI_API_KEY is set and handed on",
            ),
            (
                Found { file_key: true, ..Found::default() },
                true,
                None,
                State::Ok,
                "auth.json holds an API key",
            ),
            (Found { provider: true, ..Found::default() }, false, None, State::Ok, "config.toml names"),
            (login(), false, None, State::Ok, "auth.json holds a login"),
            (login(), true, None, State::Fail, "the login of this machine is not copied"),
            (login(), true, Some(ready(None)), State::Ok, "the platform has its own"),
            (Found::default(), false, None, State::Fail, "neither CODEX_API_KEY"),
            (key(), false, Some(ready(lacks)), State::Fail, "CODEX_API_KEY is set, but the platform was"),
            (Found::default(), false, Some(ready(lacks)), State::Fail, "neither CODEX_API_KEY"),
        ] {
            let judged = judge(&found, container.then_some("log in inside"), platform.as_ref(), "`relay up`");
            assert!(judged.state == state && judged.detail.starts_with(words), "{found:?}: {judged:?}");
        }
    }
}
