//! Admission of HTTP requests: by the host that they name, the page that they come from, and their token. Pure.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};

use super::token::TokenVerifier;
use crate::engine::container::HOST_NAMES;

/// HTTP status and body of a refusal.
pub(super) type Refusal = (StatusCode, &'static str);

/// Refusal of a request without a valid token.
pub(super) const NO_TOKEN: Refusal = (StatusCode::UNAUTHORIZED, "a valid token is needed\n");

/// Refuses a client without the token. Refuses requests of browser pages even with the token.
pub(super) fn require_token(headers: &HeaderMap, verifier: &TokenVerifier) -> Result<(), Refusal> {
    refuse_browsers_and_foreign_hosts(headers)?;
    if verifier.verify(bearer_token(headers)) { Ok(()) } else { Err(NO_TOKEN) }
}

/// Refuses browser pages and requests for another host.
pub(super) fn refuse_browsers_and_foreign_hosts(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(ORIGIN) {
        return Err((StatusCode::FORBIDDEN, "browser requests are not allowed\n"));
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_known_host(host) {
        return Err((StatusCode::FORBIDDEN, "the Host header names another host\n"));
    }
    Ok(())
}

/// Returns the bearer token of a request; empty if there is none.
pub(super) fn bearer_token(headers: &HeaderMap) -> &str {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default()
}

/// Returns true for a host name that agents use to reach their relay: an address, or one of a few names. If a web
/// page's own domain resolves to this host, the browser sends that domain instead.
fn is_known_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || HOST_NAMES.contains(&name) || address.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal_status(headers: &[(&str, &str)], verifier: &TokenVerifier) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(axum::http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        require_token(&map, verifier).err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_a_request_with_the_token_and_a_known_host_is_admitted() {
        let verifier = TokenVerifier::new().unwrap();
        let authorization = format!("Bearer {}", verifier.token());
        for host in [
            "127.0.0.1:4111",
            "localhost:1",
            "host.docker.internal:4111",
            "host.containers.internal:4111",
            "[::1]:80",
            "172.17.0.1",
        ] {
            assert_eq!(
                refusal_status(&[("host", host), ("authorization", &authorization)], &verifier),
                None,
                "{host}"
            );
        }
        for host in ["evil.example", "evil.example:4111", "", "localhost.evil.example:1"] {
            assert_eq!(
                refusal_status(&[("host", host), ("authorization", &authorization)], &verifier),
                Some(403),
                "{host}"
            );
        }
        for origin in ["http://evil.example", "null", "", "http://localhost"] {
            let headers = [("host", "localhost"), ("authorization", &*authorization), ("origin", origin)];
            assert_eq!(refusal_status(&headers, &verifier), Some(403), "{origin}");
        }
        for token in ["Bearer ", "Bearer x", "Basic x", &authorization.to_lowercase()] {
            assert_eq!(
                refusal_status(&[("host", "localhost"), ("authorization", token)], &verifier),
                Some(401),
                "{token}"
            );
        }
        assert_eq!(refusal_status(&[("host", "localhost")], &verifier), Some(401));
    }
}
