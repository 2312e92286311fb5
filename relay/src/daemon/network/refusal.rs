//! Answers that the proxy gives itself.

use bytes::Bytes;
use http_body_util::Full;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// Words in the status line of a refusal, because most clients show nothing else of an answer to CONNECT.
const REASON_PHRASE: &[u8] = b"Forbidden: the host is not in [network] allow of relay.toml";

/// Reason why the proxy does not connect a job with a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The list of permitted hosts does not have the host.
    #[error("{0} is not in [network] allow of platform/relay.toml, so this job can't reach it")]
    NotAllowed(String),
    /// The host has no public address.
    #[error(
        "{0} has only addresses of private networks or of the relay's machine: this job can reach it if [network] allow of \
         platform/relay.toml names this host itself"
    )]
    Private(String),
    /// The name can't be resolved.
    #[error("the address of {0} can't be found: {1}")]
    Unresolved(String, String),
    /// No address of the host accepts a connection.
    #[error("{0} can't be reached: {1}")]
    Unreachable(String, String),
    /// The host's answer is no HTTP.
    #[error("{0} gave no valid answer: {1}")]
    BadAnswer(String, String),
    /// The request names no valid host.
    #[error("the request names no valid host and port")]
    BadTarget,
    /// The request is none for a proxy.
    #[error("this is a proxy: it takes CONNECT, and requests for http:// addresses")]
    NoProxyRequest,
}

impl Refusal {
    /// Returns true for a host that the rules exclude.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::NotAllowed(_) | Self::Private(_))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotAllowed(_) | Self::Private(_) => StatusCode::FORBIDDEN,
            Self::Unresolved(..) | Self::Unreachable(..) | Self::BadAnswer(..) => StatusCode::BAD_GATEWAY,
            Self::BadTarget | Self::NoProxyRequest => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the answer: one line of text.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(format!("relay: {self}\n"))));
        *response.status_mut() = self.status();
        if self.is_forbidden() {
            response.extensions_mut().insert(ReasonPhrase::from_static(REASON_PHRASE));
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        // The rest of the request has not been read.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}
