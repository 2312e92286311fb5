//! Endpoints of the Responses API and of the Messages API that workers may use. Everything else that the key allows
//! stays out of their reach: files, batches, fine-tuning, administration.

use hyper::header::{CONNECTION, UPGRADE};
use hyper::{HeaderMap, Method, Request};

use super::refusal::Refusal;
use crate::model_server::ModelApi;

/// Path of both APIs at the gateway, as in the worker's `base_url`.
const BASE_PATH: &str = "/v1";
/// Parameter of Claude Code's requests.
const BETA: &str = "beta=true";

/// An endpoint that workers may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A turn of the model.
    Responses,
    /// A summary of a long thread.
    Compact,
    /// The list of models.
    Models,
    /// A turn of the model, in the Messages API.
    Messages,
    /// Number of tokens of a request, in the Messages API.
    CountTokens,
}

impl Endpoint {
    /// Returns true for an endpoint that uses the model, and so costs tokens.
    pub(super) fn is_metered(self) -> bool {
        !matches!(self, Self::Models | Self::CountTokens)
    }

    /// Returns the path below the base URL of the API. That of the Messages API has no version.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Responses => "/responses",
            Self::Compact => "/responses/compact",
            Self::Models => "/models",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
        }
    }

    /// Returns the part of a worker's query that is passed on: the client's version, and the switch of the Messages API
    /// for its newest parameters.
    pub(super) fn passed_query(self, query: Option<&str>) -> &str {
        match self {
            Self::Models => query.unwrap_or_default(),
            Self::Messages | Self::CountTokens if query == Some(BETA) => BETA,
            _ => "",
        }
    }

    /// Finds the endpoint of a request. Only the path of the request's target counts: a worker can't name a server.
    pub(super) fn of_request<B>(api: ModelApi, request: &Request<B>) -> Result<Self, Refusal> {
        let path = request.uri().path().strip_prefix(BASE_PATH);
        match api {
            ModelApi::Responses => Self::of_responses_api(request, path),
            ModelApi::Messages => match (request.method(), path) {
                (&Method::POST, Some("/messages")) => Ok(Self::Messages),
                (&Method::POST, Some("/messages/count_tokens")) => Ok(Self::CountTokens),
                _ => Err(Refusal::UnknownEndpoint),
            },
        }
    }

    fn of_responses_api<B>(request: &Request<B>, path: Option<&str>) -> Result<Self, Refusal> {
        match (request.method(), path) {
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
        Endpoint::of_request(
            ModelApi::Responses,
            &Request::builder().method(method).uri(target).body(()).unwrap(),
        )
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
        let request = request.body(()).unwrap();
        assert_eq!(Endpoint::of_request(ModelApi::Responses, &request), Err(Refusal::WebSocket));
    }

    #[test]
    fn a_job_of_one_api_reaches_none_of_the_other() {
        let endpoint =
            |api, target: &str| Endpoint::of_request(api, &Request::post(target).body(()).unwrap());
        let messages = ModelApi::Messages;
        assert_eq!(endpoint(messages, "/v1/messages?beta=true"), Ok(Endpoint::Messages));
        assert_eq!(endpoint(messages, "/v1/messages/count_tokens"), Ok(Endpoint::CountTokens));
        for target in ["/v1/responses", "/v1/messages/batches", "/v1/files", "/v1/messages/", "/api/hello"] {
            assert_eq!(endpoint(messages, target), Err(Refusal::UnknownEndpoint), "{target}");
        }
        assert_eq!(endpoint(ModelApi::Responses, "/v1/messages"), Err(Refusal::UnknownEndpoint));
        assert_eq!(Endpoint::Messages.passed_query(Some("beta=true")), "beta=true");
        assert_eq!(Endpoint::Messages.passed_query(Some("beta=true&key=1")), "");
    }
}
