//! The proxy between a job and servers on loopback.

use common::refused_hosts::RefusedHost;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::config::network::AllowList;
use crate::daemon::network::SecretRoutes;
use crate::daemon::writer::{WriterCommand, WriterHandle};
use crate::state_dir::StateDir;

/// A job whose network has these patterns, with the queue of its events.
fn job(allow: &[&str]) -> (Arc<JobNetwork>, mpsc::Receiver<WriterCommand>) {
    let (commands, queue) = mpsc::channel(64);
    let allow = Arc::new(AllowList::for_test(allow));
    let secrets = SecretRoutes::new(StateDir::in_folder("/nonexistent".into()).host_secrets());
    let writer = WriterHandle::new(commands);
    let network = JobNetwork::new("a#1".parse().unwrap(), (allow, secrets), Vec::new(), writer);
    (Arc::new(network), queue)
}

fn connect(network: &Arc<JobNetwork>) -> DuplexStream {
    let (client, proxy) = tokio::io::duplex(64 * 1024);
    tokio::spawn(serve_connection(proxy, Arc::clone(network)));
    client
}

/// Sends a request and returns everything that comes back until the end of the connection.
async fn exchange(network: &Arc<JobNetwork>, request: &str) -> String {
    let mut client = connect(network);
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Starts a server that keeps the first request of each connection and answers with `answer`. Returns its port.
async fn server(answer: &'static str) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (requests, received) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0 {}
            requests.send(String::from_utf8_lossy(&request).into_owned()).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, received)
}

/// Reads the head of an answer.
async fn read_head(client: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_tunnel_carries_bytes_in_both_directions_and_ends_with_the_host() {
    let (port, mut received) = server("hello from the host").await;
    let (network, _events) = job(&[&format!("127.0.0.1:{port}")]);
    let mut client = connect(&network);
    client.write_all(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
    client.write_all(b"any bytes\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.shutdown().await.unwrap();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "hello from the host");
    assert_eq!(received.recv().await.unwrap(), "any bytes\r\n\r\n");
}

#[tokio::test]
async fn a_request_for_plain_http_reaches_its_host_without_headers_for_the_proxy() {
    let (port, mut received) = server(
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: x-hop\r\nx-hop: 1\r\nx-own: 1\r\n\r\nbody",
    )
    .await;
    let (network, _events) = job(&[&format!("localhost:{port}")]);
    let request = format!(
        "GET http://localhost:{port}/a?b HTTP/1.1\r\nhost: other.example\r\nproxy-authorization: Basic eA==\r\n\
         connection: close, x-mine\r\nx-mine: 1\r\nx-kept: 1\r\n\r\n"
    );
    let answer = exchange(&network, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nbody"), "{answer}");
    assert!(answer.contains("x-own: 1") && !answer.contains("x-hop"), "{answer}");
    let seen = received.recv().await.unwrap();
    assert!(seen.starts_with("GET /a?b HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains(&format!("host: localhost:{port}\r\n")) && seen.contains("x-kept: 1"), "{seen}");
    assert!(
        !seen.contains("proxy-") && !seen.contains("x-mine") && !seen.contains("other.example"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_host_that_is_not_permitted_is_refused_and_recorded_once() {
    let (port, mut received) = server("secret").await;
    let (network, mut events) = job(&["example.org"]);
    for _ in 0..3 {
        let answer = exchange(&network, &format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 Forbidden by [network] allow of relay.toml\r\n"),
            "{answer}"
        );
        let line = format!("relay: 127.0.0.1:{port} is not in [network] allow of platform/relay.toml");
        assert!(answer.contains(&line), "{answer}");
    }
    let WriterCommand::RecordRelayEvent { body, .. } = events.recv().await.unwrap() else { panic!() };
    let refused = RefusedHost { host: format!("127.0.0.1:{port}"), count: 1 };
    assert_eq!(*body, common::event::EventBody::NetworkRefused(refused));
    assert!(events.try_recv().is_err() && received.try_recv().is_err());
}

#[tokio::test]
async fn a_pattern_for_many_hosts_leads_to_no_private_address() {
    let (port, mut received) = server("secret").await;
    let (network, _events) = job(&["*", &format!("*:{port}")]);
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0"] {
        for request in [
            format!("CONNECT {host}:{port} HTTP/1.1\r\n\r\n"),
            format!("GET http://{host}:{port}/ HTTP/1.1\r\nconnection: close\r\n\r\n"),
        ] {
            let answer = exchange(&network, &request).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{request}: {answer}");
            assert!(answer.contains("has only addresses of private networks"), "{answer}");
        }
    }
    assert!(received.try_recv().is_err());
}

#[tokio::test]
async fn bad_requests_and_dead_hosts_get_an_answer() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (network, _events) = job(&[&dead.to_string()]);
    for (request, status) in [
        (format!("CONNECT {dead} HTTP/1.1\r\n\r\n"), "502"),
        ("GET / HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), "400"),
        ("CONNECT h.example HTTP/1.1\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = exchange(&network, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_job_that_has_ended_makes_no_further_connection() {
    let (port, mut received) = server("secret").await;
    let (network, mut events) = job(&[&format!("127.0.0.1:{port}")]);
    network.close();
    let answer = exchange(&network, &format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.contains("this job has ended"), "{answer}");
    assert!(events.try_recv().is_err() && received.try_recv().is_err());
}
