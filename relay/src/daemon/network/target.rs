//! Host and port that a request asks for. Pure.

use std::fmt;
use std::net::IpAddr;

use hyper::http::uri::{Authority, Scheme};
use hyper::{Method, Request};

use super::refusal::Refusal;

/// Maximum length of a host name, in bytes (RFC 1035).
const MAX_HOST: usize = 253;

/// Host and port that a job wants to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Name or address, in lower case, without brackets and without a final dot.
    host: String,
    port: u16,
}

impl Target {
    /// Finds the target of a request to the proxy.
    pub(super) fn of_request<B>(request: &Request<B>) -> Result<Self, Refusal> {
        let uri = request.uri();
        let authority = uri.authority().ok_or(Refusal::NoProxyRequest)?;
        if request.method() == Method::CONNECT {
            let port = authority.port_u16().ok_or(Refusal::BadTarget)?;
            return Self::new(authority, port);
        }
        // Clients send `https://` through a tunnel.
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(Refusal::NoProxyRequest);
        }
        Self::new(authority, authority.port_u16().unwrap_or(80))
    }

    fn new(authority: &Authority, port: u16) -> Result<Self, Refusal> {
        let has_bad_port = authority.as_str().ends_with(':') || port == 0;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let host = host.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |address| address.to_string());
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if has_bad_port || host.is_empty() || host.len() > MAX_HOST || !host.bytes().all(is_valid) {
            return Err(Refusal::BadTarget);
        }
        Ok(Self { host, port })
    }

    /// Returns the host.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &str, uri: &str) -> Result<String, Refusal> {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        Target::of_request(&request).map(|target| target.to_string())
    }

    #[test]
    fn a_tunnel_names_its_port_and_a_plain_request_may() {
        for (method, uri, expected) in [
            ("CONNECT", "Example.ORG.:443", "example.org:443"),
            ("CONNECT", "[FD00:0::1]:443", "[fd00::1]:443"),
            ("GET", "http://deb.debian.org/debian", "deb.debian.org:80"),
            ("POST", "http://h.example:8080/", "h.example:8080"),
        ] {
            assert_eq!(target(method, uri).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn other_requests_have_no_target() {
        assert_eq!(target("GET", "/path"), Err(Refusal::NoProxyRequest));
        assert_eq!(target("GET", "https://h.example/"), Err(Refusal::NoProxyRequest));
        assert_eq!(target("CONNECT", "h.example"), Err(Refusal::BadTarget));
        assert_eq!(target("CONNECT", "h.example:0"), Err(Refusal::BadTarget));
        assert_eq!(target("GET", "http://a~b/"), Err(Refusal::BadTarget));
        assert_eq!(target("GET", &format!("http://{}/", "a".repeat(254))), Err(Refusal::BadTarget));
    }
}
