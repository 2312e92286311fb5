//! Requests for plain HTTP, which are passed on to their host. Each has a connection of its own there.

use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{EXPECT, HOST, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri, Version};
use hyper_util::rt::TokioIo;

use super::connector;
use super::job_network::JobNetwork;
use super::refusal::Refusal;
use super::target::Target;
use crate::daemon::gateway::remove_hop_by_hop;

/// Passes a request on to its host, and returns the answer.
pub(super) async fn forward(
    request: Request<Incoming>,
    target: &Target,
    network: &JobNetwork,
) -> Result<Response<Incoming>, Refusal> {
    let stream = connector::connect(target, network).await?;
    let bad_answer = |e: hyper::Error| Refusal::BadAnswer(target.to_string(), e.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(bad_answer)?;
    // Ends with the answer: the sender and the body of the answer keep it open.
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::debug!("a connection to a host ended: {e}");
        }
    });
    let response = sender.send_request(for_host(request, target)).await.map_err(bad_answer)?;
    let (mut parts, body) = response.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(parts, body))
}

/// Returns a request as its host expects it: with the path only, and with the name of that host.
fn for_host<B>(request: Request<B>, target: &Target) -> Request<B> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let host = match target.port() {
        80 => target.to_string().trim_end_matches(":80").to_owned(),
        _ => target.to_string(),
    };
    parts.uri = Uri::from(path);
    parts.version = Version::HTTP_11;
    remove_hop_by_hop(&mut parts.headers);
    parts.headers.remove(EXPECT);
    // The characters of a target are valid in a header.
    if let Ok(host) = HeaderValue::try_from(host) {
        parts.headers.insert(HOST, host);
    }
    Request::from_parts(parts, body)
}
