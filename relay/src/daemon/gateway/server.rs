//! HTTP server for the worker of one job, which passes requests on to the model's server.

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use common::event::FailureKind;
use common::model_usage::ModelProblem;
use http_body_util::{Either, LengthLimitError};
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_ENCODING;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::answer::{self, AnswerBody};
use super::endpoint::Endpoint;
use super::login::LoginError;
use super::pending_answer::PendingAnswer;
use super::refusal::Refusal;
use super::request_check::{RequestCheck, RequestError};
use super::route::JobRoute;
use super::upstream::{SendError, Upstream};
use super::worker_body::WorkerBody;

/// Time limit for the head of a request, also of the next one on an idle connection. It exceeds the time for which
/// Codex keeps an idle connection (90 s), so that no request meets a connection that closes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// Time limit for the first request with the job's token. Codex connects when it has a request to send.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);
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
    let has_token = Notify::new();
    let service = service_fn(|request: Request<Incoming>| {
        let (route, has_token) = (Arc::clone(&route), &has_token);
        async move {
            let is_admitted = route.admits(request.headers());
            if is_admitted {
                has_token.notify_one();
            }
            Ok::<_, Infallible>(serve_request(request, is_admitted, &route).await)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service);
    let without_token = async {
        if tokio::time::timeout(TOKEN_TIMEOUT, has_token.notified()).await.is_ok() {
            pending::<()>().await;
        }
    };
    tokio::select! {
        served = serving => if let Err(e) = served {
            tracing::debug!("{job}: a connection to the model ended: {e}");
        },
        () = without_token => tracing::debug!("{job}: a connection to the model showed no token"),
    }
}

async fn serve_request(
    request: Request<Incoming>,
    is_admitted: bool,
    route: &Arc<JobRoute>,
) -> Response<AnswerBody> {
    let answer = if is_admitted { forward(request, route).await } else { Err(Refusal::Token) };
    match answer {
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
    let endpoint = Endpoint::of_request(route.upstream().api(), &request)?;
    let limit = MAX_BODY_MIB * 1024 * 1024;
    if request.body().size_hint().lower() > limit {
        return Err(Refusal::BodyTooLarge(MAX_BODY_MIB));
    }
    let pending = if endpoint.is_metered() { Some(begin(&request, route)?) } else { None };
    let metering = pending.as_ref().map(|pending| (RequestCheck::new(route.rules()), pending.sent()));
    let request = request.map(|body| WorkerBody::new(body, limit, metering));
    match route.upstream().send(endpoint, request).await {
        Ok(response) => answer::pass_on(response, pending, route).await,
        Err(error) => {
            let refusal = failed_request(&error, route.upstream());
            if let Refusal::LoginInvalid(message) = &refusal {
                let (kind, message) = (FailureKind::Auth, message.clone());
                route.record_problem(Some(ModelProblem { kind, message, resets_at: None }));
            }
            // After a bad answer, the model may have worked on the request.
            if let (Some(pending), false) = (pending, matches!(refusal, Refusal::BadAnswer { .. })) {
                pending.forgive();
            }
            Err(refusal)
        }
    }
}

/// Begins a request that uses the model, if the job may send one.
fn begin(request: &Request<Incoming>, route: &Arc<JobRoute>) -> Result<PendingAnswer, Refusal> {
    if let Some(reason) = route.exceeded_budget() {
        return Err(Refusal::Budget(reason));
    }
    // An encoded body can't be checked.
    if request.headers().contains_key(CONTENT_ENCODING) {
        return Err(Refusal::EncodedBody);
    }
    Ok(PendingAnswer::new(route))
}

/// Finds the reason of a failed request: the worker's body, the login, the connection to the server, or its answer.
fn failed_request(error: &SendError, upstream: &Upstream) -> Refusal {
    let error = match error {
        SendError::Body(error) => return rejected_body(&**error).unwrap_or(Refusal::BrokenBody),
        SendError::Login(error @ LoginError::Invalid(_)) => return Refusal::LoginInvalid(error.to_string()),
        SendError::Login(error @ (LoginError::Failed(_) | LoginError::Refreshed)) => {
            return Refusal::LoginFailed(error.to_string());
        }
        SendError::Client(error) => error,
    };
    if let Some(refusal) = rejected_body(error) {
        return refusal;
    }
    let is_user_body = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user)
    };
    if causes(error).any(is_user_body) {
        return Refusal::BrokenBody;
    }
    // The innermost cause is the specific one; the outer ones say only which layer failed.
    let reason = causes(error).last().map(ToString::to_string).unwrap_or_default();
    let reason = common::text_format::one_line(&upstream.mask(&reason), 200);
    let host = upstream.host().to_owned();
    if error.is_connect() {
        Refusal::Unreachable { host, reason }
    } else {
        Refusal::BadAnswer { host, reason }
    }
}

/// Returns the refusal of a body that is too large or has something that a worker may not choose.
fn rejected_body(error: &(dyn Error + 'static)) -> Option<Refusal> {
    if causes(error).any(<dyn Error + 'static>::is::<LengthLimitError>) {
        return Some(Refusal::BodyTooLarge(MAX_BODY_MIB));
    }
    let rejected = causes(error).find_map(|cause| cause.downcast_ref::<RequestError>());
    rejected.map(|error| Refusal::Rejected(error.clone()))
}

/// Returns an error and its causes, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "large_answer_tests.rs"]
mod large_answer_tests;

#[cfg(test)]
#[path = "bad_input_tests.rs"]
mod bad_input_tests;

#[cfg(test)]
#[path = "anthropic_tests.rs"]
mod anthropic_tests;
