use std::sync::Arc;
use std::time::Instant;

use common::event::{FailureKind, Usage};
use common::model_usage::ModelUsage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, Mutex, mpsc};

use super::super::test_support::{
    KEY, ScriptedServer, TOKEN, connect, exchange, http_answer, post, status_and_body,
};
use super::HEAD_TIMEOUT;

const SSE: &str = "text/event-stream";
const COMPLETED: &str = "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":100,\
                         \"input_tokens_details\":{\"cached_tokens\":10},\"output_tokens\":20}}}\n\n";

#[tokio::test]
async fn a_request_reaches_the_server_with_the_key_in_place_of_the_token() {
    let body = "event: a\ndata: {\"type\":\"response.created\"}\n\n";
    let server = ScriptedServer::answering(http_answer("200 OK", SSE, body)).await;
    let answer = exchange(&server.route(), &post("/v1/responses", "{\"model\":\"m\"}")).await;
    assert_eq!(status_and_body(&answer), ("HTTP/1.1 200 OK", body));
    assert!(answer.contains("content-type: text/event-stream\r\n"), "{answer}");
    let [request] = &server.requests()[..] else { panic!("{:?}", server.requests()) };
    assert!(
        request.starts_with("POST /base/v1/responses?api%2Dversion=2026%2D11%20a HTTP/1.1\r\n"),
        "{request}"
    );
    for part in [&format!("authorization: Bearer {KEY}\r\n"), "x-team: blue\r\n", "{\"model\":\"m\"}"] {
        assert!(request.contains(part), "{part} in {request}");
    }
    assert!(!request.contains(TOKEN) && !request.contains("connection"), "{request}");
}

#[tokio::test]
async fn a_wrong_or_missing_token_never_reaches_the_server() {
    let server = ScriptedServer::answering(http_answer("200 OK", SSE, "")).await;
    let route = server.route();
    for wrong in ["Bearer other", "Bearer ", "", "Basic dG9rZW4=", TOKEN] {
        let request = post("/v1/responses", "{}").replace(&format!("Bearer {TOKEN}"), wrong);
        let answer = exchange(&route, &request).await;
        let (status, body) = status_and_body(&answer);
        assert_eq!(status, "HTTP/1.1 401 Unauthorized", "{wrong}");
        assert!(body.contains("\"code\":\"invalid_api_key\""), "{body}");
    }
    assert_eq!(server.requests(), Vec::<String>::new());
    assert_eq!(route.readings().borrow().refused, 5);
}

#[tokio::test]
async fn only_a_connection_with_a_token_stays_open() {
    let server = ScriptedServer::answering(http_answer("200 OK", SSE, COMPLETED)).await;
    let route = server.route();
    let begin = Instant::now();
    let mut codex = connect(&route);
    let request = format!("GET /v1/files HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    codex.write_all(request.as_bytes()).await.unwrap();
    assert_ne!(codex.read(&mut [0; 4096]).await.unwrap(), 0);
    let (mut silent, mut slow) = (connect(&route), connect(&route));
    slow.write_all(b"POST /v1/responses HTTP/1.1\r\n").await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(slow.read(&mut [0]).await.unwrap(), 0);
    let wrong = post("/v1/responses", "{}").replace(TOKEN, "wrong").replace("connection: close\r\n", "");
    let answer = exchange(&route, &wrong).await;
    assert!(answer.contains("HTTP/1.1 401") && answer.contains("connection: close"), "{answer}");
    assert!(begin.elapsed() < HEAD_TIMEOUT, "{:?}", begin.elapsed());
    // This connection is older than those that were closed.
    codex.write_all(request.as_bytes()).await.unwrap();
    assert_ne!(codex.read(&mut [0; 4096]).await.unwrap(), 0);
}

#[tokio::test]
async fn tokens_of_all_answers_add_up() {
    let server = ScriptedServer::answering(http_answer("200 OK", SSE, COMPLETED)).await;
    let route = server.route();
    for _ in 0..2 {
        assert!(exchange(&route, &post("/v1/responses", "{}")).await.ends_with(COMPLETED));
    }
    let readings = route.readings().borrow().clone();
    let usage =
        Usage { input_tokens: 200, cached_input_tokens: 20, output_tokens: 40, reasoning_output_tokens: 0 };
    assert_eq!((readings.total.usage, readings.total.answers, readings.total.unmetered), (usage, 2, 0));
}

#[tokio::test]
async fn an_answer_that_a_worker_does_not_wait_for_is_estimated() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    for answer in ["", &format!("{head}data: {{\"type\":\"response.created\"}}\n\n")] {
        let (asked, mut request) = mpsc::channel(1);
        let answer = answer.to_owned();
        let server = ScriptedServer::with(move |mut stream| {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                stream.write_all(answer.as_bytes()).await.unwrap();
                asked.send(()).await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await;
        let route = server.route();
        let mut worker = connect(&route);
        let body = format!("{{\"input\":\"{}\"}}", "x".repeat(400));
        worker.write_all(post("/v1/responses", &body).as_bytes()).await.unwrap();
        request.recv().await.unwrap();
        drop(worker);
        let mut readings = route.readings();
        let readings = readings.wait_for(|readings| readings.total.unmetered == 1).await.unwrap();
        assert!(readings.total.estimated_tokens >= 100, "{readings:?}");
    }
}

#[tokio::test]
async fn a_request_that_could_not_be_metered_is_refused() {
    let server = ScriptedServer::answering(http_answer("200 OK", SSE, COMPLETED)).await;
    let route = server.route();
    let answer = exchange(&route, &post("/v1/responses", "{\"background\":true,\"store\":true}")).await;
    assert_eq!(status_and_body(&answer).0, "HTTP/1.1 400 Bad Request");
    assert!(answer.contains("background must be false"), "{answer}");
    let encoded = post("/v1/responses", "{}").replace("host: ", "content-encoding: zstd\r\nhost: ");
    let answer = exchange(&route, &encoded).await;
    assert_eq!(status_and_body(&answer).0, "HTTP/1.1 415 Unsupported Media Type");
    assert!(
        server.requests().iter().all(|request| !request.contains("background")),
        "{:?}",
        server.requests()
    );
    assert_eq!(route.readings().borrow().total, ModelUsage::default());
}

#[tokio::test]
async fn an_answer_with_an_encoding_that_was_not_asked_for_is_refused() {
    let encoded = http_answer("200 OK", &format!("{SSE}\r\ncontent-encoding: gzip"), COMPLETED);
    let server = ScriptedServer::answering(encoded).await;
    let route = server.route();
    let answer = exchange(&route, &post("/v1/responses", "{\"input\":\"text\"}")).await;
    assert_eq!(status_and_body(&answer).0, "HTTP/1.1 502 Bad Gateway");
    let total = route.readings().borrow().total;
    assert!(total.unmetered == 1 && total.estimated_tokens > 0, "{total:?}");
}

#[tokio::test]
async fn a_job_that_has_ended_sends_no_further_request_on_an_open_connection() {
    let server = ScriptedServer::answering(http_answer("200 OK", SSE, COMPLETED)).await;
    let route = server.route();
    let mut worker = connect(&route);
    let request = post("/v1/responses", "{}").replace("connection: close\r\n", "");
    worker.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while memchr::memmem::find(&answer, b"response.completed").is_none() {
        assert_ne!(worker.read_buf(&mut answer).await.unwrap(), 0);
    }
    route.close_job();
    worker.write_all(request.as_bytes()).await.unwrap();
    answer.clear();
    worker.read_to_end(&mut answer).await.unwrap();
    assert!(
        String::from_utf8_lossy(&answer).contains("HTTP/1.1 401"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn events_pass_while_the_answer_is_open() {
    let (sender, events) = mpsc::channel::<&str>(1);
    let events = Arc::new(Mutex::new(events));
    let server = ScriptedServer::with(move |mut stream| {
        let events = Arc::clone(&events);
        async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await.unwrap();
            while let Some(event) = events.lock().await.recv().await {
                stream.write_all(event.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let mut worker = connect(&server.route());
    worker.write_all(post("/v1/responses", "{}").as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    for event in ["data: 1\n\n", "data: 2\n\n", ": ping\n\n"] {
        sender.send(event).await.unwrap();
        // The next event is sent only after this one has arrived.
        while memchr::memmem::find(&seen, event.as_bytes()).is_none() {
            assert_ne!(worker.read_buf(&mut seen).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn an_error_passes_with_its_status_and_is_classified() {
    let body = r#"{"error":{"type":"usage_limit_reached","message":"used up","resets_at":4102487580}}"#;
    let answers = http_answer("429 Too Many Requests", "application/json", body);
    let server = ScriptedServer::answering(answers).await;
    let route = server.route();
    let answer = exchange(&route, &post("/v1/responses", "{}")).await;
    assert_eq!(status_and_body(&answer), ("HTTP/1.1 429 Too Many Requests", body));
    let problem = route.readings().borrow().problem.clone().unwrap();
    assert_eq!((problem.kind, &*problem.message), (FailureKind::UsageLimit, "used up"));
}

#[tokio::test]
async fn a_server_that_repeats_the_key_does_not_give_it_to_the_worker() {
    let body = format!("{{\"error\":{{\"code\":\"invalid_api_key\",\"message\":\"bad key {KEY}\"}}}}");
    let answer = http_answer("401 Unauthorized", &format!("application/json\r\nx-echo: Bearer {KEY}"), &body);
    let server = ScriptedServer::answering(answer).await;
    let route = server.route();
    let answer = exchange(&route, &post("/v1/responses", "{}")).await;
    assert!(answer.contains("bad key [secret]") && !answer.contains("x-echo"), "{answer}");
    let readings = format!("{:?} {route:?}", route.readings());
    assert!(readings.contains("bad key [secret]"), "{readings}");
    for secret in [KEY, TOKEN] {
        assert!(!answer.contains(secret) && !readings.contains(secret), "{answer} {readings}");
    }
}

#[tokio::test]
async fn a_large_answer_passes_unchanged() {
    let events: Vec<String> =
        (0..400_000).map(|number| format!("data: {{\"delta\":\"{number:040}\"}}\n\n")).collect();
    let body = events.concat();
    let server = ScriptedServer::answering(http_answer("200 OK", SSE, &body)).await;
    let answer = exchange(&server.route(), &post("/v1/responses", "{}")).await;
    assert!(status_and_body(&answer).1 == body);
}

#[tokio::test]
async fn requests_that_are_sent_at_once_are_answered_in_their_order() {
    let server = ScriptedServer::answering(http_answer("200 OK", "application/json", "{\"data\":[]}")).await;
    let models = format!("GET /v1/models?client_version=1 HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    let requests = format!("{models}GET /v1/files HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    let answer =
        exchange(&server.route(), &format!("{requests}{}", post("/v1/responses/compact", "{}"))).await;
    let statuses: Vec<&str> = answer.matches("HTTP/1.1 ").collect();
    assert_eq!(statuses.len(), 3, "{answer}");
    assert!(answer.contains("HTTP/1.1 404 Not Found") && answer.contains("unknown_url"), "{answer}");
    let requests = server.requests();
    assert!(
        requests[0].starts_with("GET /base/v1/models?client_version=1&api%2Dversion=2026"),
        "{requests:?}"
    );
    assert!(requests[1].starts_with("POST /base/v1/responses/compact?api%2Dversion"), "{requests:?}");
}

#[tokio::test]
async fn a_hundred_workers_are_served_at_once() {
    let all = Arc::new(Barrier::new(100));
    let meeting = Arc::clone(&all);
    let server = ScriptedServer::with(move |mut stream| {
        let meeting = Arc::clone(&meeting);
        async move {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: open\n\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            // No answer ends before all have begun.
            meeting.wait().await;
            stream.write_all(COMPLETED.as_bytes()).await.unwrap();
        }
    })
    .await;
    let route = server.route();
    let requests = (0..100).map(|_| {
        let route = Arc::clone(&route);
        tokio::spawn(async move { exchange(&route, &post("/v1/responses", "{}")).await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(status_and_body(&request.await.unwrap()).0, "HTTP/1.1 200 OK");
    }
    assert_eq!(route.readings().borrow().total.answers, 100);
}
