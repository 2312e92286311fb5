//! Access control on the relay's port: clients without a token, browsers and foreign host names are refused.

use std::io::{Read, Write};
use std::net::TcpStream;

use relay_tests::harness::{Engine, Site};
use relay_tests::simulated_agent::Endpoint;
use relay_tests::simulated_agent::endpoint::server_name;
use rustls::{ClientConnection, StreamOwned};

/// Sends a GET request to the relay's port, over TLS if `uses_tls`; returns the answer.
fn get(endpoint: &Endpoint, uses_tls: bool, path: &str, host: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(endpoint.address()).unwrap();
    let connection = if headers.contains("Upgrade") { "Upgrade" } else { "close" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n{headers}\r\n");
    let mut answer = String::new();
    // An upgraded connection stays open until it times out.
    stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    if uses_tls {
        let mut stream =
            StreamOwned::new(ClientConnection::new(endpoint.tls(), server_name()).unwrap(), stream);
        stream.write_all(request.as_bytes()).unwrap();
        let _ = stream.read_to_string(&mut answer);
    } else {
        stream.write_all(request.as_bytes()).unwrap();
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

const UPGRADE: &str =
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

#[test]
fn clients_without_a_token_are_refused_and_agents_must_use_tls() {
    let site = Site::up(Engine::Local);
    let endpoint = Endpoint::of_site(&site);
    let host = endpoint.address().to_string();
    let valid = format!("{UPGRADE}Authorization: Bearer {}\r\n", endpoint.fresh_token());
    for (tls, host, headers, status) in [
        (true, &*host, "", "401"),
        (true, &host, UPGRADE, "401"),
        (true, &host, &format!("{UPGRADE}Authorization: Bearer wrong\r\n"), "401"),
        (true, &host, &format!("{valid}Origin: http://localhost\r\n"), "403"),
        (true, &host, &format!("{valid}Origin: null\r\n"), "403"),
        (true, &host, &format!("{valid}Origin: \r\n"), "403"),
        (true, "evil.example", &valid, "403"),
        (false, &host, "", "403"),
        (false, &host, &valid, "403"),
        (true, &host, &valid, "101"),
    ] {
        let answer = get(&endpoint, tls, "/agent", host, headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{tls} {host} {headers}{answer}");
    }
    for tls in [false, true] {
        for (host, headers, status) in [
            (&*host, "", "200"),
            ("evil.example", "", "403"),
            (&host, "Origin: http://evil.example\r\n", "403"),
            (&host, "Origin: null\r\n", "403"),
        ] {
            let answer = get(&endpoint, tls, "/healthz", host, headers);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{tls} {host} {headers}{answer}");
            let version = answer.contains(env!("CARGO_PKG_VERSION"));
            assert_eq!(version, status == "200", "{answer}");
        }
    }
}
