//! Command line of `codex exec`. Pure.

use common::job::JobSpec;
use common::version::{self, Version};

use super::model_activity;
use crate::environment::{Variables, looks_secret};
use crate::sandbox_profile::quote_toml;

/// Variables with the model's key: hidden from the model's commands even if the agent's environment lacks them, unless
/// the job itself sets them.
const MODEL_KEYS: [&str; 2] = ["CODEX_API_KEY", "OPENAI_API_KEY"];

/// Settings that keep Codex from calling any server but the model's. Versions before 0.169.0 do not have them and
/// would warn about them.
const MODEL_ONLY_SETTINGS: [&str; 4] = [
    "features.plugins=false",
    "features.apps=false",
    "analytics.enabled=false",
    "check_for_update_on_startup=false",
];
/// Setting that keeps Codex from a login in its home. Codex would refresh a `ChatGPT` login at its start, also if it
/// does not use it, and so take its refresh token from the relay, which refreshes it for all jobs.
const NO_LOGIN_SETTING: &str = "cli_auth_credentials_store=\"ephemeral\"";
/// Oldest version of Codex that has these settings.
const MODEL_ONLY_MIN_VERSION: Version = (0, 169, 0);

/// Returns arguments that keep Codex from calling github.com, chatgpt.com and others for plugins, metrics and
/// updates, and with `has_gateway` from using a login. They precede the user's own arguments, which take precedence.
pub(crate) fn model_only_args(version: Option<&str>, has_gateway: bool) -> Vec<String> {
    let is_supported =
        version.and_then(version::parse_version).is_some_and(|version| version >= MODEL_ONLY_MIN_VERSION);
    let no_login = has_gateway.then_some(NO_LOGIN_SETTING);
    let settings = MODEL_ONLY_SETTINGS.into_iter().chain(no_login).filter(|_| is_supported);
    settings.flat_map(|setting| ["-c".to_owned(), setting.to_owned()]).collect()
}

/// Returns the program and its arguments, including those for the sandbox. The prompt is written to stdin.
///
/// Codex works in the directory that it is started in, even if the path of that directory leads elsewhere later.
pub(crate) fn codex_argv(
    program: &str,
    spec: &JobSpec,
    env: &Variables,
    sandbox: Option<Vec<String>>,
) -> Vec<String> {
    let mut argv: Vec<String> = [program, "exec", "--json", "-C", "."].map(str::to_owned).into();
    let mut add = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
    if let Some(model) = &spec.codex.model {
        add(&["-m", model]);
    }
    match sandbox {
        None => add(&["--dangerously-bypass-approvals-and-sandbox"]),
        Some(sandbox) => argv.extend(sandbox),
    }
    let mut hidden: Vec<String> =
        secret_variable_names(spec, env).iter().map(|name| pattern_for_name(name)).collect();
    if !env.contains_key(model_activity::LOG_VARIABLE) {
        // Only Codex gets the trace filter, not every Rust program that the model runs.
        hidden.push(model_activity::LOG_VARIABLE.to_owned());
    }
    argv.extend(["-c".to_owned(), format!("shell_environment_policy.exclude={}", toml_string_list(&hidden))]);
    argv.extend(spec.codex.args.iter().cloned());
    // An option like `-i FILE...` takes every word up to the next option. So this option must follow the user's
    // arguments. Otherwise Codex would read the thread id as an image, and start a new thread.
    argv.push("--skip-git-repo-check".to_owned());
    if let Some(thread) = &spec.thread {
        // All options precede `resume`: Codex 0.169.0 accepts all of them there.
        argv.extend(["resume".to_owned(), thread.clone()]);
    }
    // `-` makes Codex read the prompt from stdin.
    argv.push("-".to_owned());
    argv
}

/// Returns the environment variables that the model's commands must not see: all that look like secrets, unless the
/// job itself set them for its commands.
fn secret_variable_names(spec: &JobSpec, env: &Variables) -> Vec<String> {
    let mut names: Vec<String> = MODEL_KEYS.map(str::to_owned).into();
    let found = env.keys().filter(|name| looks_secret(name) && !MODEL_KEYS.contains(&name.as_str()));
    names.extend(found.cloned());
    names.retain(|name| !spec.env.contains_key(name));
    names
}

/// Returns a pattern that matches `name`, with `?` for each special character, because Codex takes names as patterns.
fn pattern_for_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '?' }).collect()
}

fn toml_string_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote_toml(text)).collect();
    format!("[{}]", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::job::{JobSpec, Runner};

    fn spec() -> JobSpec {
        JobSpec::new("a#1".parse().unwrap(), Runner::Codex, "do it", "/w s")
    }

    #[test]
    fn the_container_is_the_sandbox_and_secrets_stay_out_of_commands() {
        let env = Variables::from([("MY_TOKEN".into(), "x".into()), ("PATH".into(), "/bin".into())]);
        let argv = codex_argv("/usr/bin/codex", &spec(), &env, None);
        let expected = [
            "/usr/bin/codex",
            "exec",
            "--json",
            "-C",
            ".",
            "--dangerously-bypass-approvals-and-sandbox",
            "-c",
            "shell_environment_policy.exclude=[\"CODEX_API_KEY\",\"OPENAI_API_KEY\",\"MY_TOKEN\",\"RUST_LOG\"]",
            "--skip-git-repo-check",
            "-",
        ];
        similar_asserts::assert_eq!(argv, expected);
    }

    #[test]
    fn model_arguments_and_variables_of_a_job_reach_the_command_line() {
        let mut spec = spec();
        spec.codex.model = Some("gpt-5.5".into());
        spec.codex.args = vec!["--search".into()];
        spec.env.insert("NPM_TOKEN".into(), "x".into());
        let env = ["NPM_TOKEN", "A\"KEY", "HOME", "RUST_LOG"].map(|name| (name.to_owned(), "/x".to_owned()));
        let env = Variables::from(env);
        let argv = codex_argv("codex", &spec, &env, None).join(" ");
        assert!(argv.contains("-m gpt-5.5 "), "{argv}");
        assert!(argv.contains(r#"exclude=["CODEX_API_KEY","OPENAI_API_KEY","A?KEY"]"#), "{argv}");
        assert!(argv.ends_with("--search --skip-git-repo-check -"), "{argv}");
    }

    #[test]
    fn a_supported_codex_is_told_to_call_no_server_but_the_model_s() {
        let args = model_only_args(Some("0.169.0"), false);
        assert!(
            args.join(" ").starts_with("-c features.plugins=false -c features.apps=false -c "),
            "{args:?}"
        );
        assert_eq!(model_only_args(Some("0.170.1"), false), args);
        let with_gateway = model_only_args(Some("0.169.0"), true);
        assert_eq!(with_gateway.last().map(String::as_str), Some(NO_LOGIN_SETTING));
        assert_eq!(with_gateway[..args.len()], args);
        let old = [Some("0.168.2"), None].map(|version| model_only_args(version, true));
        assert_eq!(old, [Vec::<String>::new(), Vec::new()]);
    }

    #[test]
    fn resume_and_the_thread_id_follow_all_options() {
        let mut spec = spec();
        spec.codex.args = vec!["-i".into(), "x.png".into()];
        spec.thread = Some("01a203ca-9b3a-74f0-a0f9-92040009a617".into());
        let argv = codex_argv("codex", &spec, &Variables::new(), None).join(" ");
        assert!(argv.starts_with("codex exec --json -C . --dangerously"), "{argv}");
        let end = "-i x.png --skip-git-repo-check resume 01a203ca-9b3a-74f0-a0f9-92040009a617 -";
        assert!(argv.ends_with(end), "{argv}");
    }
}
