//! Admission of agents on `/agent`, decided before the upgrade of the HTTP request to a WebSocket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use common::wire;
use tokio::sync::mpsc;

use super::connection;
use super::job_repositories::JobRepositories;
use super::message::Message;
use super::model_access::ModelAccess;
use super::network_access::NetworkAccess;
use super::receipts::ReceivedEvidence;
use super::subscribe::Subscribers;
use super::tls::TlsIdentity;
use super::token::TokenVerifier;
use super::writer::WriterHandle;
use crate::engine::container::HOST_NAMES;
use crate::output::store::Outputs;
use crate::state_dir::tokens::AgentTokens;
use crate::time::Clock;

/// Size of the WebSocket's own buffers, in bytes, one for each direction and agent: a thousand agents must fit into 64
/// MiB. A longer message gets a larger buffer while it is received.
const SOCKET_BUFFER: usize = 4 * 1024;

/// Shared state of all connections.
#[derive(Clone)]
pub(super) struct AppState {
    /// Verifies the agents' tokens.
    pub(super) tokens: AgentTokens,
    /// TLS identity of this relay, pinned by agents.
    pub(super) identity: TlsIdentity,
    /// Writer of the registry, which receives the agents' events.
    pub(super) writer: WriterHandle,
    /// Queue of the main loop, which receives all other messages.
    pub(super) core: mpsc::Sender<Message>,
    /// Repositories of the jobs that have a clone of their own.
    pub(super) repositories: JobRepositories,
    /// Output of the jobs.
    pub(super) outputs: Outputs,
    /// Access of jobs to the model, if any of them may reach it through this relay.
    pub(super) model: Option<ModelAccess>,
    /// Access of jobs to other hosts, if any of them may have no network of their own.
    pub(super) network: Option<NetworkAccess>,
    /// Evidence that agents reported, for receipts.
    pub(super) evidence: ReceivedEvidence,
    /// Shared state of the subscribers.
    pub(super) subscribers: Subscribers,
    /// Time source of records.
    pub(super) clock: Clock,
    /// Counter that numbers the connections of agents.
    pub(super) connection_counter: Arc<AtomicU64>,
}

/// Handles the upgrade request of an agent.
pub(super) async fn serve_agent(State(app): State<AppState>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let token = match refuse_browsers_and_foreign_hosts(&parts.headers) {
        Ok(()) => app.tokens.find(bearer_token(&parts.headers)),
        Err(refusal) => return refusal.into_response(),
    };
    let Some(token) = token else { return NO_TOKEN.into_response() };
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    // The number is not taken at the hello: hellos may be handled in another order than connections were accepted.
    let number = app.connection_counter.fetch_add(1, Ordering::Relaxed);
    upgrade
        .protocols([wire::SUBPROTOCOL])
        .max_message_size(wire::MAX_MESSAGE)
        .max_frame_size(wire::MAX_MESSAGE)
        .read_buffer_size(SOCKET_BUFFER)
        .write_buffer_size(SOCKET_BUFFER)
        .max_write_buffer_size(wire::MAX_MESSAGE + SOCKET_BUFFER)
        .on_upgrade(move |socket| connection::run(socket, app, token, number))
}

/// Refuses an agent that connects without TLS, without checking its token.
pub(super) async fn refuse_plain() -> Refusal {
    (StatusCode::FORBIDDEN, "agents connect over TLS: use wss://\n")
}

/// Health check: reports that a relay is running, and its version.
pub(super) async fn serve_health(headers: HeaderMap) -> Result<&'static str, Refusal> {
    refuse_browsers_and_foreign_hosts(&headers).map(|()| concat!("relay ", env!("CARGO_PKG_VERSION"), "\n"))
}

/// HTTP status and body of a refusal.
pub(super) type Refusal = (StatusCode, &'static str);

const NO_TOKEN: Refusal = (StatusCode::UNAUTHORIZED, "a valid token is needed\n");

/// Refuses a client without the token. Refuses requests of browser pages even with the token.
pub(super) fn require_token(headers: &HeaderMap, verifier: &TokenVerifier) -> Result<(), Refusal> {
    refuse_browsers_and_foreign_hosts(headers)?;
    if verifier.verify(bearer_token(headers)) { Ok(()) } else { Err(NO_TOKEN) }
}

/// Refuses browser pages and requests for another host.
fn refuse_browsers_and_foreign_hosts(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(ORIGIN) {
        return Err((StatusCode::FORBIDDEN, "browser requests are not allowed\n"));
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_known_host(host) {
        return Err((StatusCode::FORBIDDEN, "the Host header names another host\n"));
    }
    Ok(())
}

/// Returns the bearer token of a request; empty if there is none.
fn bearer_token(headers: &HeaderMap) -> &str {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default()
}

/// Returns true for a host name that agents use to reach their relay: an address, or one of a few names. If a web
/// page's own domain resolves to this host, the browser sends that domain instead.
fn is_known_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || HOST_NAMES.contains(&name) || address.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal_status(headers: &[(&str, &str)], verifier: &TokenVerifier) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(axum::http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        require_token(&map, verifier).err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_a_request_with_the_token_and_a_known_host_is_admitted() {
        let verifier = TokenVerifier::new().unwrap();
        let authorization = format!("Bearer {}", verifier.token());
        for host in [
            "127.0.0.1:4111",
            "localhost:1",
            "host.docker.internal:4111",
            "host.containers.internal:4111",
            "[::1]:80",
            "172.17.0.1",
        ] {
            assert_eq!(
                refusal_status(&[("host", host), ("authorization", &authorization)], &verifier),
                None,
                "{host}"
            );
        }
        for host in ["evil.example", "evil.example:4111", "", "localhost.evil.example:1"] {
            assert_eq!(
                refusal_status(&[("host", host), ("authorization", &authorization)], &verifier),
                Some(403),
                "{host}"
            );
        }
        for origin in ["http://evil.example", "null", "", "http://localhost"] {
            let headers = [("host", "localhost"), ("authorization", &*authorization), ("origin", origin)];
            assert_eq!(refusal_status(&headers, &verifier), Some(403), "{origin}");
        }
        for token in ["Bearer ", "Bearer x", "Basic x", &authorization.to_lowercase()] {
            assert_eq!(
                refusal_status(&[("host", "localhost"), ("authorization", token)], &verifier),
                Some(401),
                "{token}"
            );
        }
        assert_eq!(refusal_status(&[("host", "localhost")], &verifier), Some(401));
    }
}
