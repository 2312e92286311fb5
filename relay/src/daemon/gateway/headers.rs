//! Headers that are passed on between a worker and the model's server (pure).

use hyper::HeaderMap;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderName, HeaderValue,
    SET_COOKIE, VIA,
};

use super::hop_by_hop::remove_hop_by_hop;
use crate::model_server::Secret;

/// Further headers of a worker that are not passed on: other ways to say who pays, an origin, a host. An encoded answer
/// could not be metered, so the worker can't ask for one.
const NOT_FROM_WORKERS: [HeaderName; 16] = [
    HOST,
    EXPECT,
    AUTHORIZATION,
    COOKIE,
    VIA,
    FORWARDED,
    ACCEPT_ENCODING,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("chatgpt-account-id"),
    HeaderName::from_static("x-openai-fedramp"),
];

/// Returns the headers of a worker's request for the model's server, still without the configured ones.
pub(super) fn for_upstream(headers: HeaderMap) -> HeaderMap {
    let mut headers = end_to_end(headers);
    for name in &NOT_FROM_WORKERS {
        headers.remove(name);
    }
    headers
}

/// Returns the headers of an answer for the worker. A header that repeats a secret is left out.
pub(super) fn for_worker(headers: HeaderMap, secrets: &[Secret]) -> HeaderMap {
    let mut headers = end_to_end(headers);
    headers.remove(SET_COOKIE);
    let repeats_secret =
        |value: &HeaderValue| secrets.iter().any(|secret| secret.occurs_in(value.as_bytes()));
    let repeating: Vec<HeaderName> =
        headers.iter().filter(|(_, value)| repeats_secret(value)).map(|(name, _)| name.clone()).collect();
    for name in repeating {
        headers.remove(name);
    }
    headers
}

/// Removes the headers of one hop, and the length, which hyper writes itself.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    remove_hop_by_hop(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(parse).collect()
    }

    #[test]
    fn a_worker_can_choose_neither_the_account_nor_the_framing() {
        let given = headers(&[
            ("host", "127.0.0.1:1"),
            ("authorization", "Bearer job"),
            ("api-key", "k"),
            ("openai-organization", "o"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("connection", "x-one, keep-alive"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("accept-encoding", "gzip"),
            ("content-encoding", "zstd"),
            ("session-id", "s"),
        ]);
        assert_eq!(for_upstream(given), headers(&[("content-encoding", "zstd"), ("session-id", "s")]));
    }

    #[test]
    fn a_worker_gets_no_cookie_and_no_header_with_a_secret() {
        let given = headers(&[
            ("set-cookie", "a=b"),
            ("x-echo", "Bearer sk-12345678"),
            ("content-type", "text/event-stream"),
            ("keep-alive", "timeout=5"),
        ]);
        let secrets = [Secret::new("sk-12345678")];
        assert_eq!(for_worker(given, &secrets), headers(&[("content-type", "text/event-stream")]));
    }
}
