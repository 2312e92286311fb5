//! Check of Codex's rules: an error in a rules file keeps Codex from starting.

#![expect(clippy::disallowed_methods, reason = "files of the user's home, not of the registry")]

use std::path::{Path, PathBuf};

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::{ProbeOutput, run_probe};
use crate::config::DEFAULT_CODEX_PROGRAM;
use crate::init;
use crate::plural;

const RULES_CHECK: &str = "rules";
/// Name of the folder with rules, in Codex's home and in the project's `.codex`.
const RULES_FOLDER: &str = "rules";
/// Maximum number of files that are checked in each folder.
const MAX_FILES: usize = 32;

/// Lets Codex evaluate all rules files for this project, and checks that they allow `relay up` outside of the sandbox.
pub(super) fn check_rules(context: &CheckContext) -> Vec<Finding> {
    let project_files = rule_files(&context.root.join(".codex").join(RULES_FOLDER));
    let home_files =
        context.codex_home().map(|home| rule_files(&home.join(RULES_FOLDER))).unwrap_or_default();
    let relay_files = init::rules_files(&context.root, context.codex_home().as_deref());
    let in_project = relay_files.iter().any(|file| project_files.contains(file));
    let in_home = relay_files.iter().any(|file| home_files.contains(file));
    let all: Vec<PathBuf> = project_files.into_iter().chain(home_files).collect();
    if !in_project && !in_home {
        let reason =
            "no rules of relay: `relay init` writes them, and `relay up` may then run outside of the sandbox";
        return vec![Finding::skipped(RULES_CHECK, reason)];
    }
    let configured_program =
        context.config.as_ref().map_or(DEFAULT_CODEX_PROGRAM, |config| &config.codex.program);
    let find = |program: &str| context.find_in_path(program).filter(|found| context.may_run(program, found));
    let Some(codex) = find(configured_program).or_else(|| find(DEFAULT_CODEX_PROGRAM)) else {
        let reason = if context.find_in_path(configured_program).is_some() {
            "not checked: the settings, which name Codex's program, are not approved"
        } else {
            "codex was not found on this machine to check them"
        };
        return vec![Finding::skipped(RULES_CHECK, reason)];
    };
    let mut args = vec!["execpolicy".to_owned(), "check".to_owned()];
    for file in &all {
        args.extend(["--rules".to_owned(), file.display().to_string()]);
    }
    args.extend(["relay", "up"].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = run_probe(&codex.to_string_lossy(), &args);
    let is_rules_source_trusted =
        in_home || is_trusted(&context.codex_home().unwrap_or_default(), &context.root);
    vec![assess_rules(&output, all.len(), is_rules_source_trusted)]
}

fn assess_rules(probe: &ProbeOutput, files: usize, is_rules_source_trusted: bool) -> Finding {
    let Some(probe_output) = probe.stdout_on_success() else {
        return match probe {
            ProbeOutput::Ended { stderr, .. } => Finding::fail(
                RULES_CHECK,
                format!("Codex can't read them and won't start: {}", extract_error(stderr)),
                "fix that file, or restore relay's rules with `relay init`",
            ),
            _ => Finding::warn(
                RULES_CHECK,
                format!("codex execpolicy: {}", probe.describe_failure()),
                "try `codex --version`",
            ),
        };
    };
    let decision: serde_json::Value = serde_json::from_str(probe_output).unwrap_or_default();
    match decision["decision"].as_str() {
        Some("allow") if is_rules_source_trusted => Finding::ok(
            RULES_CHECK,
            format!(
                "{} valid, `relay up` may run outside of the sandbox",
                plural::format_count(files as u64, "file", "files")
            ),
        ),
        Some("allow") => Finding::warn(
            RULES_CHECK,
            "the project's rules hold only once Codex trusts the project",
            "start `codex` here and trust it, or keep them for all projects: `relay init --user`",
        ),
        other => Finding::warn(
            RULES_CHECK,
            format!("`relay up` may not run outside of the sandbox: {}", other.unwrap_or("no rule matches")),
            "restore relay's rules with `relay init`",
        ),
    }
}

/// Extracts the position and the reason of a rule error from what the checker prints on stderr.
fn extract_error(stderr: &str) -> String {
    let is_relevant = |line: &&str| ["policy at", "rror:", "-->"].iter().any(|mark| line.contains(mark));
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(is_relevant).take(3).collect();
    let lines =
        lines.iter().map(|line| line.trim_start_matches("Error: ").trim_start_matches("starlark error: "));
    lines.collect::<Vec<_>>().join(" ")
}

fn rule_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rules") && path.is_file())
        .take(MAX_FILES)
        .collect();
    files.sort();
    files
}

/// Returns true if Codex's own configuration trusts a project.
fn is_trusted(home: &Path, root: &Path) -> bool {
    let text = std::fs::read_to_string(home.join("config.toml")).unwrap_or_default();
    let config: toml::Table = toml::from_str(&text).unwrap_or_default();
    let level = config
        .get("projects")
        .and_then(|projects| projects.get(root.to_string_lossy().as_ref()))
        .and_then(|project| project.get("trust_level"));
    level.and_then(toml::Value::as_str) == Some("trusted")
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    /// Error output of the real Codex for an invalid rules file, shortened.
    const INVALID_RULES_OUTPUT: &str = "Error: failed to parse policy at r/b.rules\n\nCaused by:\n    starlark error: error: Parse \
                          error: unexpected new line\n    --> r/b.rules:1:1\n     |\n\nStack backtrace:\n   0: <unknown>";

    fn ended(has_succeeded: bool, text: &str) -> ProbeOutput {
        let (stdout, stderr) = if has_succeeded { (text, "") } else { ("", text) };
        ProbeOutput::Ended { succeeded: has_succeeded, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn rules_allow_relay_up_outside_of_the_sandbox_or_the_check_warns() {
        let allow = ended(true, r#"{"matchedRules":[],"decision":"allow"}"#);
        let nothing = ended(true, r#"{"matchedRules":[]}"#);
        for (probe_output, is_rules_source_trusted, state, detail_start) in [
            (&allow, true, State::Ok, "1 file valid, `relay up` may run outside of the sandbox"),
            (&allow, false, State::Warn, "the project's rules hold only once"),
            (&nothing, true, State::Warn, "`relay up` may not run outside of the sandbox: no rule matches"),
            (&ProbeOutput::TimedOut, true, State::Warn, "codex execpolicy: no answer within 5 s"),
        ] {
            let found = assess_rules(probe_output, 1, is_rules_source_trusted);
            assert!(
                found.state == state && found.detail == detail_start
                    || found.detail.starts_with(detail_start),
                "{found:?}"
            );
        }
        assert_eq!(
            assess_rules(&ended(false, INVALID_RULES_OUTPUT), 1, true).detail,
            "Codex can't read them and won't start: failed to parse policy at r/b.rules error: Parse error: \
             unexpected new line --> r/b.rules:1:1"
        );
    }

    #[test]
    fn a_project_is_trusted_by_its_path() {
        let home = tempfile::tempdir().unwrap();
        let root = Path::new("/home/u/project");
        assert!(!is_trusted(home.path(), root));
        let text = "[projects.\"/home/u/project\"]\ntrust_level = \"trusted\"\n";
        std::fs::write(home.path().join("config.toml"), text).unwrap();
        assert!(is_trusted(home.path(), root) && !is_trusted(home.path(), Path::new("/home/u")));
    }
}
