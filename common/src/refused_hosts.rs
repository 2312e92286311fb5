//! Hosts that a job tried to reach and that `[network] allow` does not permit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Maximum number of hosts that are counted one by one. It bounds records: a worker can name any number of hosts.
pub const MAX_REFUSED_HOSTS: usize = 20;
/// Name under which the hosts after the first ones are counted together.
pub const OTHER_HOSTS: &str = "other hosts";
/// Advice for a person who wants a job to reach a refused host.
pub const ALLOW_HINT: &str =
    "to allow a host, add it to [network] allow in platform/relay.toml and run `relay restart`";
/// Maximum number of hosts in a description.
const MAX_DESCRIBED: usize = 3;

/// A host that a job was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedHost {
    /// Host and port, such as `example.org:443`, or [`OTHER_HOSTS`].
    pub host: String,
    /// Number of refusals so far.
    pub count: u64,
}

impl RefusedHost {
    fn with_count(&self) -> String {
        match self.count {
            0 | 1 => self.host.clone(),
            count => format!("{} {count} times", self.host),
        }
    }
}

impl fmt::Display for RefusedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused {}", self.with_count())
    }
}

/// Adds a refusal to the list of a job. Counts only grow.
pub fn add_refused(hosts: &mut Vec<RefusedHost>, refused: &RefusedHost) {
    if let Some(known) = hosts.iter_mut().find(|known| known.host == refused.host) {
        known.count = known.count.max(refused.count);
    } else if hosts.len() < MAX_REFUSED_HOSTS {
        hosts.push(refused.clone());
    }
}

/// Counts a refusal of a host. Returns the host's new count if it is to be reported: 1, 10, 100 and so on.
pub fn count_refusal(hosts: &mut Vec<RefusedHost>, host: &str) -> Option<RefusedHost> {
    let is_known = hosts.iter().any(|known| known.host == host);
    // The last place is for all other hosts.
    let host = if is_known || hosts.len() < MAX_REFUSED_HOSTS - 1 { host } else { OTHER_HOSTS };
    let counted = if let Some(known) = hosts.iter_mut().find(|known| known.host == host) {
        known.count = known.count.saturating_add(1);
        known.clone()
    } else {
        let first = RefusedHost { host: host.to_owned(), count: 1 };
        hosts.push(first.clone());
        first
    };
    is_power_of_ten(counted.count).then_some(counted)
}

/// Describes the refused hosts of a job, the newest first; `None` if there are none.
pub fn describe_refused(hosts: &[RefusedHost]) -> Option<String> {
    if hosts.is_empty() {
        return None;
    }
    let described: Vec<String> =
        hosts.iter().rev().take(MAX_DESCRIBED).map(RefusedHost::with_count).collect();
    let more = match hosts.len().saturating_sub(MAX_DESCRIBED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("refused {}{more}", described.join(", ")))
}

fn is_power_of_ten(number: u64) -> bool {
    number.checked_ilog10().is_some_and(|digits| 10_u64.pow(digits) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_is_reported_once_and_then_for_each_tenfold() {
        let mut hosts = Vec::new();
        let reported: Vec<u64> = (0..250)
            .filter_map(|_| count_refusal(&mut hosts, "a.example:443"))
            .map(|host| host.count)
            .collect();
        assert_eq!(reported, [1, 10, 100]);
        assert_eq!(hosts, [RefusedHost { host: "a.example:443".to_owned(), count: 250 }]);
    }

    #[test]
    fn hosts_after_the_first_ones_are_counted_together() {
        let (mut hosts, mut folded) = (Vec::new(), Vec::new());
        for n in 0..1000 {
            if let Some(reported) = count_refusal(&mut hosts, &format!("h{n}:443")) {
                add_refused(&mut folded, &reported);
            }
        }
        assert_eq!((hosts.len(), folded.len()), (MAX_REFUSED_HOSTS, MAX_REFUSED_HOSTS));
        let last = |hosts: &[RefusedHost]| hosts.last().map(|host| (host.host.clone(), host.count));
        let rest = 1000 - (MAX_REFUSED_HOSTS as u64 - 1);
        assert_eq!(last(&hosts), Some((OTHER_HOSTS.to_owned(), rest)));
        assert_eq!(last(&folded), Some((OTHER_HOSTS.to_owned(), 100)));
        let description = "refused other hosts 100 times, h18:443, h17:443 and 17 more";
        assert_eq!(describe_refused(&folded).as_deref(), Some(description));
        assert_eq!(describe_refused(&[]), None);
    }
}
