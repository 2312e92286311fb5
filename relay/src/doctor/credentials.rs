//! Check of Codex's credentials. Only their kinds are reported, never a value.

#![expect(clippy::disallowed_methods, reason = "files of the user's home, not of the registry")]

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::context::CheckContext;
use super::finding::Finding;
use crate::model_server::UpstreamSettings;
use crate::registry::lease::PlatformStatus;

const CREDENTIALS_CHECK: &str = "credentials";
/// Maximum number of bytes that are read of a file with credentials.
const MAX_FILE_SIZE: u64 = 256 * 1024;

/// Kind of credentials on this machine, in order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CredentialKind {
    CodexKey,
    OpenaiKey,
    FileKey,
    /// A model provider that the user has configured, with its own credentials.
    Provider,
    /// A login, which is valid only on this machine: a copy of it would log out this machine.
    Login,
}

impl CredentialKind {
    fn describe(self) -> &'static str {
        match self {
            Self::CodexKey => "CODEX_API_KEY is set",
            Self::OpenaiKey => "OPENAI_API_KEY is set and handed on as CODEX_API_KEY",
            Self::FileKey => "auth.json holds an API key",
            Self::Provider => "config.toml names a model provider of its own",
            Self::Login => "auth.json holds a login",
        }
    }
}

/// Checks that workers have credentials.
pub(super) fn check_credentials(context: &CheckContext) -> Vec<Finding> {
    let home = context.codex_home().unwrap_or_default();
    let auth: serde_json::Value =
        serde_json::from_str(&read_file(&home.join("auth.json"))).unwrap_or_default();
    let config: toml::Table = toml::from_str(&read_file(&home.join("config.toml"))).unwrap_or_default();
    let candidates = [
        (CredentialKind::CodexKey, context.variable("CODEX_API_KEY").is_some()),
        (CredentialKind::OpenaiKey, context.variable("OPENAI_API_KEY").is_some()),
        (CredentialKind::FileKey, auth["OPENAI_API_KEY"].as_str().is_some_and(|key| !key.is_empty())),
        (CredentialKind::Provider, config.contains_key("model_provider")),
        (CredentialKind::Login, auth["tokens"].is_object()),
    ];
    let found_kinds: Vec<CredentialKind> =
        candidates.into_iter().filter(|(_, is_present)| *is_present).map(|(kind, _)| kind).collect();
    if context.has_model_gateway() {
        return vec![assess_gateway(UpstreamSettings::of_this_process())];
    }
    let name = context.config.as_ref().map_or("platform", |config| &config.platform.name);
    let has_boxes = context.config.as_ref().is_ok_and(|config| config.platform.has_boxes(context.engine));
    let login_advice = context.engine.is_container().then(|| {
        let engine = context.engine;
        if has_boxes {
            return "set gateway = true in [model], then run `relay restart`".to_owned();
        }
        format!("`{engine} exec -it -u worker {name} codex login --device-auth` logs in inside, once")
    });
    vec![assess_credentials(&found_kinds, login_advice.as_deref(), context.platform(), &context.up_command())]
}

/// Assesses the settings with which the relay reaches the model for all workers.
fn assess_gateway(settings: Result<UpstreamSettings, String>) -> Finding {
    match settings {
        Ok(settings) if settings.key.is_some() => Finding::ok(
            CREDENTIALS_CHECK,
            format!("the relay has a key for {}, and keeps it", settings.host()),
        ),
        Ok(settings) if settings.login.is_some() => Finding::ok(
            CREDENTIALS_CHECK,
            format!(
                "the relay has the ChatGPT login of codex for {}, keeps and refreshes it",
                settings.host()
            ),
        ),
        Ok(settings) => {
            Finding::ok(CREDENTIALS_CHECK, format!("the relay reaches {} without a key", settings.host()))
        }
        Err(problem) => Finding::fail(
            CREDENTIALS_CHECK,
            format!("the gateway can't reach the model: {problem}"),
            "do what it says, or set gateway = false in [model]",
        ),
    }
}

/// Assesses the credentials. `login_advice` says how to log in inside the container, if workers run in one.
fn assess_credentials(
    found_kinds: &[CredentialKind],
    login_advice: Option<&str>,
    platform: Option<&PlatformStatus>,
    up_command: &str,
) -> Finding {
    let is_usable = |kind: &&CredentialKind| login_advice.is_none() || **kind != CredentialKind::Login;
    let local_credentials = found_kinds.iter().find(is_usable).map(|kind| kind.describe());
    let lacks_credentials = match platform {
        Some(PlatformStatus::Ready { codex_problem, .. }) => {
            Some(codex_problem.as_ref().is_some_and(|problem| problem.contains("credentials")))
        }
        _ => None,
    };
    match (lacks_credentials, local_credentials) {
        (Some(true), Some(local_credentials)) => Finding::fail(
            CREDENTIALS_CHECK,
            format!("{local_credentials}, but the platform was started without it"),
            format!("when no job runs: `relay down`, then {up_command} where it is set"),
        ),
        (Some(false), None) => Finding::ok(CREDENTIALS_CHECK, "the platform has its own credentials"),
        (_, Some(local_credentials)) => Finding::ok(CREDENTIALS_CHECK, local_credentials),
        (_, None) => missing_credentials(found_kinds, login_advice, up_command),
    }
}

/// Builds the finding for workers without usable credentials. `found_kinds` are those of this machine.
fn missing_credentials(
    found_kinds: &[CredentialKind],
    login_advice: Option<&str>,
    up_command: &str,
) -> Finding {
    const NO_CREDENTIALS: &str = "neither CODEX_API_KEY, nor OPENAI_API_KEY, nor a login was found";
    match login_advice {
        Some(login) if found_kinds.contains(&CredentialKind::Login) => Finding::fail(
            CREDENTIALS_CHECK,
            "the login of this machine is not copied into the container: a copy would log you out here",
            login,
        ),
        Some(login) => Finding::fail(
            CREDENTIALS_CHECK,
            NO_CREDENTIALS,
            format!("set CODEX_API_KEY before {up_command}, or {login}"),
        ),
        None => Finding::fail(
            CREDENTIALS_CHECK,
            NO_CREDENTIALS,
            format!("set CODEX_API_KEY before {up_command}, or log in with `codex login`"),
        ),
    }
}

fn read_file(path: &Path) -> String {
    let mut text = String::new();
    // An unreadable file counts as empty: Codex could not use it either.
    let _ = path.is_file()
        && File::open(path).and_then(|file| file.take(MAX_FILE_SIZE).read_to_string(&mut text)).is_ok();
    text
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use crate::model_server::{LoginSettings, Secret};

    #[test]
    fn the_gateway_s_own_settings_decide_whether_it_has_a_key() {
        let settings = |key| UpstreamSettings {
            base_url: "https://h:8/v1".to_owned(),
            key,
            ..UpstreamSettings::default()
        };
        let login = LoginSettings { auth_file: "/h/auth.json".into(), refresh_url: "https://t".to_owned() };
        for (settings, state, detail) in [
            (Ok(settings(Some(Secret::new("k")))), State::Ok, "the relay has a key for h:8, and keeps it"),
            (Ok(settings(None)), State::Ok, "the relay reaches h:8 without a key"),
            (
                Ok(UpstreamSettings { login: Some(login), ..settings(None) }),
                State::Ok,
                "the relay has the ChatGPT login of codex for h:8, keeps and refreshes it",
            ),
            (Err("no key".to_owned()), State::Fail, "the gateway can't reach the model: no key"),
        ] {
            let finding = assess_gateway(settings);
            assert_eq!((finding.state, &*finding.detail), (state, detail));
        }
    }

    #[test]
    fn workers_have_a_key_a_login_or_a_provider_of_their_own() {
        let ready = |problem: Option<&str>| PlatformStatus::Ready {
            agent: "a".into(),
            version: "1".into(),
            max_jobs: 4,
            codex: None,
            codex_problem: problem.map(str::to_owned),
            agents: 1,
            vitals: None,
            shortage: None,
        };
        let lacks_credentials = Some("codex has no credentials: …");
        for (found_kinds, container, platform, state, detail_start) in [
            (&[CredentialKind::CodexKey][..], true, None, State::Ok, "CODEX_API_KEY is set"),
            (
                &[CredentialKind::OpenaiKey, CredentialKind::Login],
                true,
                None,
                State::Ok,
                "OPENAI_API_KEY is set and handed on",
            ),
            (&[CredentialKind::FileKey], true, None, State::Ok, "auth.json holds an API key"),
            (&[CredentialKind::Provider], false, None, State::Ok, "config.toml names"),
            (&[CredentialKind::Login], false, None, State::Ok, "auth.json holds a login"),
            (&[CredentialKind::Login], true, None, State::Fail, "the login of this machine is not copied"),
            (
                &[CredentialKind::Login],
                true,
                Some(ready(None)),
                State::Ok,
                "the platform has its own credentials",
            ),
            (&[], false, None, State::Fail, "neither CODEX_API_KEY"),
            (
                &[CredentialKind::CodexKey][..],
                false,
                Some(ready(lacks_credentials)),
                State::Fail,
                "CODEX_API_KEY is set, but the platform was",
            ),
            (&[], false, Some(ready(lacks_credentials)), State::Fail, "neither CODEX_API_KEY"),
        ] {
            let finding = assess_credentials(
                found_kinds,
                container.then_some("log in inside"),
                platform.as_ref(),
                "`relay up`",
            );
            assert!(
                finding.state == state && finding.detail.starts_with(detail_start),
                "{found_kinds:?}: {finding:?}"
            );
        }
    }
}
