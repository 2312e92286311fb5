//! Check that a login shell finds `relay`: Codex runs a model's commands in a login shell, whose PATH may differ.

use std::path::{Path, PathBuf};

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::{ProbeOutput, run_probe};

const SHELL_CHECK: &str = "login-shell";

/// Lets the person's login shell look for `relay`.
pub(super) fn check_login_shell(context: &CheckContext) -> Vec<Finding> {
    let shell = context.variable("SHELL").unwrap_or("/bin/sh");
    let output = run_probe(shell, &["-lc", "command -v relay"]);
    let own_path = std::env::current_exe().and_then(|exe| exe.canonicalize()).unwrap_or_default();
    let found = output.stdout_on_success().and_then(|text| text.lines().last()).map(PathBuf::from);
    let is_same_file =
        found.as_ref().and_then(|found| found.canonicalize().ok()).map(|found| found == own_path);
    vec![assess_shell(shell, &output, found.as_deref(), is_same_file, &own_path)]
}

fn assess_shell(
    shell: &str,
    probe: &ProbeOutput,
    found_relay: Option<&Path>,
    is_same_file: Option<bool>,
    own_path: &Path,
) -> Finding {
    let link = format!(
        "`sudo ln -sf {} /usr/local/bin/relay`, or put its folder on the PATH of your profile",
        own_path.display()
    );
    match (probe, found_relay, is_same_file) {
        (_, Some(found), Some(true)) => {
            Finding::ok(SHELL_CHECK, format!("{shell} -l finds {}", found.display()))
        }
        (_, Some(found), Some(false)) => {
            Finding::warn(SHELL_CHECK, format!("{shell} -l finds another relay: {}", found.display()), link)
        }
        // The shell found an alias or a function.
        (_, Some(found), None) => {
            Finding::warn(SHELL_CHECK, format!("{shell} -l takes relay for: {}", found.display()), link)
        }
        (ProbeOutput::Ended { .. }, None, _) => Finding::warn(
            SHELL_CHECK,
            format!("{shell} -l does not find relay, so Codex's commands don't either"),
            link,
        ),
        _ => Finding::warn(
            SHELL_CHECK,
            format!("{shell} -l: {}", probe.describe_failure()),
            "check the profile of your shell",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_login_shell_finds_this_relay_another_or_none() {
        let ended =
            |succeeded| ProbeOutput::Ended { succeeded, stdout: String::new(), stderr: String::new() };
        let (own_path, path) = (Path::new("/opt/relay"), Some(Path::new("/usr/local/bin/relay")));
        for (probe, found, is_same_file, state, detail_start) in [
            (ended(true), path, Some(true), State::Ok, "/bin/bash -l finds /usr/local/bin/relay"),
            (ended(true), path, Some(false), State::Warn, "/bin/bash -l finds another relay: /usr"),
            (
                ended(true),
                Some(Path::new("alias relay=x")),
                None,
                State::Warn,
                "/bin/bash -l takes relay for",
            ),
            (ended(false), None, None, State::Warn, "/bin/bash -l does not find relay"),
            (ProbeOutput::TimedOut, None, None, State::Warn, "/bin/bash -l: no answer within 5 s"),
        ] {
            let finding = assess_shell("/bin/bash", &probe, found, is_same_file, own_path);
            assert!(finding.state == state && finding.detail.starts_with(detail_start), "{finding:?}");
        }
    }
}
