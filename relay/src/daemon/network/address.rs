//! Public addresses and others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sysinfo::Networks;

/// Networks of IPv4 that are not public, with the length of their prefix (RFC 6890 and others).
const RESERVED_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Shared by the customers of a provider.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local: has the metadata service of many clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, and everything after it.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Networks of IPv6 in the public range that are not public themselves, or that lead to any address of IPv4: with the
/// length of their prefix.
const RESERVED_V6: [(Ipv6Addr, u32); 3] = [
    // Teredo and other protocols.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];
/// The range of public addresses of IPv6.
const PUBLIC_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Minimum prefix length of a network of IPv6 around this machine: routers announce 64 bits to it. A shorter prefix belongs
/// to a tunnel, which leads anywhere.
const MIN_LINK_PREFIX: u32 = 48;

/// Networks that this machine is in.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnNetworks(Vec<(IpAddr, u32)>);

impl OwnNetworks {
    /// Reads the addresses of this machine's interfaces. Blocks for some milliseconds.
    pub(super) fn read() -> Self {
        let interfaces = Networks::new_with_refreshed_list();
        let networks = interfaces.values().flat_map(|interface| interface.ip_networks());
        Self(networks.map(|network| (network.addr.to_canonical(), network.prefix.into())).collect())
    }

    /// Returns true for the address of an interface, and for one of IPv6 on the link of an interface.
    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|(own, prefix)| match (*own, address) {
            (IpAddr::V6(own), IpAddr::V6(address)) if (MIN_LINK_PREFIX..=128).contains(prefix) => {
                contains_v6((own, *prefix), address)
            }
            (own, address) => own == address,
        })
    }
}

/// Returns true for an address on the internet that is no address of this machine or its link.
pub(super) fn is_reachable(address: IpAddr, own: &OwnNetworks) -> bool {
    is_public(address) && !own.contains(address)
}

/// Returns true for an address that belongs to a host on the internet, and to no machine or network around this one.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !RESERVED_V4.iter().any(|network| contains_v4(*network, address)),
        IpAddr::V6(address) => {
            contains_v6(PUBLIC_V6, address)
                && !RESERVED_V6.iter().any(|network| contains_v6(*network, address))
        }
    }
}

fn contains_v4((network, prefix): (Ipv4Addr, u32), address: Ipv4Addr) -> bool {
    (network.to_bits() ^ address.to_bits()).leading_zeros() >= prefix
}

fn contains_v6((network, prefix): (Ipv6Addr, u32), address: Ipv6Addr) -> bool {
    (network.to_bits() ^ address.to_bits()).leading_zeros() >= prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_of_this_machine_and_its_link_are_not_reached() {
        let network = |address: &str, prefix| (address.parse().unwrap(), prefix);
        let own = OwnNetworks(vec![
            network("5.6.7.8", 24),
            network("2600:1:2:3::4", 64),
            network("2600:9::1", 128),
            network("2600::1", 3),
        ]);
        for address in ["5.6.7.8", "::ffff:5.6.7.8", "2600:1:2:3:ff::1", "2600:9::1", "2600::1", "10.0.0.1"] {
            assert!(!is_reachable(address.parse().unwrap(), &own), "{address}");
        }
        for address in ["5.6.7.9", "2600:1:2:4::4", "2600:9::2", "2600::2"] {
            assert!(is_reachable(address.parse().unwrap(), &own), "{address}");
        }
    }

    #[test]
    fn the_addresses_of_this_machine_are_found() {
        assert!(OwnNetworks::read().contains(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn only_addresses_on_the_internet_are_public() {
        for address in
            ["1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "223.255.255.255", "2606:4700::1"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.17.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.2.2",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
