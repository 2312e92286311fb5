//! Access control on the relay's port.

use std::io::{Read, Write};
use std::net::TcpStream;

use relay_tests::harness::{Engine, Site};
use relay_tests::simulated_agent::Door;
use relay_tests::simulated_agent::door::server_name;
use rustls::{ClientConnection, StreamOwned};

/// Sends a request without TLS, or over TLS as an agent of this relay does.
fn ask(door: &Door, tls: bool, path: &str, host: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(door.address()).unwrap();
    let connection = if headers.contains("Upgrade") { "Upgrade" } else { "close" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n{headers}\r\n");
    let mut answer = String::new();
    // An upgraded connection stays open until it times out.
    stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    if tls {
        let mut stream = StreamOwned::new(ClientConnection::new(door.tls(), server_name()).unwrap(), stream);
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
fn strangers_are_refused_before_the_upgrade_and_agents_only_come_in_over_tls() {
    let site = Site::up(Engine::Local);
    let door = Door::of(&site);
    let host = door.address().to_string();
    let good = format!("{UPGRADE}Authorization: Bearer {}\r\n", door.fresh_token());
    for (tls, host, headers, status) in [
        (true, &*host, "", "401"),
        (true, &host, UPGRADE, "401"),
        (true, &host, &format!("{UPGRADE}Authorization: Bearer wrong\r\n"), "401"),
        (true, &host, &format!("{good}Origin: http://localhost\r\n"), "403"),
        (true, &host, &format!("{good}Origin: null\r\n"), "403"),
        (true, &host, &format!("{good}Origin: \r\n"), "403"),
        (true, "evil.example", &good, "403"),
        (false, &host, "", "403"),
        (false, &host, &good, "403"),
        (true, &host, &good, "101"),
    ] {
        let answer = ask(&door, tls, "/agent", host, headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{tls} {host} {headers}{answer}");
    }
    for tls in [false, true] {
        for (host, headers, status) in [
            (&*host, "", "200"),
            ("evil.example", "", "403"),
            (&host, "Origin: http://evil.example\r\n", "403"),
            (&host, "Origin: null\r\n", "403"),
        ] {
            let answer = ask(&door, tls, "/healthz", host, headers);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{tls} {host} {headers}{answer}");
            let version = answer.contains(env!("CARGO_PKG_VERSION"));
            assert_eq!(version, status == "200", "{answer}");
        }
    }
}
