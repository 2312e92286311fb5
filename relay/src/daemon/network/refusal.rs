//! Answers that the proxy gives itself.

use bytes::Bytes;
use http_body_util::Full;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// Words in the status line of a refusal, because most clients show nothing else of an answer to CONNECT.
const REASON_PHRASE: &[u8] = b"Forbidden by [network] allow of relay.toml";

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
    /// The job has ended.
    #[error("this job has ended, so it can reach no host")]
    JobEnded,
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
    /// There is no secret of this name.
    #[error("there is no secret {0}: `relay secret list` on the host shows all")]
    UnknownSecret(String),
    /// The secrets can't be read, or hold one that can't be used.
    #[error("the secrets can't be read: the log of `relay serve` on the host says why")]
    UnreadableSecrets,
    /// The method of the request would show the secret.
    #[error("a request with a secret can't use the method TRACE, which repeats it")]
    Trace,
    /// The request is none for a proxy.
    #[error("this is a proxy: it takes CONNECT, and requests for http:// addresses")]
    NoProxyRequest,
}

impl Refusal {
    /// Returns true for a host that the allow list excludes.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::NotAllowed(_) | Self::Private(_))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotAllowed(_) | Self::Private(_) | Self::JobEnded => StatusCode::FORBIDDEN,
            Self::UnknownSecret(_) => StatusCode::NOT_FOUND,
            Self::Trace => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unresolved(..) | Self::Unreachable(..) | Self::BadAnswer(..) | Self::UnreadableSecrets => {
                StatusCode::BAD_GATEWAY
            }
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
