//! Endpoints of the Responses API that workers may use. Everything else that the key allows stays out of their reach:
//! files, batches, fine-tuning, administration.

use hyper::header::{CONNECTION, UPGRADE};
use hyper::{HeaderMap, Method, Request};

use super::refusal::Refusal;

/// Path of the API at the gateway, as in the worker's `base_url`.
const BASE_PATH: &str = "/v1";

/// An endpoint that workers may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A turn of the model.
    Responses,
    /// A summary of a long thread.
    Compact,
    /// The list of models.
    Models,
}

impl Endpoint {
    /// Returns the path below the base URL of the API.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Responses => "/responses",
            Self::Compact => "/responses/compact",
            Self::Models => "/models",
        }
    }

    /// Finds the endpoint of a request. Only the path of the request's target counts: a worker can't name a server.
    pub(super) fn of_request<B>(request: &Request<B>) -> Result<Self, Refusal> {
        let path = request.uri().path();
        match (request.method(), path.strip_prefix(BASE_PATH)) {
            (&Method::POST, Some("/responses")) => Ok(Self::Responses),
            (&Method::POST, Some("/responses/compact")) => Ok(Self::Compact),
            (&Method::GET, Some("/models")) => Ok(Self::Models),
            (&Method::GET, Some("/responses")) if asks_for_upgrade(request.headers()) => {
                Err(Refusal::WebSocket)
            }
            _ => Err(Refusal::UnknownEndpoint),
        }
    }
}

fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && headers.contains_key(CONNECTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(method: &str, target: &str) -> Result<Endpoint, Refusal> {
        Endpoint::of_request(&Request::builder().method(method).uri(target).body(()).unwrap())
    }

    #[test]
    fn only_three_endpoints_can_be_reached() {
        assert_eq!(endpoint("POST", "/v1/responses"), Ok(Endpoint::Responses));
        assert_eq!(endpoint("POST", "/v1/responses?x=1"), Ok(Endpoint::Responses));
        assert_eq!(endpoint("POST", "http://other.example/v1/responses"), Ok(Endpoint::Responses));
        assert_eq!(endpoint("POST", "/v1/responses/compact"), Ok(Endpoint::Compact));
        assert_eq!(endpoint("GET", "/v1/models?client_version=1"), Ok(Endpoint::Models));
        for (method, target) in [
            ("GET", "/v1/responses"),
            ("GET", "/v1/responses/resp_1"),
            ("DELETE", "/v1/responses"),
            ("POST", "/v1/responses/"),
            ("POST", "/v1//responses"),
            ("POST", "/v1/responses/../files"),
            ("POST", "/v1/responses%2fcompact"),
            ("POST", "/V1/responses"),
            ("POST", "/responses"),
            ("POST", "/"),
            ("OPTIONS", "*"),
            ("CONNECT", "api.openai.com:443"),
            ("GET", "/v1/files"),
            ("POST", "/v1/chat/completions"),
        ] {
            assert_eq!(endpoint(method, target), Err(Refusal::UnknownEndpoint), "{method} {target}");
        }
    }

    #[test]
    fn a_websocket_is_refused_so_that_codex_falls_back_to_requests() {
        let request =
            Request::get("/v1/responses").header("connection", "Upgrade").header("upgrade", "websocket");
        assert_eq!(Endpoint::of_request(&request.body(()).unwrap()), Err(Refusal::WebSocket));
    }
}
