//! The agents' token: 256 random bits. On the disk the relay keeps its hash alone.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Tokens of earlier relays that are let in still: agents that the engine does not configure keep theirs over as many
/// restarts.
const OLDER: usize = 16;

/// Who is let in: whoever has this process's token, or one of the relays before it.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    token: Arc<str>,
    /// Hashes (hex), the newest first.
    sha256: Arc<[String]>,
}

impl Gate {
    /// A gate with a token that nobody has yet. `older` are the hashes (hex) of those before it, the newest first.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn new(older: Vec<String>) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let mut gate = Self::of(&hex::encode(bytes));
        gate.sha256 = gate.sha256.iter().cloned().chain(older).take(1 + OLDER).collect();
        Ok(gate)
    }

    /// A gate for one token alone.
    pub(super) fn of(token: &str) -> Self {
        Self { token: token.into(), sha256: [digest(token)].into() }
    }

    /// The token.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The hashes for the lease, the newest first.
    pub(super) fn sha256(&self) -> Vec<String> {
        self.sha256.to_vec()
    }

    /// Whether this token is let in. Takes the same time for every wrong one.
    pub(super) fn admits(&self, token: &str) -> bool {
        let digest = digest(token);
        let equal = |known: &String| digest.as_bytes().ct_eq(known.as_bytes());
        bool::from(self.sha256.iter().fold(Choice::from(0), |found, known| found | equal(known)))
    }
}

fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_has_one_token_and_lets_in_those_of_the_relays_before_it() {
        let gate = Gate::new(Vec::new()).unwrap();
        let next = Gate::new(gate.sha256()).unwrap();
        assert!(next.admits(next.token()) && next.admits(gate.token()) && !next.admits(""));
        assert!(!next.admits(&next.token().to_uppercase()));
        assert!(!gate.admits(next.token()), "nobody knows a token before it is made");
    }

    #[test]
    fn the_tokens_of_relays_long_gone_are_forgotten() {
        let first = Gate::new(Vec::new()).unwrap();
        let mut gate = first.clone();
        for _ in 0..OLDER {
            gate = Gate::new(gate.sha256()).unwrap();
        }
        assert!(gate.admits(first.token()));
        assert!(!Gate::new(gate.sha256()).unwrap().admits(first.token()));
    }
}
