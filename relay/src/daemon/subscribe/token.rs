//! Token of subscribers: 256 random bits, stored in a file that only the file's owner can read.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;

use crate::daemon::token::TokenVerifier;
use crate::files::atomic::Durability;
use crate::registry::Registry;

/// Length of a token, in hexadecimal digits.
const TOKEN_LEN: usize = 64;
/// Maximum size of the token's file, in bytes. A longer file contains no token.
const MAX_FILE_SIZE: u64 = 4096;

/// Creates a verifier of the token in the registry; the token is created if it does not exist. The token survives
/// restarts, so that clients may store it. If its file is removed, the next start creates a new token.
///
/// # Errors
/// Fails if the file can't be written, or the system has no randomness.
pub(super) fn load_verifier(registry: &Registry) -> io::Result<TokenVerifier> {
    let file = registry.api_token();
    let stored = file.read_text(MAX_FILE_SIZE).unwrap_or_default();
    let stored = stored.trim();
    if stored.len() == TOKEN_LEN && stored.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        file.open()?.set_permissions(Permissions::from_mode(0o600))?;
        return Ok(TokenVerifier::from_token(stored));
    }
    let verifier = TokenVerifier::new().map_err(|e| io::Error::other(e.to_string()))?;
    file.replace(format!("{}\n", verifier.token()).as_bytes(), Durability::Synced)?;
    Ok(verifier)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_is_created_once_and_only_its_owner_can_read_it() {
        let (_dir, registry) = Registry::temporary();
        let made = load_verifier(&registry).unwrap();
        let token = fs::read_to_string(registry.api_token()).unwrap();
        fs::set_permissions(registry.api_token(), Permissions::from_mode(0o644)).unwrap();
        let again = load_verifier(&registry).unwrap();
        assert_eq!(fs::read_to_string(registry.api_token()).unwrap(), token);
        assert_eq!(fs::metadata(registry.api_token()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(made.verify(token.trim()) && again.verify(token.trim()) && !again.verify(""));
        fs::write(registry.api_token(), "short").unwrap();
        let new = load_verifier(&registry).unwrap();
        assert!(!new.verify(token.trim()) && !new.verify("short"));
    }
}
