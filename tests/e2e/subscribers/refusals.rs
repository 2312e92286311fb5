//! Tests of subscribers that the relay refuses, and of the reasons that they get.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use relay_tests::harness::{Engine, Site, until};

use super::client::{Client, token};

/// Sends a request with `curl`; returns status and text.
fn get(site: &Site, path: &str, token: &str, headers: &[&str]) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["-s", "-m", "10", "-w", "\n%{http_code}", "-H", &format!("Authorization: Bearer {token}")]);
    command.args(headers.iter().flat_map(|header| ["-H", header]));
    let output = command.arg(format!("http://{}{path}", site.address())).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (text, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), text.to_owned())
}

const EVENTS: &str = "/api/v1/events?format=sse&since=0";

#[test]
fn clients_without_a_token_and_wrong_requests_are_refused_with_one_line() {
    let site = Site::up(Engine::Local);
    let token = token(&site);
    let agent_token = site.create_token();
    for (status, path, token, headers) in [
        (401, EVENTS, "", &[][..]),
        (401, EVENTS, &agent_token, &[]),
        (403, "/agent", &*token, &[]),
        (403, EVENTS, &token, &["Origin: http://localhost"]),
        (403, EVENTS, &token, &["Host: evil.example"]),
        (406, "/api/v1/events", &token, &[]),
        (404, "/api/v1/events?format=sse&job=nobody", &token, &[]),
        (404, "/api/v1/events?format=sse&job=nobody%231", &token, &[]),
        (400, "/api/v1/events?format=sse&since=yesterday", &token, &[]),
        (400, "/api/v1/events?format=sse&since=99999999999999", &token, &[]),
        (400, "/api/v1/events?format=xml", &token, &[]),
        (400, "/api/v1/events?format=sse&from=1", &token, &[]),
        (400, "/api/v1/events?format=sse", &token, &["Last-Event-ID: x"]),
    ] {
        let (found, text) = get(&site, path, token, headers);
        assert_eq!(found, status, "{path} {headers:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{path}: {text}");
    }
    let file = std::fs::metadata(site.registry().join("api-token")).unwrap();
    assert_eq!((file.permissions().mode() & 0o777, token.len()), (0o600, 64));
    site.relay(&["down"]);
    site.relay(&["up"]);
    assert_eq!(super::client::token(&site), token, "the token survives a restart of the relay");
}

#[tokio::test]
async fn a_65th_subscriber_is_refused_until_another_one_leaves() {
    let site = Site::up(Engine::Local);
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(Client::subscribe(&site, "").await.unwrap());
    }
    let (status, text) = get(&site, "/api/v1/events?format=sse", &token(&site), &[]);
    assert_eq!(status, 503, "{text}");
    clients.pop();
    until("a subscriber is accepted again", || {
        let command = Command::new("curl")
            .args(["-s", "-m", "0.5", "-o", "/dev/null", "-w", "%{http_code}", "-H"])
            .arg(format!("Authorization: Bearer {}", token(&site)))
            .arg(format!("http://{}/api/v1/events?format=sse", site.address()))
            .output();
        (command.unwrap().stdout == b"200").then_some(())
    });
}
