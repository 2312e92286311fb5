//! HTTP server for the worker of one job, which passes requests on to the model's server.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Either, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::{self, AnswerBody};
use super::endpoint::Endpoint;
use super::refusal::Refusal;
use super::route::JobRoute;
use super::upstream::Upstream;

/// Time limit for the head of a request, also of the next one on an idle connection. It exceeds the time for which
/// Codex keeps an idle connection (90 s), so that no request meets a connection that closes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum length of a request's head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Maximum size of a request's body: a context of a million tokens with images is below it.
const MAX_BODY_MIB: u64 = 64;

/// Serves the HTTP/1.1 requests of one connection of a job's worker.
pub(in crate::daemon) async fn serve_connection<S>(io: S, route: Arc<JobRoute>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let job = route.job().clone();
    let service = service_fn(|request| {
        let route = Arc::clone(&route);
        async move { Ok::<_, Infallible>(serve_request(request, &route).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(e) = served {
        tracing::debug!("{job}: a connection to the model ended: {e}");
    }
}

async fn serve_request(request: Request<Incoming>, route: &Arc<JobRoute>) -> Response<AnswerBody> {
    match forward(request, route).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!("{}: the request to the model got {refusal}", route.job());
            refusal.response().map(Either::Left)
        }
    }
}

/// Passes a request on to the model's server and returns its answer. An answer has no time limit here: the limits of
/// the step `model` end a run whose model is silent, and its connection with it.
async fn forward(request: Request<Incoming>, route: &Arc<JobRoute>) -> Result<Response<AnswerBody>, Refusal> {
    if !route.admits(request.headers()) {
        return Err(Refusal::Token);
    }
    let endpoint = Endpoint::of_request(&request)?;
    // The list of models costs nothing.
    if let Some(reason) =
        Some(route).filter(|_| endpoint != Endpoint::Models).and_then(|r| r.exceeded_budget())
    {
        return Err(Refusal::Budget(reason));
    }
    let limit = MAX_BODY_MIB * 1024 * 1024;
    if request.body().size_hint().lower() > limit {
        return Err(Refusal::BodyTooLarge(MAX_BODY_MIB));
    }
    let request = request.map(|body| Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX)));
    let sent = route.upstream().send(endpoint, request).await;
    let response = sent.map_err(|e| failed_request(&e, route.upstream()))?;
    answer::pass_on(response, endpoint, route).await
}

/// Finds the reason of a failed request: the worker's body, the way to the server, or its answer.
fn failed_request(error: &legacy::Error, upstream: &Upstream) -> Refusal {
    let causes = || std::iter::successors(Some(error as &(dyn Error + 'static)), |&cause| cause.source());
    if causes().any(<dyn Error + 'static>::is::<LengthLimitError>) {
        return Refusal::BodyTooLarge(MAX_BODY_MIB);
    }
    let is_user_body = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user)
    };
    if causes().any(is_user_body) {
        return Refusal::BrokenBody;
    }
    // The innermost cause is the specific one; the outer ones say only which layer failed.
    let reason = causes().last().map(ToString::to_string).unwrap_or_default();
    let reason = common::text_format::one_line(&upstream.mask(&reason), 200);
    let host = upstream.host().to_owned();
    if error.is_connect() {
        Refusal::Unreachable { host, reason }
    } else {
        Refusal::BadAnswer { host, reason }
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "large_answer_tests.rs"]
mod large_answer_tests;

#[cfg(test)]
#[path = "bad_input_tests.rs"]
mod bad_input_tests;
