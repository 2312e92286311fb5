//! Answers that the gateway gives itself, as errors of the Responses API and of the Messages API, which Codex and Claude
//! Code show to their users.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::request_check::RequestError;

/// Reason why the gateway answers a request itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The request has no token, or the token of another job.
    #[error("this token is not valid for the model: it belongs to a job that has ended, or to no job")]
    Token,
    /// The worker asks for a WebSocket. Codex falls back to requests.
    #[error("the model is reached with POST requests, not with a WebSocket")]
    WebSocket,
    /// The worker asks for something other than the model.
    #[error(
        "workers reach only the model: POST /v1/responses, POST /v1/responses/compact and GET /v1/models with Codex, or POST \
         /v1/messages and POST /v1/messages/count_tokens"
    )]
    UnknownEndpoint,
    /// The job may use no more of the model. Codex ends its turn at this status, and does not try again.
    #[error("{0}. End the task here: no further request will be answered")]
    Budget(String),
    /// The request's body is too large.
    #[error("the request is larger than {0} MiB")]
    BodyTooLarge(u64),
    /// The request's body could not be read to its end.
    #[error("the request could not be read to its end")]
    BrokenBody,
    /// The request's body is encoded.
    #[error("the request has a content-encoding: send it without one")]
    EncodedBody,
    /// The request asks for something that a worker may not choose.
    #[error("the request is not passed on: {0}")]
    Rejected(RequestError),
    /// The user's login is not valid any more.
    #[error("{0}")]
    LoginInvalid(String),
    /// The user's login can't be refreshed at the moment.
    #[error("{0}")]
    LoginFailed(String),
    /// The model's server can't be reached.
    #[error("the model's server {host} can't be reached: {reason}")]
    Unreachable {
        /// Host of the server.
        host: String,
        /// Reason, without secrets.
        reason: String,
    },
    /// The model's server sent something that can't be passed on.
    #[error("the model's server {host} gave no valid answer: {reason}")]
    BadAnswer {
        /// Host of the server.
        host: String,
        /// Reason, without secrets.
        reason: String,
    },
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Token | Self::LoginInvalid(_) => StatusCode::UNAUTHORIZED,
            Self::WebSocket => StatusCode::UPGRADE_REQUIRED,
            Self::UnknownEndpoint => StatusCode::NOT_FOUND,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::EncodedBody => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BrokenBody | Self::Rejected(_) | Self::Budget(_) => StatusCode::BAD_REQUEST,
            Self::Unreachable { .. } | Self::BadAnswer { .. } | Self::LoginFailed(_) => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// Returns the type and code of the error, in the words of the API.
    fn type_and_code(&self) -> (&'static str, &'static str) {
        match self {
            Self::Token => ("invalid_request_error", "invalid_api_key"),
            Self::WebSocket => ("invalid_request_error", "upgrade_required"),
            Self::UnknownEndpoint => ("invalid_request_error", "unknown_url"),
            Self::Budget(_) => ("invalid_request_error", "budget_exceeded"),
            Self::BodyTooLarge(_) => ("invalid_request_error", "request_too_large"),
            Self::BrokenBody | Self::EncodedBody => ("invalid_request_error", "invalid_body"),
            Self::Rejected(_) => ("invalid_request_error", "unsupported_parameter"),
            Self::LoginInvalid(_) => ("authentication_error", "token_expired"),
            Self::LoginFailed(_) => ("server_error", "login_unavailable"),
            Self::Unreachable { .. } => ("server_error", "upstream_unreachable"),
            Self::BadAnswer { .. } => ("server_error", "upstream_invalid"),
        }
    }

    /// Returns the answer.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let (kind, code) = self.type_and_code();
        let message = format!("relay: {self}");
        let body = json!({ "type": "error", "error": { "message": message, "type": kind, "param": null, "code": code } });
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::WebSocket => {
                headers.insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
            }
            // The rest of the request has not been read. Without a valid token, a connection is not kept open.
            Self::Token
            | Self::Budget(_)
            | Self::BodyTooLarge(_)
            | Self::BrokenBody
            | Self::EncodedBody
            | Self::Rejected(_) => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
