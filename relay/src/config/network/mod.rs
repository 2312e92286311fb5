//! Table `[network]` of `relay.toml`: the hosts that jobs may reach.
//!
//! * [`pattern`]: a pattern of hosts and ports. * [`registries`]: names that stand for the hosts of well-known registries
//!   and forges.

mod pattern;
mod registries;

use serde::Deserialize;
use toml::Spanned;

use self::pattern::HostPattern;
use super::serde_util::ConfigError;

/// Settings from `[network]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Hosts that jobs may reach.
    pub allow: AllowList,
    /// True if `relay.toml` has the list: where it can't be enforced, no job runs.
    pub is_explicit_allow_list: bool,
}

/// List of the hosts that jobs may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList {
    /// Patterns of the user, which may name private hosts and addresses.
    own: Vec<HostPattern>,
    /// Hosts of well-known registries, all public.
    registries: Vec<HostPattern>,
}

/// Permission to connect to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// The host may be reached at public addresses only.
    Public,
    /// The user has named this very host, so it may be reached at any address.
    AnyAddress,
}

/// Table `[network]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNetwork {
    allow: Option<Vec<Spanned<String>>>,
}

impl RawNetwork {
    /// Checks the patterns, and fills in the default.
    pub(super) fn resolve(raw: Option<Self>) -> Result<NetworkConfig, ConfigError> {
        match raw.and_then(|raw| raw.allow) {
            Some(entries) => {
                Ok(NetworkConfig { allow: AllowList::from_entries(entries)?, is_explicit_allow_list: true })
            }
            None => Ok(NetworkConfig::default()),
        }
    }
}

impl Default for AllowList {
    fn default() -> Self {
        Self { own: Vec::new(), registries: registries::all_hosts() }
    }
}

impl AllowList {
    fn from_entries(entries: Vec<Spanned<String>>) -> Result<Self, ConfigError> {
        let mut list = Self { own: Vec::new(), registries: Vec::new() };
        for entry in entries {
            list.add(entry.get_ref()).map_err(|reason| ConfigError {
                range: entry.span(),
                reason: format!("[network] allow: {reason}"),
            })?;
        }
        Ok(list)
    }

    fn add(&mut self, entry: &str) -> Result<(), String> {
        match registries::hosts_of(entry.trim()) {
            Some(hosts) => self.registries.extend(hosts),
            None => self.own.push(HostPattern::parse(entry)?),
        }
        Ok(())
    }

    /// Creates a list from entries that are valid.
    #[cfg(test)]
    pub fn for_test(entries: &[&str]) -> Self {
        let mut list = Self { own: Vec::new(), registries: Vec::new() };
        for entry in entries {
            list.add(entry).unwrap();
        }
        list
    }

    /// Returns true if every public host may be reached at every port.
    pub fn is_open(&self) -> bool {
        self.own.iter().any(HostPattern::matches_all)
    }

    /// Returns the permission to connect to a port of a host, if there is one. The host is in lower case, without brackets
    /// and without a final dot.
    pub fn permission(&self, host: &str, port: u16) -> Option<Permission> {
        let mut own = self.own.iter().filter(|pattern| pattern.matches(host, port)).peekable();
        let is_own = own.peek().is_some();
        if own.any(HostPattern::names_one_host) {
            return Some(Permission::AnyAddress);
        }
        let is_registry = || self.registries.iter().any(|pattern| pattern.matches(host, port));
        (is_own || is_registry()).then_some(Permission::Public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_permits_registries_and_forges_at_public_addresses() {
        let list = AllowList::default();
        for host in ["registry.npmjs.org", "pypi.org", "index.crates.io", "api.github.com", "deb.debian.org"]
        {
            assert_eq!(list.permission(host, 443), Some(Permission::Public), "{host}");
        }
        assert_eq!(list.permission("deb.debian.org", 80), Some(Permission::Public));
        for (host, port) in
            [("example.org", 443), ("pypi.org", 22), ("evilgithub.com", 443), ("127.0.0.1", 80)]
        {
            assert_eq!(list.permission(host, port), None, "{host}:{port}");
        }
    }

    #[test]
    fn only_a_host_that_the_user_names_may_have_a_private_address() {
        let list = AllowList::for_test(&["npm", "*.corp.example", "git.corp.example", "10.1.2.3:8080"]);
        assert_eq!(list.permission("git.corp.example", 443), Some(Permission::AnyAddress));
        assert_eq!(list.permission("other.corp.example", 443), Some(Permission::Public));
        assert_eq!(list.permission("registry.npmjs.org", 443), Some(Permission::Public));
        assert_eq!(list.permission("10.1.2.3", 8080), Some(Permission::AnyAddress));
        assert_eq!(list.permission("10.1.2.3", 443), None);
        assert_eq!(list.permission("pypi.org", 443), None, "an own list replaces the default");
    }

    #[test]
    fn an_empty_list_permits_nothing_and_a_star_every_public_host() {
        assert_eq!(AllowList::for_test(&[]).permission("pypi.org", 443), None);
        let open = AllowList::for_test(&["*"]);
        let is_open = |entries| AllowList::for_test(entries).is_open();
        assert!(is_open(&["npm", "*"]) && !is_open(&["*:443"]) && !is_open(&[]));
        for (host, port) in [("example.org", 8443), ("10.0.0.1", 22)] {
            assert_eq!(open.permission(host, port), Some(Permission::Public), "{host}");
        }
    }
}
