//! Tests of an agent whose relay has another protocol version.

#![expect(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::figures::figure;
use crate::support::{TOKEN, binary, configure, eventually};
use common::wire::{self, CLOSE_VERSION};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// Reason of a close frame with which a relay refuses an agent's version.
const REASON: &str = "agent 0.1.0 speaks protocol 4 to 4, relay 9.8.7 7 to 9: use one version";

/// Accepts a connection, reads the agent's `Hello` and refuses its version; returns the time of the refusal.
async fn refuse(listener: &TcpListener) -> Instant {
    let (stream, _) = listener.accept().await.unwrap();
    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
    let agree = |_: &Request, mut response: Response| {
        response.headers_mut().insert("sec-websocket-protocol", wire::SUBPROTOCOL.parse().unwrap());
        Ok(response)
    };
    let stream = crate::support::tls::identity().accept(stream).await.unwrap();
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, agree).await.unwrap();
    let hello = socket.next().await.unwrap().unwrap().into_data();
    let prefix = wire::decode_hello_prefix(&hello).unwrap();
    assert_eq!((prefix.protocol_min, prefix.protocol_max), (wire::PROTOCOL_MIN, wire::PROTOCOL));
    let close = CloseFrame { code: CLOSE_VERSION.into(), reason: REASON.into() };
    socket.send(Message::Close(Some(close))).await.unwrap();
    Instant::now()
}

#[tokio::test]
async fn n16_an_agent_of_a_refused_version_retries_only_after_a_new_configuration() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let url = format!("wss://{}/agent", listener.local_addr().unwrap());
    let config = |token: &str| crate::support::tls::config(&url, token).to_string();
    configure(&state, &config(TOKEN));
    let log = dir.path().join("log");
    let mut agent = Command::new(binary())
        .args(["run", "--state"])
        .arg(&state)
        .stdin(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    refuse(&listener).await;
    eventually("the agent's log names both versions", || fs::read_to_string(&log).unwrap().contains(REASON))
        .await;
    // An agent would retry an absent relay within 100 ms, so five seconds without a connection are no coincidence.
    let connection = timeout(Duration::from_secs(5), listener.accept()).await;
    assert!(connection.is_err(), "the agent connected again");
    // After an upgrade, a relay writes a new configuration for the agent.
    let configured_at = Instant::now();
    configure(&state, &config("another"));
    let delay = refuse(&listener).await.duration_since(configured_at);
    agent.kill().unwrap();
    agent.wait().unwrap();
    figure(&format!(
        "a refused agent (fault N16): quiet for 5 s, then asked again {} ms after a new configuration",
        delay.as_millis()
    ));
    // Without a new configuration it would ask again after a minute.
    assert!(delay < Duration::from_secs(40), "{delay:?}");
}
