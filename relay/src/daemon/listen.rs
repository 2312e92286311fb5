//! Addresses that the daemon listens on, and the routes of its HTTP server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use axum::Router;
use axum::routing::get;
use common::wire;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::app_state::AppState;
pub(super) use super::pending_connections::Listener;
use super::pending_connections::Routes;
use super::{pending_connections, subscribe, upgrade};
use crate::engine::box_network::SOCKET_NAME;
use crate::engine_kind::EngineKind;
use crate::state_dir::box_socket;

/// Maximum number of connections that wait to be accepted. It is the maximum number of agents, which all connect at
/// once after a restart of the relay. With the usual 128, most of them would have to retry after a second.
const BACKLOG: u32 = 4096;

/// Listens on the loopback address: on the configured port, else on the last one (agents reconnect there), else on any.
pub(super) fn bind_loopback(
    configured_port: Option<u16>,
    last_port: Option<u16>,
) -> Result<TcpListener, String> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Some(port) = configured_port {
        return open_listener(loopback(port)).map_err(|e| {
            format!("port {port} can't be used ({e}): free it, or set [relay] port in platform/relay.toml")
        });
    }
    if let Some(last) = last_port
        && let Ok(listener) = open_listener(loopback(last))
    {
        return Ok(listener);
    }
    open_listener(loopback(0)).map_err(|e| format!("no port of {} is free: {e}", Ipv4Addr::LOCALHOST))
}

/// Listens on an address, even if the last relay used it a moment ago.
fn open_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Listens on a port of the gateway, the address at which containers reach this host. Returns `None` if that address
/// does not belong to this machine: the engine runs elsewhere and forwards to loopback.
///
/// # Errors
/// Fails if the port is in use on that address.
pub(super) fn bind_gateway(gateway: IpAddr, port: u16) -> io::Result<Option<TcpListener>> {
    match open_listener(SocketAddr::new(gateway, port)) {
        Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => Ok(None),
        bound => bound.map(Some),
    }
}

/// Listens on the socket at which agents in containers reach this relay, also if new containers don't need it: boxes that
/// an earlier relay started may have no other way. Returns the reason if there is no such socket.
pub(super) fn open_box_socket(engine: EngineKind, folder: &Path) -> (Option<UnixListener>, Option<String>) {
    // Elsewhere engines run in a virtual machine, which can't use a socket of this one.
    if !engine.is_container() || !cfg!(target_os = "linux") {
        return (None, None);
    }
    match box_socket::bind(folder, SOCKET_NAME).and_then(UnixListener::from_std) {
        Ok(listener) => (Some(listener), None),
        Err(e) => {
            let reason = format!("the socket for containers in {} can't be made: {e}", folder.display());
            tracing::error!("{reason}");
            (None, Some(reason))
        }
    }
}

/// Serves connections until the runtime ends.
pub(super) fn spawn_server(listener: Listener, app: AppState) {
    let acceptor = app.identity.acceptor.clone();
    let shared = Router::new()
        .route("/healthz", get(upgrade::serve_health))
        .route(subscribe::ENDPOINT_PATH, get(subscribe::serve_events));
    let routes = Routes {
        tls: shared.clone().route(wire::AGENT_PATH, get(upgrade::serve_agent)).with_state(app.clone()),
        plain: shared.route(wire::AGENT_PATH, get(upgrade::refuse_plain)).with_state(app),
    };
    tokio::spawn(pending_connections::accept_connections(listener, routes, acceptor));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_for_boxes_that_can_t_be_made_is_an_obstacle_and_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("box");
        let (listener, obstacle) = open_box_socket(EngineKind::Docker, &folder);
        assert_eq!((listener.is_some(), obstacle), (true, None));
        std::fs::write(dir.path().join("file"), "").unwrap();
        let (listener, obstacle) = open_box_socket(EngineKind::Podman, &dir.path().join("file"));
        assert!(listener.is_none() && obstacle.unwrap().contains("/file can't be made"));
        let (listener, obstacle) = open_box_socket(EngineKind::Local, &folder);
        assert_eq!((listener.is_none(), obstacle), (true, None));
    }
}
