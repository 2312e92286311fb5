//! Checks of what protects the parties from each other: consent, places, limits, sandbox, secrets.

use common::job::Sandbox;

use super::finding::Finding;
use super::scene::Scene;
use crate::consent::Standing;
use crate::policy;

/// Checks the consent of the person and the confinement of workers.
pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    // A relay that lives goes on with the settings that it was started with.
    let starts = if scene.lives { scene.restart() } else { scene.up() };
    let consent = scene.standing.as_ref().map(|standing| consent(standing, &starts));
    let Ok(config) = &scene.config else { return consent.into_iter().collect() };
    let is_container = scene.engine.is_container();
    let workspaces = match policy::check_workspaces(scene.engine, config) {
        Ok(()) => Finding::ok("workspaces", config.platform.workspaces.display().to_string()),
        Err(failure) => Finding::fail("workspaces", failure.message, "correct that setting"),
    };
    let limits = if is_container {
        Finding::ok("limits", format!("the platform may use {}", config.platform.resources.told()))
    } else {
        Finding::skipped("limits", "engine local has none: workers share this machine's memory and processes")
    };
    let sandbox = config.codex.settings(scene.engine).sandbox;
    let mut found: Vec<Finding> = consent.into_iter().collect();
    found.extend([workspaces, limits, confinement(is_container, sandbox)]);
    if is_container {
        found.push(Finding::warn(
            "secrets",
            "all jobs share one container: the model's commands can read the model's key, and one job can read the \
             environment of another",
            "use a key of its own with a spending limit, and give --env secrets only to jobs that run alone",
        ));
    }
    found
}

fn consent(standing: &Standing, up: &str) -> Finding {
    const CONSENT: &str = "consent";
    match standing {
        Standing::Agreed => Finding::ok(CONSENT, "a person has agreed to these settings"),
        Standing::New(_) => Finding::warn(
            CONSENT,
            "no person has agreed to the settings of this project yet",
            format!("{up} shows them and asks"),
        ),
        Standing::Changed(lines) => Finding::warn(
            CONSENT,
            format!("the settings changed since a person agreed to them: {}", lines.join("; ")),
            format!("{up} shows them and asks"),
        ),
    }
}

fn confinement(is_container: bool, sandbox: Sandbox) -> Finding {
    const SANDBOX: &str = "sandbox";
    match (is_container, sandbox) {
        (true, Sandbox::Off) => {
            Finding::ok(SANDBOX, "the container: workers see the workspaces folder alone")
        }
        (true, Sandbox::WorkspaceWrite) => Finding::ok(SANDBOX, "the container, and Codex's own within it"),
        (false, Sandbox::WorkspaceWrite) => Finding::ok(
            SANDBOX,
            "Codex's own: workers write their workspace alone, and read what you can read",
        ),
        (false, Sandbox::Off) => Finding::warn(
            SANDBOX,
            "off: workers run on this machine with all your rights",
            "remove sandbox = \"off\" from [codex], or use a container engine",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn consent_is_given_missing_or_outdated() {
        for (standing, state, words) in [
            (Standing::Agreed, State::Ok, "a person has agreed"),
            (Standing::New(vec!["engine = docker".into()]), State::Warn, "no person has agreed"),
            (Standing::Changed(vec!["+ a = 1".into()]), State::Warn, "the settings changed since"),
        ] {
            let found = consent(&standing, "`relay up`");
            assert!(found.state == state && found.detail.starts_with(words), "{found:?}");
        }
        assert_eq!(confinement(false, Sandbox::Off).state, State::Warn);
    }
}
