//! Environment of a worker: the agent's allowed variables, the values of the user, those that keep programs from asking
//! questions, and those of the configuration and the job. Later values replace earlier ones. Pure.

use std::collections::BTreeMap;

use common::secret_route::is_url_variable;
use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::user::User;

/// Variables of the agent that workers may see. They set paths of programs, formats of text and network access.
const ALLOWED: &[&str] = &[
    "PATH",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CARGO_HOME",
    "RUSTUP_HOME",
];

/// Variables that keep programs from waiting for input: no user sees their questions or can leave their editors and
/// pagers. The configuration and the job may override them.
const UNATTENDED: &[(&str, &str)] = &[
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_EDITOR", "true"),
    ("EDITOR", "true"),
    ("VISUAL", "true"),
    ("GIT_PAGER", "cat"),
    ("PAGER", "cat"),
    ("MANPAGER", "cat"),
    ("SYSTEMD_PAGER", "cat"),
    ("GH_PROMPT_DISABLED", "1"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("PIP_NO_INPUT", "1"),
];

/// Default search path of programs.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Words that mark a variable as secret if its name contains them.
const SECRET_WORDS: &[&str] = &["KEY", "SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL"];

/// Environment variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// Returns a time in the zone in which programs with this environment print times.
pub(crate) fn in_local_zone(time: &Zoned, env: &Variables) -> Zoned {
    let zone = env.get("TZ").map(|name| name.trim_start_matches(':'));
    let zone = zone.and_then(|name| TimeZone::get(name).or_else(|_| TimeZone::posix(name)).ok());
    time.with_time_zone(zone.unwrap_or_else(|| time.time_zone().clone()))
}

/// Builds a worker's environment.
pub(crate) fn worker_environment(
    agent_env: &Variables,
    user: Option<&User>,
    config_env: &Variables,
    job_env: &Variables,
) -> Variables {
    let mut env: Variables = agent_env
        .iter()
        .filter(|(name, _)| ALLOWED.contains(&name.as_str()) || name.starts_with("LC_"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    env.entry("TERM".to_owned()).or_insert_with(|| "dumb".to_owned());
    match user {
        Some(user) => {
            for (name, value) in
                [("HOME", &user.home), ("USER", &user.name), ("LOGNAME", &user.name), ("SHELL", &user.shell)]
            {
                env.insert(name.to_owned(), value.clone());
            }
        }
        None => {
            for name in ["HOME", "USER", "LOGNAME", "SHELL"] {
                if let Some(value) = agent_env.get(name) {
                    env.insert(name.to_owned(), value.clone());
                }
            }
        }
    }
    env.extend(UNATTENDED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    env.extend(config_env.clone());
    env.extend(job_env.clone());
    env
}

/// Returns an environment without the model's key and other variables that look secret, unless the job sets them.
pub(crate) fn strip_secrets(env: &Variables, job_env: &Variables) -> Variables {
    let keep = |name: &str| job_env.contains_key(name) || !looks_secret(name);
    env.iter().filter(|(name, _)| keep(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns the agent's own variables that are valid UTF-8.
pub(crate) fn agent_environment() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Returns true if a variable's name suggests that its value is a secret.
pub(crate) fn looks_secret(name: &str) -> bool {
    let upper_case = name.to_ascii_uppercase();
    !is_url_variable(name) && SECRET_WORDS.iter().any(|part| upper_case.contains(part))
}

/// Returns true for variables with harmless values such as paths, which occur everywhere in output. Addresses of
/// proxies are not included: they may contain a password.
pub(crate) fn is_never_secret(name: &str) -> bool {
    let is_proxy = name.to_ascii_uppercase().ends_with("_PROXY");
    let is_user = ["HOME", "USER", "LOGNAME", "SHELL"].contains(&name) || name.starts_with("LC_");
    is_user || UNATTENDED.iter().any(|(common, _)| *common == name) || ALLOWED.contains(&name) && !is_proxy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::UserIds;

    fn vars(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn times_are_printed_in_the_zone_of_the_environment() {
        let time: Zoned = "2026-01-02T10:00[+01:00]".parse().unwrap();
        let hour = |name: &str| in_local_zone(&time, &Variables::from([("TZ".into(), name.into())])).hour();
        assert_eq!([hour("<+03>-3"), hour(":<-05>5"), hour("no zone")], [12, 4, 10]);
        assert_eq!(in_local_zone(&time, &Variables::new()), time);
    }

    #[test]
    fn only_allowed_variables_pass_and_later_sources_win() {
        let agent_env =
            vars(&[("PATH", "/bin"), ("AWS_SECRET", "x"), ("LC_ALL", "C"), ("HOME", "/root"), ("TZ", "UTC")]);
        let user = User {
            name: "worker".into(),
            ids: UserIds { uid: 1, gid: 1 },
            home: "/home/worker".into(),
            shell: "/bin/sh".into(),
        };
        let mut env = worker_environment(
            &agent_env,
            Some(&user),
            &vars(&[("A", "1"), ("B", "1")]),
            &vars(&[("B", "2")]),
        );
        env.retain(|name, _| !UNATTENDED.iter().any(|(common, _)| common == name));
        let expected = vars(&[
            ("A", "1"),
            ("B", "2"),
            ("HOME", "/home/worker"),
            ("LC_ALL", "C"),
            ("LOGNAME", "worker"),
            ("PATH", "/bin"),
            ("SHELL", "/bin/sh"),
            ("TERM", "dumb"),
            ("TZ", "UTC"),
            ("USER", "worker"),
        ]);
        similar_asserts::assert_eq!(env, expected);
        assert_eq!(worker_environment(&agent_env, None, &vars(&[]), &vars(&[]))["HOME"], "/root");
    }

    #[test]
    fn programs_ask_no_question_unless_configuration_or_job_allow_it() {
        let none = Variables::new();
        let env = worker_environment(&none, None, &vars(&[("PAGER", "less")]), &vars(&[("EDITOR", "ed")]));
        let value = |name: &str| env[name].as_str();
        assert_eq!((value("GIT_TERMINAL_PROMPT"), value("GIT_EDITOR")), ("0", "true"));
        assert_eq!((value("PAGER"), value("EDITOR")), ("less", "ed"));
    }

    #[test]
    fn commands_get_only_the_secrets_that_the_job_sets() {
        let env =
            vars(&[("CODEX_API_KEY", "k"), ("OPENAI_API_KEY", "k"), ("MY_TOKEN", "t"), ("PATH", "/bin")]);
        let job = vars(&[("MY_TOKEN", "t")]);
        assert_eq!(strip_secrets(&env, &job), vars(&[("MY_TOKEN", "t"), ("PATH", "/bin")]));
    }

    #[test]
    fn secret_variables_are_recognized_by_their_names() {
        assert!(looks_secret("MY_TOKEN") && looks_secret("aws_secret_access_key"));
        assert!(!looks_secret("PATH") && !looks_secret("RELAY_SECRET_DEMO_URL"));
        assert!(is_never_secret("PATH") && is_never_secret("LC_ALL") && is_never_secret("SHELL"));
        assert!(
            !is_never_secret("HTTP_PROXY")
                && !is_never_secret("https_proxy")
                && !is_never_secret("DATABASE_URL")
        );
    }
}
