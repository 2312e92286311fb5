//! Check of the hosts that jobs in containers can reach.

use super::context::CheckContext;
use super::finding::Finding;
use crate::config::Config;
use crate::engine::box_network::SOCKET_NAME;
use crate::engine::container::Container;
use crate::policy;
use crate::registry::lease::PlatformStatus;
use crate::state_dir::{StateDir, box_socket};

const NETWORK_CHECK: &str = "network";

/// Network of jobs, as the settings ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// Network of this machine.
    Machine,
    /// Network of the engine, because all jobs share a container.
    SharedContainer,
    /// Network of the engine, because Codex needs it for its model.
    WithoutGateway,
    /// Only the hosts of the allow list. `is_explicit`: the user has written the list.
    Listed { is_explicit: bool },
}

/// Checks whether jobs reach only the hosts of `[network] allow`.
pub(super) fn check_network(context: &CheckContext) -> Vec<Finding> {
    let config = match &context.config {
        Ok(config) => config,
        Err(unusable) => return vec![Finding::skipped(NETWORK_CHECK, unusable.explanation())],
    };
    if let Err(refused) = policy::check_allowed_hosts(context.engine, config) {
        return vec![Finding::fail(NETWORK_CHECK, refused.message, "do that, then run `relay restart`")];
    }
    let network = if config.has_allow_list(context.engine) {
        Network::Listed { is_explicit: config.network.is_explicit_allow_list }
    } else if config.platform.has_boxes(context.engine) {
        Network::WithoutGateway
    } else if context.engine.is_container() {
        Network::SharedContainer
    } else {
        Network::Machine
    };
    let is_ready = matches!(context.platform(), Some(PlatformStatus::Ready { .. }));
    if matches!(network, Network::Listed { .. }) && (!is_ready || context.sandbox.is_some()) {
        return vec![Finding::skipped(NETWORK_CHECK, "run outside of a sandbox, with relay up")];
    }
    let obstacle = match network {
        Network::Listed { .. } => find_obstacle(context, config),
        _ => None,
    };
    vec![assess(network, obstacle)]
}

/// Returns the reason why the containers of jobs can't be without a network, if there is one.
fn find_obstacle(context: &CheckContext, config: &Config) -> Option<String> {
    let Ok(state) = StateDir::for_project(&context.root) else { return None };
    let container = Container {
        engine: context.engine,
        platform: &config.platform,
        registry: context.registry.dir(),
        sandbox: config.codex.job_settings(context.engine).sandbox,
        socket_folder: &state.box_socket_dir(),
    };
    let obstacle = container.query_facts().and_then(|facts| container.no_network_obstacle(&facts));
    obstacle.unwrap_or_else(Some).or_else(|| socket_obstacle(&state))
}

/// Returns the reason why the relay can't be reached at its socket for the containers of jobs, if there is one.
fn socket_obstacle(state: &StateDir) -> Option<String> {
    let folder = state.box_socket_dir();
    let error = box_socket::check(&folder, SOCKET_NAME).err()?;
    Some(format!("the relay does not listen on its socket in {}: {error}", folder.display()))
}

fn assess(network: Network, obstacle: Option<String>) -> Finding {
    match (network, obstacle) {
        (Network::Machine, _) => Finding::skipped(
            NETWORK_CHECK,
            "engine local has none of its own: jobs use this machine's network",
        ),
        (Network::SharedContainer, _) => Finding::warn(
            NETWORK_CHECK,
            "jobs use the engine's network, without a list of hosts, because they share a container",
            "set isolation = \"job\" in [platform] and gateway = true in [model], then run `relay restart`",
        ),
        (Network::WithoutGateway, _) => Finding::warn(
            NETWORK_CHECK,
            "jobs use the engine's network, without a list of hosts, because their Codex needs it for the model",
            "set gateway = true in [model], then run `relay restart`",
        ),
        (Network::Listed { .. }, None) => Finding::ok(
            NETWORK_CHECK,
            "jobs reach the model and the hosts in [network] allow, and nothing else",
        ),
        (Network::Listed { is_explicit: true }, Some(reason)) => Finding::fail(
            NETWORK_CHECK,
            format!("the hosts in [network] allow can't be enforced, so no job starts: {reason}"),
            "use an engine on this machine, or remove that setting: jobs then use the engine's network",
        ),
        (Network::Listed { is_explicit: false }, Some(reason)) => Finding::warn(
            NETWORK_CHECK,
            format!("jobs use the engine's network, without a list of hosts: {reason}"),
            "use an engine on this machine, without SELinux",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn only_jobs_that_are_kept_to_the_list_pass() {
        let listed = |is_explicit| Network::Listed { is_explicit };
        let obstacle = || Some("the engine runs on another machine".to_owned());
        for (network, obstacle, state) in [
            (Network::Machine, None, State::Skipped),
            (Network::SharedContainer, None, State::Warn),
            (Network::WithoutGateway, None, State::Warn),
            (listed(true), None, State::Ok),
            (listed(true), obstacle(), State::Fail),
            (listed(false), obstacle(), State::Warn),
        ] {
            assert_eq!(assess(network, obstacle).state, state, "{network:?}");
        }
    }
}
