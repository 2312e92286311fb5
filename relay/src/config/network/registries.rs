//! Names that stand for the hosts of well-known package registries and forges.

use super::pattern::HostPattern;

/// Hosts of each name: those from which the usual tools download in their default settings.
const REGISTRIES: [(&str, &[&str]); 15] = [
    ("npm", &["registry.npmjs.org", "registry.yarnpkg.com", "nodejs.org"]),
    ("pypi", &["pypi.org", "files.pythonhosted.org"]),
    ("crates", &["crates.io", "index.crates.io", "static.crates.io", "static.rust-lang.org"]),
    ("go", &["proxy.golang.org", "sum.golang.org"]),
    ("maven", &["repo.maven.apache.org", "repo1.maven.org", "plugins.gradle.org", "services.gradle.org"]),
    ("rubygems", &["rubygems.org", "index.rubygems.org"]),
    ("packagist", &["packagist.org", "repo.packagist.org"]),
    ("nuget", &["api.nuget.org"]),
    ("debian", &["deb.debian.org", "security.debian.org"]),
    ("ubuntu", &["archive.ubuntu.com", "security.ubuntu.com", "ports.ubuntu.com"]),
    ("alpine", &["dl-cdn.alpinelinux.org"]),
    ("github", &["github.com", "*.github.com", "*.githubusercontent.com"]),
    ("gitlab", &["gitlab.com", "*.gitlab.com"]),
    ("bitbucket", &["bitbucket.org", "*.bitbucket.org"]),
    ("codeberg", &["codeberg.org"]),
];

/// Returns the hosts that a name stands for.
pub(super) fn hosts_of(name: &str) -> Option<Vec<HostPattern>> {
    let (_, hosts) = REGISTRIES.iter().find(|(known, _)| *known == name)?;
    Some(patterns(hosts))
}

/// Returns the hosts of all names.
pub(super) fn all_hosts() -> Vec<HostPattern> {
    REGISTRIES.iter().flat_map(|(_, hosts)| patterns(hosts)).collect()
}

fn patterns(hosts: &[&str]) -> Vec<HostPattern> {
    hosts.iter().filter_map(|host| HostPattern::parse(host).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_hosts_of_registries_are_valid_patterns() {
        for (name, hosts) in REGISTRIES {
            assert_eq!(hosts_of(name).unwrap().len(), hosts.len(), "{name}");
        }
    }
}
