//! Servers and workers that break the rules of HTTP, on purpose or not.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::super::test_support::{
    KEY, ScriptedServer, TOKEN, connect, exchange, http_answer, post, route_to, status_and_body,
};

const SSE: &str = "text/event-stream";
const BAD_GATEWAY: &str = "HTTP/1.1 502 Bad Gateway";

#[tokio::test]
async fn a_server_that_is_down_is_an_error_that_names_it() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let answer = exchange(&route_to(&format!("http://{closed}/v1")), &post("/v1/responses", "{}")).await;
    let (status, body) = status_and_body(&answer);
    assert_eq!(status, BAD_GATEWAY);
    assert!(body.contains("relay: the model's server 127.0.0.1 can't be reached: "), "{body}");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_an_error() {
    let large_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    for garbage in ["", "\0\u{1}garbage\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n", "HTTP/1.1 200", &*large_head] {
        let server = ScriptedServer::answering(garbage).await;
        let answer = exchange(&server.route(), &post("/v1/responses", "{}")).await;
        assert_eq!(status_and_body(&answer).0, BAD_GATEWAY, "{answer}");
        assert!(!answer.contains(KEY), "{answer}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = ScriptedServer::answering(http_answer("200 OK", SSE, "")).await;
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        other.base_url
    );
    let server = ScriptedServer::answering(redirect).await;
    let answer = exchange(&server.route(), &post("/v1/responses", "{}")).await;
    assert_eq!(status_and_body(&answer).0, BAD_GATEWAY);
    assert!(answer.contains("it answered 307, and redirects are not followed"), "{answer}");
    assert!(!answer.contains(&other.base_url) && other.requests().is_empty(), "{answer}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_worker_too() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = ScriptedServer::answering(format!("{head}6\r\ndata: \r\n")).await;
    let route = server.route();
    let answer = exchange(&route, &post("/v1/responses", "{}")).await;
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    let mut readings = route.readings();
    readings.wait_for(|readings| readings.total.unmetered == 1).await.unwrap();
}

#[tokio::test]
async fn an_error_that_is_too_large_keeps_its_status() {
    let server = ScriptedServer::answering(http_answer("500 Oops", SSE, &"x".repeat(1 << 20))).await;
    let answer = exchange(&server.route(), &post("/v1/responses", "{}")).await;
    let (status, body) = status_and_body(&answer);
    assert_eq!(status, "HTTP/1.1 500 Internal Server Error");
    assert!(body.contains("it answered 500 without a readable error"), "{body}");
}

#[tokio::test]
async fn a_worker_that_goes_away_ends_its_request() {
    let (ended, mut end) = mpsc::channel(1);
    let server = ScriptedServer::with(move |mut stream| {
        let ended = ended.clone();
        async move {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: open\n\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let left = stream.read(&mut [0; 16]).await;
            ended.send(matches!(left, Ok(0) | Err(_))).await.unwrap();
        }
    })
    .await;
    let mut worker = connect(&server.route());
    worker.write_all(post("/v1/responses", "{}").as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b": open\n\n\r\n") {
        assert_ne!(worker.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
    }
    drop(worker);
    assert_eq!(end.recv().await, Some(true));
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let server = ScriptedServer::answering(http_answer("200 OK", SSE, "")).await;
    let head = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n"
    );
    let announced = format!("{head}content-length: 67108865\r\n\r\n");
    let body = format!("{{\"a\":\"{}", "x".repeat(0x400_0001 - 6));
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n4000001\r\n{body}\r\n0\r\n\r\n");
    for request in [announced, chunked] {
        let answer = exchange(&server.route(), &request).await;
        let (status, body) = status_and_body(&answer);
        assert_eq!(status, "HTTP/1.1 413 Payload Too Large");
        assert!(body.contains("the request is larger than 64 MiB"), "{body}");
    }
}

#[tokio::test]
async fn a_request_framed_twice_is_one_request_for_the_server() {
    let server = ScriptedServer::answering(http_answer("200 OK", SSE, "")).await;
    let smuggled = "0\r\n\r\nPOST /v1/files HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    for framing in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 50",
        "content-length: 5\r\ncontent-length: 50",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
    ] {
        let head =
            format!("POST /v1/responses HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {TOKEN}\r\n{framing}");
        exchange(&server.route(), &format!("{head}\r\n\r\n{smuggled}")).await;
    }
    for request in server.requests() {
        let framings =
            request.matches("content-length").count() + request.matches("transfer-encoding").count();
        assert_eq!((framings, request.contains("files")), (1, false), "{request}");
    }
}

#[tokio::test]
async fn what_is_not_http_never_reaches_the_server() {
    let server = ScriptedServer::answering(http_answer("200 OK", SSE, "")).await;
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let large = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(1 << 20));
    for hello in
        ["\u{16}\u{3}\u{1}\u{0}\u{5}hello", "GET\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &many, &large]
    {
        let answer = exchange(&server.route(), hello).await;
        let is_refused =
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505");
        assert!(is_refused, "{hello:.20}: {answer}");
    }
    assert_eq!(server.requests(), Vec::<String>::new());
}
