//! Pattern of hosts and ports. Pure.

use std::net::{IpAddr, Ipv6Addr};

use common::text_format::one_line;

/// Ports of a pattern that names none: HTTPS and HTTP.
const DEFAULT_PORTS: [u16; 2] = [443, 80];
/// Maximum length of a host name, in bytes (RFC 1035).
const MAX_HOST: usize = 253;
/// Maximum length of a pattern in a message, in bytes.
const MAX_SHOWN: usize = 80;

/// Pattern of hosts, with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPattern {
    hosts: Hosts,
    ports: Ports,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    /// Every host: `*`.
    All,
    /// The hosts below a domain: `*.DOMAIN`. Contains the domain with the dot before it.
    Subdomains(String),
    /// One host, by its name or address.
    One(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    All,
    Default,
    One(u16),
}

impl HostPattern {
    /// Parses `HOST`, `*.DOMAIN`, an address or `*`, each with or without `:PORT`.
    ///
    /// # Errors
    /// One line that says what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let pattern = text.trim().to_ascii_lowercase();
        let shown = one_line(&pattern, MAX_SHOWN);
        if pattern.contains("://") {
            return Err(format!("\"{shown}\" is a URL: write only its host, such as \"example.org\""));
        }
        if let Some((address, _)) = pattern.split_once('/') {
            return Err(if is_address(address) {
                format!("\"{shown}\" is a range of addresses: name each host or address")
            } else {
                format!("\"{shown}\" has a path: write only the host, such as \"example.org\"")
            });
        }
        let (host, port) = split_port(&pattern);
        let ports =
            match port {
                Some(port) => Ports::One(port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                    format!("\"{shown}\" has no valid port: write 1 to 65535 after the colon")
                })?),
                None if host == "*" => Ports::All,
                None => Ports::Default,
            };
        let hosts = parse_hosts(host, port.is_some()).map_err(|reason| format!("\"{shown}\" {reason}"))?;
        Ok(Self { hosts, ports })
    }

    /// Returns true if the pattern matches every port of every host.
    pub(super) fn matches_all(&self) -> bool {
        matches!(self, Self { hosts: Hosts::All, ports: Ports::All })
    }

    /// Returns true if the pattern matches a port of a host.
    pub(super) fn matches(&self, host: &str, port: u16) -> bool {
        let matches_port = match self.ports {
            Ports::All => true,
            Ports::Default => DEFAULT_PORTS.contains(&port),
            Ports::One(one) => one == port,
        };
        matches_port
            && match &self.hosts {
                Hosts::All => true,
                // An address is no name below a domain.
                Hosts::Subdomains(domain) => {
                    host.len() > domain.len() && host.ends_with(domain) && !is_address(host)
                }
                Hosts::One(one) => one == host,
            }
    }

    /// Returns true for a pattern without a `*`.
    pub(super) fn names_one_host(&self) -> bool {
        matches!(self.hosts, Hosts::One(_))
    }
}

/// Splits the port off. The colons of an address of IPv6 are no ports, unless it is in brackets.
fn split_port(pattern: &str) -> (&str, Option<&str>) {
    if pattern.parse::<Ipv6Addr>().is_ok() || pattern.ends_with(']') {
        return (pattern, None);
    }
    pattern.rsplit_once(':').map_or((pattern, None), |(host, port)| (host, Some(port)))
}

fn parse_hosts(host: &str, has_port: bool) -> Result<Hosts, String> {
    let host = host.strip_suffix('.').filter(|host| *host != "*").unwrap_or(host);
    if host == "*" {
        return Ok(Hosts::All);
    }
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(Hosts::One(address.to_string()));
    }
    let domain = host.strip_prefix("*.").unwrap_or(host);
    if domain.is_empty() {
        return Err("names no host: write one, such as \"example.org\"".to_owned());
    }
    if domain.contains('*') {
        return Err("matches nothing: a * stands only for the first part of a name, as in \"*.example.org\""
            .to_owned());
    }
    if !domain.is_ascii() {
        return Err(
            "has letters that no request contains: write the name in its ASCII form (xn--…)".to_owned()
        );
    }
    if domain.len() > MAX_HOST || !domain.split('.').all(is_label) {
        return Err("is no host: write a name or an address, such as \"example.org\"".to_owned());
    }
    if domain.len() < host.len() {
        return Ok(Hosts::Subdomains(format!(".{domain}")));
    }
    if !domain.contains('.') && !has_port && domain != "localhost" {
        return Err("is no registry that relay knows (see `relay help config`): for a host of this name, add its port"
            .to_owned());
    }
    Ok(Hosts::One(domain.to_owned()))
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_its_hosts_at_its_ports() {
        for (pattern, matching, others) in [
            (
                "example.org",
                &["example.org:443", "example.org:80"][..],
                &["example.org:22", "a.example.org:443"][..],
            ),
            ("Example.ORG.:8443", &["example.org:8443"], &["example.org:443"]),
            (
                "*.github.com:443",
                &["api.github.com:443", "a.b.github.com:443"],
                &["github.com:443", "evilgithub.com:443"],
            ),
            ("*", &["a:1", "10.0.0.1:65535"], &[]),
            ("*:443", &["a:443"], &["a:80"]),
            ("localhost", &["localhost:80"], &["localhost.example:80"]),
            ("mirror:8080", &["mirror:8080"], &["mirror:80"]),
            ("10.1.2.3", &["10.1.2.3:80"], &["10.1.2.30:80"]),
            ("[FD00::1]:80", &["fd00::1|80"], &["fd00::1|443"]),
            ("fd00::1", &["fd00::1|443"], &["fd00::2|443"]),
            ("*.1", &["a.1:80"], &["10.0.0.1:80"]),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap();
            let matches = |target: &&str| {
                let (host, port) = target.rsplit_once(['|', ':']).unwrap();
                parsed.matches(host, port.parse().unwrap())
            };
            assert!(matching.iter().all(matches) && !others.iter().any(matches), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_can_t_be_meant_is_refused_with_what_to_write() {
        for (pattern, part) in [
            ("https://example.org", "is a URL: write only its host"),
            ("example.org/path", "has a path"),
            ("10.0.0.0/8", "is a range of addresses"),
            ("fd00::/8", "is a range of addresses"),
            ("example.org:0", "has no valid port"),
            ("example.org:65536", "has no valid port"),
            ("example.org:", "has no valid port"),
            ("", "names no host"),
            ("*.", "names no host"),
            (":443", "names no host"),
            ("api.*.org", "matches nothing"),
            ("*example.org", "matches nothing"),
            ("bücher.example", "xn--"),
            ("a..b", "is no host"),
            ("user@example.org", "is no host"),
            ("a b.example", "is no host"),
            ("nmp", "is no registry that relay knows"),
        ] {
            let reason = HostPattern::parse(pattern).unwrap_err();
            assert!(reason.contains(part) && !reason.contains('\n'), "{pattern}: {reason}");
        }
    }
}
