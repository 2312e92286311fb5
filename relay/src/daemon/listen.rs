//! Addresses and routes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Router;
use axum::routing::get;
use common::wire;
use tokio::net::TcpListener;

use super::agent_socket::{self, Door};
use super::patient::Patient;
use super::subscribe;
use crate::registry::lease::Lease;

/// Binds the loopback address: on the configured port, else on the port of the last time (agents come back there), else
/// on any.
///
/// # Errors
/// One line that says which port is taken and what to do.
pub(super) async fn bind(configured: Option<u16>, last: Option<&Lease>) -> Result<TcpListener, String> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Some(port) = configured {
        return TcpListener::bind(loopback(port)).await.map_err(|e| {
            format!("port {port} can't be used ({e}): free it, or set [relay] port in platform/relay.toml")
        });
    }
    if let Some(last) = last.and_then(|lease| lease.listen.first())
        && let Ok(listener) = TcpListener::bind(loopback(last.port())).await
    {
        return Ok(listener);
    }
    TcpListener::bind(loopback(0))
        .await
        .map_err(|e| format!("no port of {} is free: {e}", Ipv4Addr::LOCALHOST))
}

/// Binds the same port on the address under which containers reach this host. `None` where that address is not this
/// machine's: the engine runs elsewhere and forwards to loopback.
///
/// # Errors
/// When the port is taken there.
pub(super) async fn bind_gateway(gateway: IpAddr, port: u16) -> io::Result<Option<TcpListener>> {
    match TcpListener::bind((gateway, port)).await {
        Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => Ok(None),
        bound => bound.map(Some),
    }
}

/// Serves until the runtime ends.
pub(super) fn spawn(listener: TcpListener, door: Door) {
    let routes = Router::new()
        .route("/healthz", get(|| async { concat!("relay ", env!("CARGO_PKG_VERSION"), "\n") }))
        .route(wire::AGENT_PATH, get(agent_socket::enter))
        .route(subscribe::PATH, get(subscribe::enter))
        .with_state(door);
    tokio::spawn(async move {
        if let Err(e) = axum::serve(Patient(listener), routes).await {
            tracing::error!("the listener ended: {e}");
        }
    });
}
