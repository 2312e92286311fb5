//! Connections to hosts that a job may reach. The address that is connected to is the one that was checked, so a name
//! can't lead to a private network.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::address::{OwnNetworks, is_reachable};
use super::job_network::JobNetwork;
use super::refusal::Refusal;
use super::target::Target;
use crate::config::network::Permission;

/// Time limit for the resolution of a name. The system's resolver repeats a lost query after 5 s.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit for a connection to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of addresses of a host that are tried.
const MAX_ADDRESSES: usize = 6;

/// Connects to a target that the job may reach.
pub(super) async fn connect(target: &Target, network: &JobNetwork) -> Result<TcpStream, Refusal> {
    let permission = network.permission(target)?;
    let unresolved = |reason: String| Refusal::Unresolved(target.to_string(), reason);
    let found = timeout(RESOLVE_TIMEOUT, lookup_host((target.host(), target.port()))).await;
    let found = found.map_err(|_| unresolved("no answer in time".to_owned()))?;
    let found: Vec<SocketAddr> = found.map_err(|e| unresolved(e.to_string()))?.collect();
    let addresses = permitted_addresses(found, permission, &own_networks(permission).await)
        .ok_or_else(|| Refusal::Private(target.to_string()))?;
    let stream = connect_to_any(&addresses).await;
    let stream = stream.map_err(|e| Refusal::Unreachable(target.to_string(), e.to_string()))?;
    // The bytes of a handshake must not wait for each other. If the option can't be set, they only arrive later.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Returns the networks of this machine, as far as they matter for a permission. They change, so they are read each time.
async fn own_networks(permission: Permission) -> OwnNetworks {
    match permission {
        Permission::Public => tokio::task::spawn_blocking(OwnNetworks::read).await.unwrap_or_default(),
        Permission::AnyAddress => OwnNetworks::default(),
    }
}

/// Returns the addresses that may be connected to; `None` if there are addresses, but none may be.
fn permitted_addresses(
    found: Vec<SocketAddr>,
    permission: Permission,
    own: &OwnNetworks,
) -> Option<Vec<SocketAddr>> {
    let is_permitted =
        |address: &SocketAddr| permission == Permission::AnyAddress || is_reachable(address.ip(), own);
    let had_addresses = !found.is_empty();
    let mut permitted: Vec<SocketAddr> = found.into_iter().filter(is_permitted).collect();
    permitted.truncate(MAX_ADDRESSES);
    (!permitted.is_empty() || !had_addresses).then_some(permitted)
}

async fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last_error = io::Error::other("it has no address");
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last_error = error,
            Err(_) => last_error = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_public_addresses_only_unless_it_is_named_itself() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let mixed = addresses(&["10.0.0.1:443", "1.1.1.1:443", "[::1]:443"]);
        let own = OwnNetworks::default();
        let permitted = |permission| permitted_addresses(mixed.clone(), permission, &own);
        assert_eq!(permitted(Permission::Public), Some(addresses(&["1.1.1.1:443"])));
        assert_eq!(permitted(Permission::AnyAddress), Some(mixed.clone()));
        assert_eq!(permitted_addresses(addresses(&["127.0.0.1:80"]), Permission::Public, &own), None);
        assert_eq!(permitted_addresses(Vec::new(), Permission::Public, &own), Some(Vec::new()));
    }
}
