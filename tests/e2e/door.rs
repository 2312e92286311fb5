//! Who may come in on the relay's port.

use std::io::{Read, Write};
use std::net::TcpStream;

use relay_tests::harness::{Engine, Site};

fn ask(site: &Site, path: &str, headers: &str) -> String {
    let lease = std::fs::read(site.registry().join("relay.json")).unwrap();
    let lease: serde_json::Value = serde_json::from_slice(&lease).unwrap();
    let address = lease["listen"][0].as_str().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

const UPGRADE: &str =
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

#[test]
fn the_health_page_answers_and_strangers_are_refused_before_the_upgrade() {
    let site = Site::new(Engine::Local);
    site.relay(&["up"]);
    assert!(ask(&site, "/healthz", "").starts_with("HTTP/1.1 200"));
    for (headers, status) in [
        (String::new(), "401"),
        (UPGRADE.to_owned(), "401"),
        (format!("{UPGRADE}Authorization: Bearer wrong\r\n"), "401"),
        (format!("{UPGRADE}Origin: http://localhost\r\n"), "403"),
        (format!("{UPGRADE}Origin: null\r\n"), "403"),
    ] {
        let answer = ask(&site, "/agent", &headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers}{answer}");
    }
}

#[test]
fn the_token_is_in_no_argument_no_environment_and_only_hashed_in_the_registry() {
    let site = Site::new(Engine::Local);
    site.relay(&["up"]);
    let config = std::fs::read(site.registry().join("agent/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let token = config["token"].as_str().unwrap();
    assert_eq!(token.len(), 64);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&bytes).contains(token), "{}/{file}", entry.path().display());
        }
    }
    for file in ["relay.json", "relay.log", "agent/agent.log"] {
        let text = std::fs::read_to_string(site.registry().join(file)).unwrap_or_default();
        assert!(!text.contains(token), "{file}");
    }
}
