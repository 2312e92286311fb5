//! Environment of a worker: empty, then an allow list of the agent's own, then the user's, the configuration's and
//! the job's values. Pure.

use std::collections::BTreeMap;

use crate::user::User;

/// Variables of the agent that workers may see: paths of programs, format of text, access to the network.
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

/// Variables that keep programs from waiting for a user, who would not see their questions and could not leave their
/// editors and pagers. Configuration and job may override them.
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

/// Parts of a name that mark its value as a secret.
const SECRET_WORDS: &[&str] = &["KEY", "SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL"];

/// Environment variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// Builds a worker's environment.
pub(crate) fn build(
    own: &Variables,
    user: Option<&User>,
    configured: &Variables,
    job: &Variables,
) -> Variables {
    let mut env: Variables = own
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
                if let Some(value) = own.get(name) {
                    env.insert(name.to_owned(), value.clone());
                }
            }
        }
    }
    env.extend(UNATTENDED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    env.extend(configured.clone());
    env.extend(job.clone());
    env
}

/// Returns an environment without the model's key and everything else that looks secret in it, but for what the job
/// itself sets.
pub(crate) fn without_secrets(env: &Variables, job: &Variables) -> Variables {
    let keep = |name: &str| job.contains_key(name) || !looks_secret(name);
    env.iter().filter(|(name, _)| keep(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns the agent's own environment, as far as it is text.
pub(crate) fn agent_environment() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Returns true if a variable's name suggests that its value is a secret.
pub(crate) fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|part| name.contains(part))
}

/// Returns true for variables that any program may have: paths and the like, which fill its output. Addresses of
/// proxies are not among them, since they may contain a password.
pub(crate) fn is_common(name: &str) -> bool {
    let is_proxy = name.to_ascii_uppercase().ends_with("_PROXY");
    let is_user = ["HOME", "USER", "LOGNAME", "SHELL"].contains(&name) || name.starts_with("LC_");
    is_user || UNATTENDED.iter().any(|(common, _)| *common == name) || ALLOWED.contains(&name) && !is_proxy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::Ids;

    fn vars(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn only_allowed_names_pass_and_later_sources_win() {
        let own =
            vars(&[("PATH", "/bin"), ("AWS_SECRET", "x"), ("LC_ALL", "C"), ("HOME", "/root"), ("TZ", "UTC")]);
        let user = User {
            name: "worker".into(),
            ids: Ids { uid: 1, gid: 1 },
            home: "/home/worker".into(),
            shell: "/bin/sh".into(),
        };
        let mut env = build(&own, Some(&user), &vars(&[("A", "1"), ("B", "1")]), &vars(&[("B", "2")]));
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
        assert_eq!(build(&own, None, &vars(&[]), &vars(&[]))["HOME"], "/root");
    }

    #[test]
    fn programs_ask_nobody_unless_configuration_or_job_want_that() {
        let none = Variables::new();
        let env = build(&none, None, &vars(&[("PAGER", "less")]), &vars(&[("EDITOR", "ed")]));
        let value = |name: &str| env[name].as_str();
        assert_eq!((value("GIT_TERMINAL_PROMPT"), value("GIT_EDITOR")), ("0", "true"));
        assert_eq!((value("PAGER"), value("EDITOR")), ("less", "ed"));
    }

    #[test]
    fn commands_get_no_secret_but_the_job_s_own() {
        let env =
            vars(&[("CODEX_API_KEY", "k"), ("OPENAI_API_KEY", "k"), ("MY_TOKEN", "t"), ("PATH", "/bin")]);
        let job = vars(&[("MY_TOKEN", "t")]);
        assert_eq!(without_secrets(&env, &job), vars(&[("MY_TOKEN", "t"), ("PATH", "/bin")]));
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        assert!(looks_secret("MY_TOKEN") && looks_secret("aws_secret_access_key"));
        assert!(!looks_secret("PATH"));
        assert!(is_common("PATH") && is_common("LC_ALL") && is_common("SHELL"));
        assert!(!is_common("HTTP_PROXY") && !is_common("https_proxy") && !is_common("DATABASE_URL"));
    }
}
