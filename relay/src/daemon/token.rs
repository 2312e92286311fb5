//! The token that all subscribers of the event stream present: 256 random bits.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Verifier of the subscribers' token.
#[derive(Debug, Clone)]
pub(super) struct TokenVerifier {
    token: Arc<str>,
}

impl TokenVerifier {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self::from_token(&hex::encode(bytes)))
    }

    pub(super) fn from_token(token: &str) -> Self {
        Self { token: token.into() }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Compares a client's token with this verifier's token in constant time; returns true if they are equal.
    pub(super) fn verify(&self, token: &str) -> bool {
        bool::from(Sha256::digest(token.as_bytes()).ct_eq(&Sha256::digest(self.token.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_accepts_its_own_token_and_no_other() {
        let (verifier, other) = (TokenVerifier::new().unwrap(), TokenVerifier::new().unwrap());
        assert!(verifier.verify(verifier.token()) && !verifier.verify(other.token()) && !verifier.verify(""));
        assert!(!verifier.verify(&verifier.token().to_uppercase()));
    }
}
