//! Checks that relay and agent have the same version.

use common::version;

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::run_probe;
use crate::engine::command;
use crate::engine_kind::EngineKind;
use crate::registry::lease::PlatformStatus;

const AGENT_CHECK: &str = "agent";

/// Versions of the programs that communicate with each other.
struct Versions {
    /// Version of this program.
    own: String,
    /// Version of the daemon, while it runs.
    relay: Option<String>,
    connected: Option<String>,
    /// Version of `worker-agent` on this machine, or the reason why there is none.
    installed: Result<String, String>,
}

/// Runs `worker-agent` and reads the lease.
pub(super) fn check_agent(context: &CheckContext) -> Vec<Finding> {
    let installed = command::agent_program().and_then(|program| {
        let output = run_probe(&program.to_string_lossy(), &["--version"]);
        let version = output.stdout_on_success().and_then(version::version_word).map(str::to_owned);
        version.ok_or_else(|| format!("{}: {}", program.display(), output.describe_failure()))
    });
    let connected = match context.platform() {
        Some(PlatformStatus::Ready { version, .. }) => Some(version.clone()),
        _ => None,
    };
    let relay =
        context.lease.as_ref().filter(|_| context.relay_is_running).map(|lease| lease.version.clone());
    let versions = Versions { own: env!("CARGO_PKG_VERSION").to_owned(), relay, connected, installed };
    vec![assess_agent(&versions, context.engine, &context.up_command())]
}

fn assess_agent(versions: &Versions, engine: EngineKind, up: &str) -> Finding {
    let own = &versions.own;
    let again = format!("when no job runs: `relay down`, then {up}");
    if let Some(relay) = versions.relay.as_ref().filter(|relay| *relay != own) {
        return Finding::warn(
            AGENT_CHECK,
            format!("the running relay is {relay}, this command is {own}"),
            again,
        );
    }
    if let Some(agent) = versions.connected.as_ref().filter(|agent| *agent != own) {
        let fix =
            if engine.is_container() { "`relay up --build` builds a new image".to_owned() } else { again };
        return Finding::warn(AGENT_CHECK, format!("the running agent is {agent}, the relay is {own}"), fix);
    }
    match &versions.installed {
        Ok(agent) if agent == own => Finding::ok(AGENT_CHECK, format!("worker-agent and relay are {own}")),
        Ok(agent) => Finding::warn(
            AGENT_CHECK,
            format!("worker-agent on this machine is {agent}, relay is {own}"),
            "install both of the same version, beside each other",
        ),
        Err(why) if engine.is_container() => Finding::warn(
            AGENT_CHECK,
            format!("no image can be built: {why}"),
            "install worker-agent beside relay",
        ),
        Err(why) => Finding::fail(AGENT_CHECK, why, "install worker-agent beside relay"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn all_that_talk_to_each_other_are_of_one_version() {
        let one = |text: &str| Some(text.to_owned());
        for (relay, connected, installed, engine, state, words) in [
            (None, None, Ok("1.0.0"), EngineKind::Local, State::Ok, "worker-agent and relay are 1.0.0"),
            (one("1.0.0"), one("1.0.0"), Ok("1.0.0"), EngineKind::Docker, State::Ok, "worker-agent and"),
            (
                one("0.9.0"),
                one("0.9.0"),
                Ok("1.0.0"),
                EngineKind::Local,
                State::Warn,
                "the running relay is 0.9",
            ),
            (
                one("1.0.0"),
                one("0.9.0"),
                Ok("1.0.0"),
                EngineKind::Docker,
                State::Warn,
                "the running agent is",
            ),
            (
                None,
                None,
                Ok("1.1.0"),
                EngineKind::Local,
                State::Warn,
                "worker-agent on this machine is 1.1.0",
            ),
            (None, None, Err("gone"), EngineKind::Local, State::Fail, "gone"),
            (None, None, Err("gone"), EngineKind::Docker, State::Warn, "no image can be built: gone"),
        ] {
            let installed = installed.map(str::to_owned).map_err(str::to_owned);
            let versions = Versions { own: "1.0.0".into(), relay, connected, installed };
            let found = assess_agent(&versions, engine, "`relay up`");
            assert!(found.state == state && found.detail.starts_with(words), "{found:?}");
        }
    }
}
