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
    own_version: String,
    /// Version of the daemon; `None` while none runs.
    daemon: Option<String>,
    connected_agent: Option<String>,
    /// Version of `worker-agent` on this machine, or the reason why there is none.
    installed_agent: Result<String, String>,
}

/// Runs `worker-agent` and reads the lease.
pub(super) fn check_agent(context: &CheckContext) -> Vec<Finding> {
    let installed_agent = command::agent_program().and_then(|program| {
        let output = run_probe(&program.to_string_lossy(), &["--version"]);
        let version = output.stdout_on_success().and_then(version::version_word).map(str::to_owned);
        version.ok_or_else(|| format!("{}: {}", program.display(), output.describe_failure()))
    });
    let connected_agent = match context.platform() {
        Some(PlatformStatus::Ready { version, .. }) => Some(version.clone()),
        _ => None,
    };
    let daemon =
        context.lease.as_ref().filter(|_| context.is_relay_running).map(|lease| lease.version.clone());
    let versions = Versions {
        own_version: env!("CARGO_PKG_VERSION").to_owned(),
        daemon,
        connected_agent,
        installed_agent,
    };
    vec![assess_agent(&versions, context.engine, &context.up_command())]
}

fn assess_agent(versions: &Versions, engine: EngineKind, up_command: &str) -> Finding {
    let own = &versions.own_version;
    let restart_advice = format!("when no job runs: `relay down`, then {up_command}");
    if let Some(relay) = versions.daemon.as_ref().filter(|relay| *relay != own) {
        return Finding::warn(
            AGENT_CHECK,
            format!("the running relay is {relay}, this command is {own}"),
            restart_advice,
        );
    }
    if let Some(agent) = versions.connected_agent.as_ref().filter(|agent| *agent != own) {
        let fix = if engine.is_container() {
            "`relay up --build` builds a new image".to_owned()
        } else {
            restart_advice
        };
        return Finding::warn(AGENT_CHECK, format!("the running agent is {agent}, the relay is {own}"), fix);
    }
    match &versions.installed_agent {
        Ok(agent) if agent == own => Finding::ok(AGENT_CHECK, format!("worker-agent and relay are {own}")),
        Ok(agent) => Finding::warn(
            AGENT_CHECK,
            format!("worker-agent on this machine is {agent}, relay is {own}"),
            "install both of the same version, beside each other",
        ),
        Err(reason) if engine.is_container() => Finding::warn(
            AGENT_CHECK,
            format!("no image can be built: {reason}"),
            "install worker-agent beside relay",
        ),
        Err(reason) => Finding::fail(AGENT_CHECK, reason, "install worker-agent beside relay"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn all_that_talk_to_each_other_are_of_one_version() {
        let version = |text: &str| Some(text.to_owned());
        for (daemon, connected_agent, installed, engine, state, detail_start) in [
            (None, None, Ok("1.0.0"), EngineKind::Local, State::Ok, "worker-agent and relay are 1.0.0"),
            (
                version("1.0.0"),
                version("1.0.0"),
                Ok("1.0.0"),
                EngineKind::Docker,
                State::Ok,
                "worker-agent and",
            ),
            (
                version("0.9.0"),
                version("0.9.0"),
                Ok("1.0.0"),
                EngineKind::Local,
                State::Warn,
                "the running relay is 0.9",
            ),
            (
                version("1.0.0"),
                version("0.9.0"),
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
            let installed_agent = installed.map(str::to_owned).map_err(str::to_owned);
            let versions = Versions { own_version: "1.0.0".into(), daemon, connected_agent, installed_agent };
            let finding = assess_agent(&versions, engine, "`relay up`");
            assert!(finding.state == state && finding.detail.starts_with(detail_start), "{finding:?}");
        }
    }
}
