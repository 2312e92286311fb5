//! Answers of the model's server on their way to a worker.
//!
//! ```text
//!  2xx ─► passed on byte for byte, metered
//!  3xx ─► an error: a redirect would send the worker, or its request, somewhere else
//!  4xx, 5xx ─► read to its end, classified, secrets masked
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode, Version};

use super::account;
use super::headers;
use super::meter::Meter;
use super::metered_body::MeteredBody;
use super::pending_answer::PendingAnswer;
use super::reading::ErrorFields;
use super::refusal::Refusal;
use super::route::JobRoute;
use crate::time;

/// Maximum size of an error's body, in bytes. Errors of the API have a few hundred.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// Time limit for the body of an error after its head.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// Body of an answer to a worker.
pub(super) type AnswerBody = Either<Full<Bytes>, MeteredBody>;

/// Turns an answer of the model's server into the answer to the worker. `pending` is the request, if it uses the model.
pub(super) async fn pass_on(
    answer: Response<Incoming>,
    pending: Option<PendingAnswer>,
    route: &Arc<JobRoute>,
) -> Result<Response<AnswerBody>, Refusal> {
    let (mut head, body) = answer.into_parts();
    head.headers = headers::for_worker(head.headers, &route.upstream().secrets());
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let status = head.status;
    if status.is_success() {
        let encoding = head.headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity");
        if pending.is_some() && encoding.is_some() {
            let reason = "it has a content-encoding that was not asked for, so its tokens can't be counted";
            return Err(bad_answer(route, reason.to_owned()));
        }
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let metering = pending.map(|pending| (Meter::new(content_type.unwrap_or_default()), pending));
        let body = MeteredBody::new(body, metering);
        return Ok(Response::from_parts(head, Either::Right(body)));
    }
    pending.into_iter().for_each(PendingAnswer::forgive);
    if status.is_client_error() || status.is_server_error() {
        return Ok(pass_on_error(head, body, route).await.map(Either::Left));
    }
    let reason = format!(
        "it answered {}, and redirects are not followed: set base_url to its final address",
        status.as_u16()
    );
    Err(bad_answer(route, reason))
}

/// Turns an error of the model's server into the answer to the worker. Its status stays the same, because it tells
/// Codex whether to try again.
async fn pass_on_error(head: Parts, body: Incoming, route: &Arc<JobRoute>) -> Response<Full<Bytes>> {
    let reading = Limited::new(body, MAX_ERROR_BODY).collect();
    let read = tokio::time::timeout(ERROR_BODY_TIMEOUT, reading).await;
    let body = read.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
    record_problem(head.status, &head, body.as_ref().map_or(&[][..], |body| &body[..]), route);
    let Some(body) = body else {
        let reason = format!("it answered {} without a readable error", head.status.as_u16());
        let mut response = bad_answer(route, reason).response();
        *response.status_mut() = head.status;
        return response;
    };
    let is_clean = !route.upstream().secrets().iter().any(|secret| secret.occurs_in(&body));
    let body = if is_clean { body } else { route.upstream().mask(&String::from_utf8_lossy(&body)).into() };
    Response::from_parts(head, Full::new(body))
}

fn record_problem(status: StatusCode, head: &Parts, body: &[u8], route: &JobRoute) {
    let mut error = ErrorFields::from_body(body);
    error.message = route.upstream().mask(&error.message);
    route.record_problem(account::classify(status, &head.headers, &error, time::now()));
}

fn bad_answer(route: &JobRoute, reason: String) -> Refusal {
    Refusal::BadAnswer { host: route.upstream().host().to_owned(), reason }
}
