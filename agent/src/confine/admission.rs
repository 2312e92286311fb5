//! Checks of a job on a platform without a container, where the sandbox is the only protection of the user. The job's
//! spec is untrusted, because a sandboxed session may have written it. Pure.

use std::path::Path;

use common::job::{JobSpec, Runner, Sandbox};
use common::text_format::one_line;
use common::{codex_args, env_policy};

use crate::config::Config;

/// Checks a job against the settings that the user approved; returns true if it runs in a sandbox.
///
/// # Errors
/// One line with the setting that the user has to approve.
pub(crate) fn admit(spec: &JobSpec, config: &Config) -> Result<bool, String> {
    if spec.codex.sandbox == Sandbox::Off {
        if config.sandbox == Some(Sandbox::WorkspaceWrite) {
            return Err(
                "the job asks for no sandbox: set [codex] sandbox = \"off\" in relay.toml and approve it \
                with `relay up`"
                    .to_owned(),
            );
        }
        return Ok(false);
    }
    if spec.codex.program != config.codex {
        return Err(format!(
            "the job's Codex program ({}) is not the approved one ({}): run `relay up`",
            one_line(&spec.codex.program, 100),
            one_line(&config.codex, 100)
        ));
    }
    if spec.runner == Runner::Codex {
        let trusted = &config.trusted_args;
        let own_args = spec.codex.args.strip_prefix(trusted.as_slice()).unwrap_or(&spec.codex.args);
        if let Some(argument) = codex_args::first_forbidden(own_args) {
            return Err(format!(
                "the argument {} could disable Codex's sandbox: put it into [codex] args in relay.toml and \
                approve it with `relay up`",
                one_line(argument, 100)
            ));
        }
        if let Some(name) = env_policy::first_forbidden(spec.env.keys()) {
            return Err(format!(
                "the variable {} would act on Codex outside of its sandbox: set it in the task's own commands",
                one_line(name, 100)
            ));
        }
    }
    Ok(true)
}

/// Refuses a workspace that exposes a hidden path to a job without a sandbox.
///
/// # Errors
/// One line with advice on where to work instead.
pub(crate) fn check_without_sandbox(workspace: &str, hidden: &[String]) -> Result<(), String> {
    let workspace = Path::new(workspace);
    let overlaps =
        |hidden: &&String| workspace.starts_with(hidden) || Path::new(hidden).starts_with(workspace);
    match hidden.iter().find(overlaps) {
        Some(hidden) => Err(format!(
            "the workspace overlaps {}, and without a sandbox a job could write there: choose another \
            folder with -w",
            one_line(hidden, 300)
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra_fields: &str) -> Config {
        let certificate = r"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let text =
            format!(r#"{{"url":"wss://h/agent","token":"t","certificate":"{certificate}"{extra_fields}}}"#);
        Config::parse(text.as_bytes()).unwrap()
    }

    fn spec(sandbox: Sandbox) -> JobSpec {
        let mut spec = JobSpec::new("a#1".parse().unwrap(), Runner::Codex, "do it", "/w s");
        spec.codex.sandbox = sandbox;
        spec
    }

    #[test]
    fn only_settings_that_the_user_approved_are_admitted() {
        let write = spec(Sandbox::WorkspaceWrite);
        assert_eq!(admit(&write, &config("")), Ok(true));
        assert_eq!(admit(&spec(Sandbox::Off), &config("")), Ok(false));
        let approved = r#","sandbox":"workspace-write","trusted_args":["--add-dir","/srv"]"#;
        assert!(admit(&spec(Sandbox::Off), &config(approved)).unwrap_err().contains("relay up"));

        let admit_with = |args: &[&str]| {
            let mut spec = write.clone();
            spec.codex.args = args.iter().map(|arg| (*arg).to_owned()).collect();
            admit(&spec, &config(approved))
        };
        assert_eq!(admit_with(&["--add-dir", "/srv", "--search"]), Ok(true));
        assert!(
            admit_with(&["--add-dir", "/srv", "--add-dir", "/srv"]).unwrap_err().contains("[codex] args")
        );
        assert!(admit_with(&["--search", "--add-dir", "/srv"]).is_err());

        let mut other = write.clone();
        other.codex.program = "/tmp/codex".to_owned();
        assert!(admit(&other, &config("")).unwrap_err().contains("/tmp/codex"));

        let mut preloading = write;
        preloading.env.insert("LD_PRELOAD".to_owned(), "x".to_owned());
        assert!(admit(&preloading, &config("")).unwrap_err().contains("LD_PRELOAD"));
        preloading.runner = Runner::Shell;
        assert_eq!(admit(&preloading, &config("")), Ok(true), "a shell job's variables stay inside");
    }

    #[test]
    fn a_workspace_without_a_sandbox_may_not_overlap_a_hidden_path() {
        let hidden = ["/p/platform".to_owned()];
        for bad in ["/p", "/p/platform", "/p/platform/x", "/"] {
            assert!(check_without_sandbox(bad, &hidden).is_err(), "{bad}");
        }
        assert!(
            check_without_sandbox("/p/ws", &hidden).is_ok()
                && check_without_sandbox("/p/platform2", &hidden).is_ok()
        );
    }
}
