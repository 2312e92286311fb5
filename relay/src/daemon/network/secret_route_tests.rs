//! Requests of a job with a secret, and a server on loopback.

use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::config::network::AllowList;
use crate::daemon::network::{JobNetwork, serve_connection};
use crate::daemon::writer::WriterHandle;
use crate::state_dir::StateDir;

/// A job, and the state folder with its secrets.
struct Job {
    network: Arc<JobNetwork>,
    secrets: HostSecrets,
    _dir: TempDir,
}

impl Job {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secrets = StateDir::in_folder(dir.path().to_owned()).host_secrets();
        let hosts = (Arc::new(AllowList::for_test(&[])), SecretRoutes::new(secrets.clone()));
        let writer = WriterHandle::new(mpsc::channel(1).0);
        let network = Arc::new(JobNetwork::new("a#1".parse().unwrap(), hosts, Vec::new(), writer));
        Self { network, secrets, _dir: dir }
    }

    /// A job with the secret `demo` of a host.
    fn with_secret(host: &str) -> Self {
        let job = Self::new();
        job.set("demo", host);
        job
    }

    fn set(&self, name: &str, host: &str) {
        let secret = HostSecret::new(host, "Authorization", "Bearer ", "s3cret-value").unwrap();
        self.secrets.set(name, secret).unwrap();
    }

    async fn send(&self, request: &str) -> DuplexStream {
        let (mut client, proxy) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve_connection(proxy, Arc::clone(&self.network)));
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }

    /// Sends a request and returns everything that comes back until the end of the connection.
    async fn exchange(&self, request: &str) -> String {
        let mut answer = String::new();
        self.send(request).await.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:1\r\nconnection: close\r\n\r\n")
}

async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

async fn server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    (listener, host)
}

/// Accepts a connection and returns the head of its first request.
async fn accept(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    (stream, head)
}

#[tokio::test]
async fn the_host_gets_the_secret_in_place_of_the_jobs_own_header() {
    let (listener, host) = server().await;
    let job = Job::with_secret(&host);
    let request = "POST /secret/demo/a%2Fb/../c?d=e HTTP/1.1\r\nHost: other.example\r\nauthorization: Basic own\r\n\
                   Authorization: second\r\nconnection: close, authorization, x-hop\r\nx-hop: 1\r\n\
                   proxy-authorization: x\r\nx-kept: 1\r\ncontent-length: 4\r\n\r\nbody";
    let mut client = job.send(request).await;
    let (mut stream, head) = accept(&listener).await;
    assert_eq!(read_until(&mut stream, "body").await, "body");
    let answer =
        "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\nkeep-alive: timeout=5\r\ncontent-length: 2\r\n\r\nok";
    stream.write_all(answer.as_bytes()).await.unwrap();
    let mut received = String::new();
    client.read_to_string(&mut received).await.unwrap();
    assert!(head.starts_with("POST /a%2Fb/../c?d=e HTTP/1.1\r\n"), "{head}");
    assert_eq!(head.to_lowercase().matches("authorization:").count(), 1, "{head}");
    let own_host = host.strip_prefix("http://").unwrap();
    for line in ["authorization: Bearer s3cret-value\r\n", "x-kept: 1\r\n", &format!("host: {own_host}\r\n")]
    {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(!head.contains("x-hop") && !head.contains("other.example"), "{head}");
    assert!(received.starts_with("HTTP/1.1 302 Found\r\n") && received.ends_with("\r\n\r\nok"), "{received}");
    assert!(received.contains("location: /elsewhere") && !received.contains("keep-alive"), "{received}");
    assert!(!received.contains("s3cret"), "{received}");
}

#[tokio::test]
async fn an_answer_is_passed_on_while_it_comes() {
    let (listener, host) = server().await;
    let job = Job::with_secret(&host);
    let mut client = job.send(&get("/secret/demo")).await;
    let (mut stream, head) = accept(&listener).await;
    assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await.unwrap();
    let received = read_until(&mut client, "first").await;
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{received}");
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut client, "second").await;
}

#[tokio::test]
async fn a_change_of_the_secrets_counts_for_the_next_request() {
    let job = Job::new();
    for name in ["demo", "", "demo%2F..", "Demo"] {
        let answer = job.exchange(&get(&format!("/secret/{name}/x"))).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{name}: {answer}");
        assert!(answer.contains("`relay secret list`") && answer.ends_with("all\n"), "{answer}");
    }
    let (listener, host) = server().await;
    job.set("demo", &host);
    let mut client = job.send(&get("/secret/demo?a")).await;
    let (mut stream, head) = accept(&listener).await;
    assert!(head.starts_with("GET /?a HTTP/1.1\r\n") && head.contains("Bearer s3cret-value"), "{head}");
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    job.secrets.remove("demo").unwrap();
    assert!(job.exchange(&get("/secret/demo?a")).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn a_request_that_is_not_passed_on_gets_one_line_with_the_reason() {
    let (listener, host) = server().await;
    let job = Job::with_secret(&host);
    let trace = job.exchange("TRACE /secret/demo/ HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(trace.starts_with("HTTP/1.1 405 "), "{trace}");
    // The secret's URL opens no other way to its host.
    let plain = job.exchange(&get(&format!("{host}/secret/demo/"))).await;
    assert!(plain.starts_with("HTTP/1.1 403 "), "{plain}");
    drop(listener);
    let down = job.exchange(&get("/secret/demo/x")).await;
    let (head, body) = down.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 502 "), "{down}");
    assert!(body.starts_with(&format!("relay: {host} can't be reached: ")), "{down}");
    assert_eq!(body.lines().count(), 1, "{down}");
    job.network.close();
    let ended = job.exchange(&get("/secret/demo/x")).await;
    assert!(ended.starts_with("HTTP/1.1 403 ") && ended.contains("relay: this job has ended"), "{ended}");
}
