use std::sync::Arc;

use common::event::Usage;
use hyper_util::client::proxy::matcher::Matcher;

use super::super::client::new_client;
use super::super::test_support::{KEY, ScriptedServer, TOKEN, exchange, http_answer, post, status_and_body};
use super::super::{JobMeter, JobReadings, JobRoute, MeterSettings, Upstream};
use crate::model_server::{ModelApi, Secret, UpstreamSettings};

const STREAM: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude\",\
     \"usage\":{\"input_tokens\":100,\"cache_read_input_tokens\":10,\"output_tokens\":1}}}\n\n\
     data: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":20}}\n\n\
     data: {\"type\":\"message_stop\"}\n\n";

/// Returns the route of a job to a server of the Messages API.
fn route(server: &ScriptedServer) -> Arc<JobRoute> {
    let settings = UpstreamSettings {
        api: ModelApi::Messages,
        base_url: server.base_url.trim_end_matches("/v1").to_owned(),
        key: Some(Secret::new(KEY)),
        ..UpstreamSettings::default()
    };
    let client = new_client(None, Matcher::builder().build());
    let upstream = Arc::new(Upstream::with_client(&settings, client).unwrap());
    let meter = JobMeter::new("proj#1".parse().unwrap(), MeterSettings::default(), JobReadings::default());
    Arc::new(JobRoute::new(Secret::new(TOKEN), upstream, Arc::new(meter)))
}

/// Returns a request with the token in the header of the Messages API.
fn with_api_key(path: &str, token: &str) -> String {
    let bearer = format!("authorization: Bearer {TOKEN}");
    let request = post(path, "{\"model\":\"m\"}").replace(&bearer, &format!("x-api-key: {token}"));
    request.replace("host:", "anthropic-version: 2023-06-01\r\nhost:")
}

#[tokio::test]
async fn a_request_to_the_messages_api_has_the_key_in_its_own_header_and_is_metered() {
    let server = ScriptedServer::answering(http_answer("200 OK", "text/event-stream", STREAM)).await;
    let route = route(&server);
    for request in [
        with_api_key("/v1/messages?beta=true", TOKEN),
        post("/v1/messages?beta=true&key=1", "{\"model\":\"m\"}"),
    ] {
        let answer = exchange(&route, &request).await;
        assert_eq!(status_and_body(&answer), ("HTTP/1.1 200 OK", STREAM));
    }
    let requests = server.requests();
    let [first, second] = &requests[..] else { panic!("{requests:?}") };
    assert!(first.starts_with("POST /base/v1/messages?beta=true HTTP/1.1\r\n"), "{first}");
    assert!(first.contains("anthropic-version: 2023-06-01\r\n"), "{first}");
    assert!(second.starts_with("POST /base/v1/messages HTTP/1.1\r\n"), "{second}");
    for request in &requests {
        assert!(request.contains(&format!("x-api-key: {KEY}\r\n")), "{request}");
        assert!(!request.contains(TOKEN) && !request.contains("authorization"), "{request}");
    }
    let total = route.readings().borrow().total;
    let usage =
        Usage { input_tokens: 220, cached_input_tokens: 20, output_tokens: 40, reasoning_output_tokens: 0 };
    assert_eq!((total.answers, total.usage), (2, usage));
}

#[tokio::test]
async fn neither_another_token_nor_another_api_reaches_the_server() {
    let server = ScriptedServer::answering(http_answer("200 OK", "text/event-stream", STREAM)).await;
    let route = route(&server);
    for token in ["", "other", "Bearer"] {
        let answer = exchange(&route, &with_api_key("/v1/messages", token)).await;
        let (status, body) = status_and_body(&answer);
        assert_eq!(status, "HTTP/1.1 401 Unauthorized", "{token}");
        assert!(body.starts_with("{\"type\":\"error\",\"error\":{\"message\":\"relay: "), "{body}");
    }
    for path in ["/v1/responses", "/v1/messages/batches", "/v1/files"] {
        let answer = exchange(&route, &with_api_key(path, TOKEN)).await;
        assert_eq!(status_and_body(&answer).0, "HTTP/1.1 404 Not Found", "{path}");
    }
    assert_eq!(server.requests(), Vec::<String>::new());
}
