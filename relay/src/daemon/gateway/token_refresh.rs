//! Request for new tokens of a `ChatGPT` login, as Codex sends it. Errors never contain tokens.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use serde_json::{Value, json};

use super::client::UpstreamClient;
use crate::model_server::{RefreshedTokens, Secret};

/// Id with which Codex asks for tokens. It is public.
const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
/// Time limit for the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of the answer, in bytes. The three tokens have a few thousand.
const MAX_ANSWER: usize = 256 * 1024;
/// Codes of errors after which the refresh token is of no more use.
const FINAL_CODES: [&str; 4] =
    ["refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated", "invalid_grant"];

/// Reason for a refresh, in Codex's words.
#[derive(Debug, Clone, Copy)]
pub(super) enum RefreshReason {
    /// The access token is about to expire.
    Expiry,
    /// The model's server has rejected the access token.
    Rejected,
}

/// Failure of a refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RefreshError {
    /// The refresh token is not valid any more. The text says why.
    Invalid(String),
    /// The endpoint gave no usable answer. The text says why.
    NoAnswer(String),
}

/// Asks for new tokens. The refresh token can't be used again if this succeeds.
pub(super) async fn request_tokens(
    client: &UpstreamClient,
    url: &Uri,
    refresh_token: &Secret,
    reason: RefreshReason,
) -> Result<RefreshedTokens, RefreshError> {
    let request = build_request(url, refresh_token, reason);
    let exchange = async {
        let answer = client.request(request).await.map_err(|e| innermost(&e))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|e| e.to_string())?;
        Ok::<_, String>((status, body.to_bytes()))
    };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
    let (status, body) =
        answer.unwrap_or_else(|_| Err("no answer in time".to_owned())).map_err(RefreshError::NoAnswer)?;
    if !status.is_success() {
        return Err(classify(status, &body));
    }
    let invalid = || RefreshError::NoAnswer("its answer has no access token".to_owned());
    RefreshedTokens::parse(&body).ok_or_else(invalid)
}

fn build_request<B>(
    url: &Uri,
    refresh_token: &Secret,
    reason: RefreshReason,
) -> Request<Either<B, Full<Bytes>>> {
    let reason = match reason {
        RefreshReason::Expiry => "proactive_expiry",
        RefreshReason::Rejected => "unauthorized_recovery",
    };
    let body = json!({
        "client_id": CLIENT_ID,
        "grant_type": "refresh_token",
        "refresh_reason": reason,
        "refresh_token": refresh_token.expose(),
    });
    let mut request = Request::new(Either::Right(Full::from(body.to_string())));
    *request.method_mut() = hyper::Method::POST;
    *request.uri_mut() = url.clone();
    let headers = request.headers_mut();
    let agent = concat!("relay/", env!("CARGO_PKG_VERSION"));
    for (name, value) in
        [(CONTENT_TYPE, "application/json"), (ACCEPT, "application/json"), (USER_AGENT, agent)]
    {
        headers.insert(name, hyper::header::HeaderValue::from_static(value));
    }
    request
}

/// Finds out if a refusal is final, as Codex does: by its code, or by status 401.
fn classify(status: StatusCode, body: &[u8]) -> RefreshError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &body["error"];
    let code = [&error["code"], error, &body["code"]].into_iter().find_map(Value::as_str);
    match code.filter(|code| FINAL_CODES.contains(code)) {
        Some(code) => RefreshError::Invalid(code.replace('_', " ")),
        None if status == StatusCode::UNAUTHORIZED => RefreshError::Invalid("status 401".to_owned()),
        None => RefreshError::NoAnswer(format!("it answered {}", status.as_u16())),
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&cause| cause.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_token_itself_is_final() {
        let classify = |status: u16, body: Value| {
            classify(StatusCode::from_u16(status).unwrap(), body.to_string().as_bytes())
        };
        let refused = |reason: &str| RefreshError::Invalid(reason.to_owned());
        let code = |code: &str| json!({"error": {"code": code, "message": "secret words"}});
        assert_eq!(classify(401, code("refresh_token_reused")), refused("refresh token reused"));
        assert_eq!(classify(400, json!({"error": "invalid_grant"})), refused("invalid grant"));
        assert_eq!(classify(400, json!({"code": "refresh_token_expired"})), refused("refresh token expired"));
        assert_eq!(classify(401, code("anything")), refused("status 401"));
        for (status, body) in [(500, code("server_error")), (429, json!([])), (400, code("invalid_request"))]
        {
            assert_eq!(classify(status, body), RefreshError::NoAnswer(format!("it answered {status}")));
        }
    }
}
