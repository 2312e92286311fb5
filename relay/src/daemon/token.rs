//! The agent's token: 256 random bits. The relay keeps its hash alone.

use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The hash that is valid now; each configuration of an agent makes a new token.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    sha256: Arc<Mutex<String>>,
}

impl Gate {
    /// A gate that lets in the token with this hash (hex); none at all if it is empty.
    pub(super) fn new(sha256: String) -> Self {
        Self { sha256: Arc::new(Mutex::new(sha256)) }
    }

    /// A gate that lets in this token.
    pub(super) fn of(token: &str) -> Self {
        Self::new(digest(token))
    }

    /// Makes a new token, the only one that is let in from now on.
    pub(super) fn renew(&self) -> Result<String, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let token = hex::encode(bytes);
        *self.sha256.lock().unwrap_or_else(PoisonError::into_inner) = digest(&token);
        Ok(token)
    }

    /// The hash, for the lease.
    pub(super) fn sha256(&self) -> String {
        self.sha256.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this token is let in. Takes the same time for every wrong one.
    pub(super) fn admits(&self, token: &str) -> bool {
        let expected = self.sha256();
        bool::from(digest(token).as_bytes().ct_eq(expected.as_bytes())) && !expected.is_empty()
    }
}

fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_token_is_let_in() {
        let gate = Gate::new(String::new());
        assert!(!gate.admits(""));
        let old = gate.renew().unwrap();
        let new = gate.renew().unwrap();
        assert!(gate.admits(&new) && !gate.admits(&old) && !gate.admits(&new.to_uppercase()));
        assert!(Gate::new(gate.sha256()).admits(&new));
    }
}
