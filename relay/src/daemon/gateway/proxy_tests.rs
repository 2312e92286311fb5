use super::super::test_support::{
    KEY, ScriptedServer, TOKEN, exchange, http_answer, post, route_to, status_and_body,
};

const SSE: &str = "text/event-stream";

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
    for wrong in ["Bearer other", "Bearer ", "", "Basic dG9rZW4=", TOKEN] {
        let request = post("/v1/responses", "{}").replace(&format!("Bearer {TOKEN}"), wrong);
        let answer = exchange(&server.route(), &request).await;
        let (status, body) = status_and_body(&answer);
        assert_eq!(status, "HTTP/1.1 401 Unauthorized", "{wrong}");
        assert!(body.contains("\"code\":\"invalid_api_key\""), "{body}");
    }
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_is_down_is_an_error_that_names_it() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let answer = exchange(&route_to(&format!("http://{closed}/v1")), &post("/v1/responses", "{}")).await;
    let (status, body) = status_and_body(&answer);
    assert_eq!(status, "HTTP/1.1 502 Bad Gateway");
    assert!(body.contains("relay: the model's server 127.0.0.1 can't be reached: "), "{body}");
}
