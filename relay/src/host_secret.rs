//! Secret that relay adds to the requests of jobs for one host: what it consists of, and checks of it. Pure.

use std::net::IpAddr;

use common::secret_route;
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use crate::secret::Secret;

/// Maximum length of a value, in bytes.
pub const MAX_VALUE: usize = 8 * 1024;
/// Maximum length of a host name, in bytes (RFC 1035).
const MAX_HOST: usize = 253;
/// Headers that belong to a connection or frame a message, so they can't hold a secret.
const UNUSABLE_HEADERS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Secret for the requests to one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSecret {
    origin: String,
    header: HeaderName,
    prefix: String,
    value: Secret,
}

impl HostSecret {
    /// Checks the parts of a secret. `host` is a name or an address, with a port or not; it may begin with `https://`
    /// or `http://`.
    ///
    /// # Errors
    /// One line that names the wrong part. It does not contain the value.
    pub fn new(host: &str, header: &str, prefix: &str, value: &str) -> Result<Self, String> {
        let origin = parse_origin(host)?;
        let header = header.parse::<HeaderName>().ok().filter(|h| !UNUSABLE_HEADERS.contains(&h.as_str()));
        let header = header.ok_or("the header is none that can hold a secret, such as Authorization")?;
        if value.is_empty() {
            return Err("the value is empty".to_owned());
        }
        if value.contains(['\n', '\r']) {
            return Err("the value has more than one line".to_owned());
        }
        if value.len() > MAX_VALUE || prefix.len() > MAX_VALUE {
            return Err(format!("the value is longer than {MAX_VALUE} bytes"));
        }
        let secret = Self { origin, header, prefix: prefix.to_owned(), value: Secret::new(value) };
        match secret.header_value() {
            Some(_) => Ok(secret),
            None => Err("the value or its prefix has characters that a header can't hold".to_owned()),
        }
    }

    /// Returns scheme, host and port, such as `https://api.example.org`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the name of the header.
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Returns the text before the value.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the value.
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// Returns the content of the header, which `Debug` never shows.
    pub fn header_value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("{}{}", self.prefix, self.value.expose())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Checks the name of a secret.
///
/// # Errors
/// One line with the names that are valid.
pub fn check_name(name: &str) -> Result<(), String> {
    if secret_route::is_valid_name(name) {
        return Ok(());
    }
    Err(format!("'{name}' is no name of a secret: use lower-case letters, digits and hyphens, at most 40"))
}

/// Returns scheme, host and port in one form: in lower case, without the default port.
fn parse_origin(host: &str) -> Result<String, String> {
    let invalid =
        || "the host is no name or address with an optional port, such as api.example.org".to_owned();
    let url = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme)).ok_or_else(invalid)?;
    let authority = uri.authority().filter(|authority| is_host_with_port(authority.as_str()));
    let authority = authority.ok_or_else(invalid)?;
    if uri.path() != "/" || uri.query().is_some() {
        return Err("the host must not contain a path: jobs choose the path".to_owned());
    }
    let default_port = if scheme == "http" { 80 } else { 443 };
    let port = authority.port_u16().filter(|port| *port != default_port);
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    Ok(format!("{scheme}://{}{port}", authority.host().to_ascii_lowercase()))
}

/// Returns true for a host, and a port if there is a colon after it.
fn is_host_with_port(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if host.parse::<IpAddr>().is_ok() => (host, port.strip_prefix(':')),
            _ => return false,
        },
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let is_host = !host.is_empty() && host.len() <= MAX_HOST && host.bytes().all(is_allowed);
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_reached_with_tls_unless_its_scheme_is_http() {
        for (host, origin) in [
            ("api.example.org", "https://api.example.org"),
            ("API.example.org:443", "https://api.example.org"),
            ("https://h:8443/", "https://h:8443"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(parse_origin(host).as_deref(), Ok(origin));
        }
    }

    #[test]
    fn patterns_paths_users_and_other_schemes_are_no_hosts() {
        for host in [
            "",
            "*.example.org",
            "h/path",
            "h?a=b",
            "u:p@h",
            "h:0",
            "h:",
            "h:x",
            "ftp://h",
            "a b",
            "[::1",
            "[x]:1",
        ] {
            assert!(parse_origin(host).is_err(), "{host}");
        }
        assert!(parse_origin(&"a".repeat(254)).is_err());
    }

    #[test]
    fn a_value_that_no_header_can_hold_is_refused_without_showing_it() {
        let refused = |header: &str, prefix: &str, value: &str| {
            HostSecret::new("h", header, prefix, value).unwrap_err()
        };
        for (header, prefix, value) in [
            ("Host", "", "s3cret"),
            ("Transfer-Encoding", "", "s3cret"),
            ("a b", "", "s3cret"),
            ("X-Key", "a\r\nb: ", "s3cret"),
            ("X-Key", "", ""),
            ("X-Key", "", "s3cret\nmore"),
            ("X-Key", "", "s3cret\u{3}"),
            ("X-Key", "", &"s3cret".repeat(MAX_VALUE)),
        ] {
            let message = refused(header, prefix, value);
            assert!(!message.contains("s3cret") && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_secret_shows_its_value_only_as_a_header() {
        let secret = HostSecret::new("h", "Authorization", "Bearer ", "s3cret").unwrap();
        let value = secret.header_value().unwrap();
        assert_eq!((secret.header().as_str(), value.as_bytes()), ("authorization", &b"Bearer s3cret"[..]));
        assert!(!format!("{secret:?} {value:?}").contains("s3cret"));
    }
}
