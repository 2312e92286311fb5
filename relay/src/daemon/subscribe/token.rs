//! Token of subscribers: 256 random bits in a file that only its owner can read.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;

use crate::daemon::token::Gate;
use crate::registry::Registry;
use crate::registry::atomic::Durability;

/// Length of a token, in hexadecimal digits.
const LEN: usize = 64;
/// Maximum number of bytes to read; a longer file is not a token.
const MOST: u64 = 4096;

/// Makes a verifier of the token in the registry, which is created if it does not exist. The token stays the same over
/// restarts, so that programs may keep it; after the file was removed, the next start makes a new one.
///
/// # Errors
/// Fails if the file can't be written, or the system has no randomness.
pub(super) fn gate(registry: &Registry) -> io::Result<Gate> {
    let file = registry.api_token();
    let stored = file.read_text(MOST).unwrap_or_default();
    let stored = stored.trim();
    if stored.len() == LEN && stored.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        file.open()?.set_permissions(Permissions::from_mode(0o600))?;
        return Ok(Gate::of(stored));
    }
    let gate = Gate::new().map_err(|e| io::Error::other(e.to_string()))?;
    file.replace(format!("{}\n", gate.token()).as_bytes(), Durability::Synced)?;
    Ok(gate)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of(dir.path());
        registry.ensure().unwrap();
        let made = gate(&registry).unwrap();
        let token = fs::read_to_string(registry.api_token()).unwrap();
        fs::set_permissions(registry.api_token(), Permissions::from_mode(0o644)).unwrap();
        let again = gate(&registry).unwrap();
        assert_eq!(fs::read_to_string(registry.api_token()).unwrap(), token);
        assert_eq!(fs::metadata(registry.api_token()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(made.admits(token.trim()) && again.admits(token.trim()) && !again.admits(""));
        fs::write(registry.api_token(), "short").unwrap();
        let new = gate(&registry).unwrap();
        assert!(!new.admits(token.trim()) && !new.admits("short"));
    }
}
