use hyper_util::client::proxy::matcher::Matcher;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::super::client::new_client;
use super::super::test_support::{
    ScriptedServer, TOKEN, connect, exchange, http_answer, post, route_with, status_and_body,
};
use super::super::{JobRoute, Upstream};
use super::*;
use crate::model_server::{LoginSettings, UpstreamSettings};

#[test]
fn large_bodies_and_those_beyond_the_memory_are_not_kept() {
    let memory = BodyMemory { free_kib: Arc::new(Semaphore::new(6 * 1024)), timeout: BODY_TIMEOUT };
    assert!(memory.reserve((4 << 20) + 1).is_none() && memory.reserve(u64::MAX).is_none());
    let first = memory.reserve(4 << 20).unwrap();
    assert!(memory.reserve((2 << 20) + 1).is_none());
    let second = memory.reserve(2 << 20).unwrap();
    assert!(memory.reserve(1).is_none() && memory.reserve(0).is_some());
    drop((first, second));
    assert!(memory.reserve(4 << 20).is_some());
}

/// A model server that rejects every login but the refreshed one, and the route of a job to it.
struct Fixture {
    server: ScriptedServer,
    route: Arc<JobRoute>,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new(memory: Option<BodyMemory>) -> Self {
        let tokens = json!({"access_token": "new", "refresh_token": "next"}).to_string();
        let endpoint = ScriptedServer::answering(http_answer("200 OK", "application/json", &tokens)).await;
        let server = ScriptedServer::answering_requests(|request| {
            let is_new = request.contains("authorization: Bearer new");
            let status = if is_new { "200 OK" } else { "401 Unauthorized" };
            http_answer(status, "application/json", "{}")
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let auth_file = folder.path().join("auth.json");
        let login = json!({"tokens": {"access_token": "old", "refresh_token": "first", "account_id": "a"}});
        std::fs::write(&auth_file, login.to_string()).unwrap();
        let settings = UpstreamSettings {
            base_url: server.base_url.clone(),
            login: Some(LoginSettings { auth_file, refresh_url: endpoint.base_url.clone() }),
            ..UpstreamSettings::default()
        };
        let mut upstream =
            Upstream::with_client(&settings, new_client(None, Matcher::builder().build())).unwrap();
        if let Some(memory) = memory {
            upstream.memory = memory;
        }
        Self { server, route: route_with(upstream), _folder: folder }
    }
}

#[tokio::test]
async fn a_request_that_is_kept_is_sent_again_after_a_refresh() {
    let fixture = Fixture::new(None).await;
    let answer = exchange(&fixture.route, &post("/v1/responses", "{\"model\":\"m\"}")).await;
    assert_eq!(status_and_body(&answer).0, "HTTP/1.1 200 OK");
    let bodies: Vec<bool> =
        fixture.server.requests().iter().map(|text| text.ends_with("{\"model\":\"m\"}")).collect();
    assert_eq!(bodies, [true, true]);
}

#[tokio::test]
async fn a_request_that_is_not_kept_is_sent_again_by_the_worker() {
    let full = BodyMemory { free_kib: Arc::new(Semaphore::new(0)), timeout: BODY_TIMEOUT };
    let fixture = Fixture::new(Some(full)).await;
    for (status, requests) in [("HTTP/1.1 502 Bad Gateway", 1), ("HTTP/1.1 200 OK", 2)] {
        let answer = exchange(&fixture.route, &post("/v1/responses", "{\"model\":\"m\"}")).await;
        assert_eq!(
            (status_and_body(&answer).0, fixture.server.requests().len()),
            (status, requests),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_worker_that_sends_its_request_slowly_does_not_keep_the_memory() {
    let memory = BodyMemory { free_kib: Arc::new(Semaphore::new(4)), timeout: Duration::from_millis(50) };
    let free_kib = Arc::clone(&memory.free_kib);
    let fixture = Fixture::new(Some(memory)).await;
    let mut worker = connect(&fixture.route);
    let head = format!(
        "POST /v1/responses HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 4096\r\n\r\n{{"
    );
    worker.write_all(head.as_bytes()).await.unwrap();
    while free_kib.available_permits() == 4 {
        tokio::task::yield_now().await;
    }
    while free_kib.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.server.requests(), Vec::<String>::new());
}
