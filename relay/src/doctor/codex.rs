//! Checks of Codex, and of the helper program that newer models need to use any tool.

use std::path::Path;

use common::version;

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::run_probe;
use crate::pinned_versions;
use crate::registry::lease::PlatformStatus;

const CODEX_CHECK: &str = "codex";
const HELPER_CHECK: &str = "code-mode-host";
const INSTALL_ADVICE: &str = "`npm install -g @openai/codex`, or set [codex] program in platform/relay.toml";
/// Oldest supported version of Codex. The agent, too, refuses older versions, whose output it can't parse.
const MIN_VERSION: version::Version = (0, 100, 0);

/// Checks the Codex that workers run.
pub(super) fn check_codex(context: &CheckContext) -> Vec<Finding> {
    let config = match &context.config {
        Ok(config) => config,
        Err(unusable) => {
            return vec![
                Finding::skipped(CODEX_CHECK, unusable.explanation()),
                Finding::skipped(HELPER_CHECK, unusable.explanation()),
            ];
        }
    };
    if context.engine.is_container() {
        return vec![
            check_in_container(context.platform()),
            Finding::skipped(HELPER_CHECK, "the image has the whole package"),
        ];
    }
    let program = &config.codex.program;
    let Some(path) = context.find_in_path(program) else {
        let missing = Finding::fail(
            CODEX_CHECK,
            format!("{program} was not found: only shell jobs can run"),
            INSTALL_ADVICE,
        );
        return vec![missing, Finding::skipped(HELPER_CHECK, "codex was not found")];
    };
    if !context.may_run(program, &path) {
        let reason = format!("{program} was not run: the settings are not approved");
        return vec![Finding::skipped(CODEX_CHECK, &reason), Finding::skipped(HELPER_CHECK, reason)];
    }
    let real_path = path.canonicalize().unwrap_or(path);
    let output = run_probe(&real_path.to_string_lossy(), &["--version"]);
    let version = output.stdout_on_success().and_then(version::version_word);
    let codex = match version {
        Some(version) => {
            assess_codex(version, pinned_versions::codex_version(), &format!(" ({})", real_path.display()))
        }
        None => Finding::fail(
            CODEX_CHECK,
            format!("{} --version: {}", real_path.display(), output.describe_failure()),
            INSTALL_ADVICE,
        ),
    };
    vec![codex, check_code_mode_host(&real_path)]
}

fn check_in_container(platform: Option<&PlatformStatus>) -> Finding {
    match platform {
        Some(PlatformStatus::Ready { codex_problem: Some(problem), .. }) => {
            // In the agent's message, the advice follows the first colon.
            let (detail, fix) = problem.split_once(": ").unwrap_or((problem, "`relay up --build`"));
            Finding::fail(CODEX_CHECK, detail, fix)
        }
        Some(PlatformStatus::Ready { codex: Some(version), .. }) => {
            assess_codex(version, pinned_versions::codex_version(), " (on the platform)")
        }
        Some(PlatformStatus::Ready { .. }) => Finding::skipped(
            CODEX_CHECK,
            "the platform was too busy to report its version; jobs start anyway",
        ),
        _ => Finding::skipped(CODEX_CHECK, "known once the platform is up"),
    }
}

fn assess_codex(version: &str, tested_version: &str, location: &str) -> Finding {
    let found = version::parse_version(version);
    if found.is_some_and(|found| found < MIN_VERSION) {
        return Finding::fail(CODEX_CHECK, format!("{version}{location} is too old"), INSTALL_ADVICE);
    }
    if found < version::parse_version(tested_version) {
        let detail =
            format!("{version}{location} is older than {tested_version}, which relay is tested with");
        return Finding::warn(CODEX_CHECK, detail, INSTALL_ADVICE);
    }
    Finding::ok(CODEX_CHECK, format!("{version}{location}"))
}

/// Checks that the helper is installed. In the npm package the helper is beside the binary, not beside the script that
/// starts it.
fn check_code_mode_host(codex: &Path) -> Finding {
    let is_script = codex.extension().is_some_and(|extension| extension == "js");
    let helper = codex.with_file_name("codex-code-mode-host");
    if is_script {
        Finding::ok(HELPER_CHECK, "part of the npm package")
    } else if helper.is_file() {
        Finding::ok(HELPER_CHECK, helper.display().to_string())
    } else {
        Finding::fail(
            HELPER_CHECK,
            format!("codex-code-mode-host is not beside {}: newer models can't use tools", codex.display()),
            "install the whole package, not only the binary: `npm install -g @openai/codex`",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn codex_is_new_enough_untested_or_too_old() {
        for (version, state) in [
            ("0.169.0", State::Ok),
            ("0.170.1", State::Ok),
            ("1.0.0-alpha.1", State::Ok),
            ("0.168.9", State::Warn),
            ("0.99.0", State::Fail),
        ] {
            let found = assess_codex(version, "0.169.0", "");
            assert_eq!(found.state, state, "{found:?}");
            assert_eq!(found.fix.is_some(), state != State::Ok);
        }
        assert!(
            assess_codex("0.150.0", "0.169.0", "")
                .detail
                .contains("older than 0.169.0, which relay is tested with")
        );
    }

    #[test]
    fn the_helper_lies_beside_the_binary_or_in_the_package() {
        let dir = tempfile::tempdir().unwrap();
        let codex = dir.path().join("codex");
        assert_eq!(check_code_mode_host(&codex).state, State::Fail);
        std::fs::write(dir.path().join("codex-code-mode-host"), "").unwrap();
        assert_eq!(check_code_mode_host(&codex).state, State::Ok);
        assert_eq!(check_code_mode_host(Path::new("/lib/codex.js")).state, State::Ok);
    }

    #[test]
    fn in_a_container_codex_is_checked_once_the_agent_has_reported_it() {
        let ready = |codex: Option<&str>, problem: Option<&str>| PlatformStatus::Ready {
            agent: "a".into(),
            version: "1".into(),
            max_jobs: 4,
            codex: codex.map(str::to_owned),
            codex_problem: problem.map(str::to_owned),
            agents: 1,
            vitals: None,
            shortage: None,
        };
        assert_eq!(check_in_container(None).state, State::Skipped);
        assert_eq!(check_in_container(Some(&ready(Some("0.169.0"), None))).state, State::Ok);
        let found = check_in_container(Some(&ready(None, Some("codex has no credentials: log in"))));
        assert_eq!(found, Finding::fail(CODEX_CHECK, "codex has no credentials", "log in"));
    }
}
