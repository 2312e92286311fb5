//! The command line of `codex exec`. Pure.

use common::job::{JobSpec, Sandbox};

use super::pulse;
use crate::environment::{Variables, looks_secret};

/// Names that are kept from the model's commands even where they don't look secret to us.
const ALWAYS_SECRET: [&str; 2] = ["CODEX_API_KEY", "OPENAI_API_KEY"];

/// Program and arguments; the prompt goes to its stdin.
pub(crate) fn argv(program: &str, spec: &JobSpec, env: &Variables) -> Vec<String> {
    let mut argv: Vec<String> =
        [program, "exec", "--json", "--skip-git-repo-check", "-C", &spec.workspace].map(str::to_owned).into();
    let mut add = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
    if let Some(model) = &spec.codex.model {
        add(&["-m", model]);
    }
    match spec.codex.sandbox {
        Sandbox::Off => add(&["--dangerously-bypass-approvals-and-sandbox"]),
        Sandbox::WorkspaceWrite => {
            add(&["-s", "workspace-write", "-c", "sandbox_workspace_write.network_access=true"]);
            let roots = toml_list(&writable(&spec.workspace, env));
            add(&["-c", &format!("sandbox_workspace_write.writable_roots={roots}")]);
        }
    }
    let mut hidden: Vec<String> = secrets(spec, env).iter().map(|name| pattern(name)).collect();
    if !env.contains_key(pulse::VARIABLE) {
        // Only Codex is asked for its trace, not every program of the same kind that the model runs.
        hidden.push(pulse::VARIABLE.to_owned());
    }
    add(&["-c", &format!("shell_environment_policy.exclude={}", toml_list(&hidden))]);
    argv.extend(spec.codex.args.iter().cloned());
    if let Some(thread) = &spec.thread {
        // All options stand before it, where Codex 0.169.0 knows every one of them.
        argv.extend(["resume".to_owned(), thread.clone()]);
    }
    // Anything that looks like an option stands before; the prompt is read from stdin.
    argv.push("-".to_owned());
    argv
}

/// Names of the environment that the model's commands must not see: all that look secret, unless the job set them
/// itself, which it did for its commands.
fn secrets(spec: &JobSpec, env: &Variables) -> Vec<String> {
    let mut names: Vec<String> = ALWAYS_SECRET.map(str::to_owned).into();
    let found = env.keys().filter(|name| looks_secret(name) && !ALWAYS_SECRET.contains(&name.as_str()));
    names.extend(found.cloned());
    names.retain(|name| !spec.env.contains_key(name));
    names
}

/// What Codex's sandbox lets commands write beside the workspace: its repository, without which no worker could commit,
/// and the package managers' caches, without which none could install.
fn writable(workspace: &str, env: &Variables) -> Vec<String> {
    let mut roots = vec![format!("{workspace}/.git")];
    if let Some(home) = env.get("HOME") {
        let caches = [".cache", ".npm", ".cargo/git", ".cargo/registry"];
        roots.extend(caches.map(|cache| format!("{home}/{cache}")));
    }
    roots
}

/// Codex takes each name as a pattern, so everything but plain characters is matched by `?`.
fn pattern(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '?' }).collect()
}

/// A list of TOML strings.
fn toml_list(texts: &[String]) -> String {
    // What JSON writes between quotes TOML reads as the same text.
    let quoted: Vec<String> =
        texts.iter().map(|text| serde_json::Value::from(text.as_str()).to_string()).collect();
    format!("[{}]", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use common::job::{CodexSettings, Limits, Runner};
    use common::rule::OnLimit;

    fn spec() -> JobSpec {
        JobSpec {
            schema: 1,
            job: "a#1".parse().unwrap(),
            runner: Runner::Codex,
            prompt: "do it".into(),
            workspace: "/w s".into(),
            env: Variables::new(),
            env_names: BTreeSet::new(),
            setup: vec![],
            checks: vec![],
            limits: Limits::default(),
            rules: vec![],
            on_limit: OnLimit::Fail,
            codex: CodexSettings::default(),
            thread: None,
        }
    }

    #[test]
    fn the_container_is_the_sandbox_and_secrets_stay_out_of_commands() {
        let env = Variables::from([("MY_TOKEN".into(), "x".into()), ("PATH".into(), "/bin".into())]);
        let argv = argv("/usr/bin/codex", &spec(), &env);
        let expected = [
            "/usr/bin/codex",
            "exec",
            "--json",
            "--skip-git-repo-check",
            "-C",
            "/w s",
            "--dangerously-bypass-approvals-and-sandbox",
            "-c",
            "shell_environment_policy.exclude=[\"CODEX_API_KEY\",\"OPENAI_API_KEY\",\"MY_TOKEN\",\"RUST_LOG\"]",
            "-",
        ];
        similar_asserts::assert_eq!(argv, expected);
    }

    #[test]
    fn what_the_job_asks_for_it_gets() {
        let mut spec = spec();
        spec.codex.sandbox = Sandbox::WorkspaceWrite;
        spec.codex.model = Some("gpt-5.5".into());
        spec.codex.args = vec!["--search".into()];
        spec.env.insert("NPM_TOKEN".into(), "x".into());
        let env = ["NPM_TOKEN", "A\"KEY", "HOME", "RUST_LOG"].map(|name| (name.to_owned(), "/x".to_owned()));
        let env = Variables::from(env);
        let argv = argv("codex", &spec, &env).join(" ");
        assert!(
            argv.contains("-m gpt-5.5 -s workspace-write -c sandbox_workspace_write.network_access=true")
        );
        let roots =
            r#"writable_roots=["/w s/.git","/x/.cache","/x/.npm","/x/.cargo/git","/x/.cargo/registry"]"#;
        assert!(argv.contains(roots), "{argv}");
        assert!(argv.contains(r#"exclude=["CODEX_API_KEY","OPENAI_API_KEY","A?KEY"]"#), "{argv}");
        assert!(argv.ends_with("--search -"), "{argv}");
    }

    #[test]
    fn a_thread_is_resumed_behind_all_options() {
        let mut spec = spec();
        spec.codex.args = vec!["--search".into()];
        spec.thread = Some("01a203ca-9b3a-74f0-a0f9-92040009a617".into());
        let argv = argv("codex", &spec, &Variables::new()).join(" ");
        assert!(argv.starts_with("codex exec --json --skip-git-repo-check -C /w s --dangerously"), "{argv}");
        assert!(argv.ends_with("--search resume 01a203ca-9b3a-74f0-a0f9-92040009a617 -"), "{argv}");
    }
}
