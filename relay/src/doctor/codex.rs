//! Codex, and the helper that newer models need to use any tool.

use std::path::Path;

use common::version;

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::run_probe;
use crate::registry::lease::PlatformStatus;
use crate::versions;

const CODEX: &str = "codex";
const HOST: &str = "code-mode-host";
const INSTALL: &str = "`npm install -g @openai/codex`, or set [codex] program in platform/relay.toml";
/// Oldest supported version. Older ones print other lines than the agent reads; it refuses them too.
const OLDEST: version::Version = (0, 100, 0);

/// Checks the Codex that workers run.
pub(super) fn check(context: &CheckContext) -> Vec<Finding> {
    let config = match &context.config {
        Ok(config) => config,
        Err(unusable) => {
            return vec![Finding::skipped(CODEX, unusable.why()), Finding::skipped(HOST, unusable.why())];
        }
    };
    if context.engine.is_container() {
        return vec![
            in_container(context.platform()),
            Finding::skipped(HOST, "the image has the whole package"),
        ];
    }
    let program = &config.codex.program;
    let Some(path) = context.find(program) else {
        let missing =
            Finding::fail(CODEX, format!("{program} was not found: only shell jobs can run"), INSTALL);
        return vec![missing, Finding::skipped(HOST, "codex was not found")];
    };
    if !context.may_run(program, &path) {
        let why = format!("{program} was not run: the settings are not approved");
        return vec![Finding::skipped(CODEX, &why), Finding::skipped(HOST, why)];
    }
    let real = path.canonicalize().unwrap_or(path);
    let said = run_probe(&real.to_string_lossy(), &["--version"]);
    let version = said.answer().and_then(version::word);
    let codex = match version {
        Some(version) => assess_codex(version, versions::codex_version(), &format!(" ({})", real.display())),
        None => Finding::fail(CODEX, format!("{} --version: {}", real.display(), said.error_text()), INSTALL),
    };
    vec![codex, host(&real)]
}

fn in_container(platform: Option<&PlatformStatus>) -> Finding {
    match platform {
        Some(PlatformStatus::Ready { codex_problem: Some(problem), .. }) => {
            // The agent's advice follows the first colon.
            let (detail, fix) = problem.split_once(": ").unwrap_or((problem, "`relay up --build`"));
            Finding::fail(CODEX, detail, fix)
        }
        Some(PlatformStatus::Ready { codex: Some(version), .. }) => {
            assess_codex(version, versions::codex_version(), " (on the platform)")
        }
        Some(PlatformStatus::Ready { .. }) => {
            Finding::skipped(CODEX, "the platform was too busy to report its version; jobs start anyway")
        }
        _ => Finding::skipped(CODEX, "known once the platform is up"),
    }
}

fn assess_codex(version: &str, tested: &str, place: &str) -> Finding {
    let found = version::parse(version);
    if found.is_some_and(|found| found < OLDEST) {
        return Finding::fail(CODEX, format!("{version}{place} is too old"), INSTALL);
    }
    if found < version::parse(tested) {
        let detail = format!("{version}{place} is older than {tested}, which relay is tested with");
        return Finding::warn(CODEX, detail, INSTALL);
    }
    Finding::ok(CODEX, format!("{version}{place}"))
}

/// Checks for the helper. The npm package starts the binary through a script; the helper is in the binary's folder
/// then.
fn host(codex: &Path) -> Finding {
    let script = codex.extension().is_some_and(|extension| extension == "js");
    let beside = codex.with_file_name("codex-code-mode-host");
    if script {
        Finding::ok(HOST, "part of the npm package")
    } else if beside.is_file() {
        Finding::ok(HOST, beside.display().to_string())
    } else {
        Finding::fail(
            HOST,
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
        assert_eq!(host(&codex).state, State::Fail);
        std::fs::write(dir.path().join("codex-code-mode-host"), "").unwrap();
        assert_eq!(host(&codex).state, State::Ok);
        assert_eq!(host(Path::new("/lib/codex.js")).state, State::Ok);
    }

    #[test]
    fn in_a_container_it_is_known_once_the_agent_has_told() {
        let ready = |codex: Option<&str>, problem: Option<&str>| PlatformStatus::Ready {
            agent: "a".into(),
            version: "1".into(),
            max_jobs: 4,
            codex: codex.map(str::to_owned),
            codex_problem: problem.map(str::to_owned),
            agents: 1,
        };
        assert_eq!(in_container(None).state, State::Skipped);
        assert_eq!(in_container(Some(&ready(Some("0.169.0"), None))).state, State::Ok);
        let found = in_container(Some(&ready(None, Some("codex has no credentials: log in"))));
        assert_eq!(found, Finding::fail(CODEX, "codex has no credentials", "log in"));
    }
}
