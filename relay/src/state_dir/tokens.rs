//! Tokens of the agents: 256 random bits each, of which the relay stores only the hash.
//!
//! ```text
//!  minted ──first hello with it──► bound to that agent's id ──► revoked
//!     └──────────────────────────────────────────────────────────┘ a newer token of its holder is used, `relay down`
//! ```
//!
//! One file per token, named after its hash. Every process of the relay looks for that file: once one of them removes it,
//! the token is valid for none.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::atomic::{self, Durability};

/// Name of the holder of the tokens that a relay gives to the agent of its platform.
pub const PLATFORM_HOLDER: &str = "platform";
/// Beginning of the names of the holders that are containers of single jobs.
const BOX_HOLDER_PREFIX: &str = "job ";

/// Returns the name of the holder of the token in the container of a single job, whose agent has this id.
pub fn box_holder(agent: &str) -> String {
    format!("{BOX_HOLDER_PREFIX}{agent}")
}

/// Kind of the holder of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolderKind {
    /// The platform's own agent.
    Platform,
    /// The agent in the container of a single job.
    Box,
    /// Any other agent.
    Other,
}

impl HolderKind {
    fn of_holder(holder: &str) -> Self {
        match holder {
            PLATFORM_HOLDER => Self::Platform,
            holder if holder.starts_with(BOX_HOLDER_PREFIX) => Self::Box,
            _ => Self::Other,
        }
    }
}

/// Properties of a token that are stored under its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct IssuedToken {
    /// Holder of the token, such as the platform. A new token for the same holder replaces this one.
    holder: String,
    /// Agent that used the token first; no other agent may use it.
    #[serde(default)]
    agent: Option<String>,
}

/// Id of a token that is currently valid, without the token itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenId(String);

impl TokenId {
    fn hash(token: &str) -> Self {
        Self(hex::encode(Sha256::digest(token.as_bytes())))
    }
}

/// Reason why an agent may not use a token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The token was revoked, or never issued.
    #[error("this token is no longer valid: `relay up` gives the agent a new one")]
    Revoked,
    /// Another agent used the token first.
    #[error("this token belongs to another agent")]
    Foreign {
        /// True for the first attempt with this token; only this attempt is logged.
        is_first: bool,
    },
    /// The binding of the token to the agent can't be stored.
    #[error("the token can't be bound to its agent: {0}")]
    NotStored(io::ErrorKind),
}

/// Store of the tokens that the agents of one project use.
#[derive(Debug, Clone)]
pub struct AgentTokens {
    dir: PathBuf,
    /// Tokens that another agent has tried to use.
    misused_tokens: Arc<Mutex<BTreeSet<TokenId>>>,
}

impl AgentTokens {
    pub fn in_folder(dir: PathBuf) -> Self {
        Self { dir, misused_tokens: Arc::default() }
    }

    /// Creates a token, which is stored and valid before it is returned.
    pub fn mint(&self, holder: &str) -> io::Result<String> {
        self.mint_for(holder, None)
    }

    /// Creates the token for the container of a single job. Only the agent with this id can use it.
    pub fn mint_for_box(&self, agent: &str) -> io::Result<String> {
        self.mint_for(&box_holder(agent), Some(agent.to_owned()))
    }

    fn mint_for(&self, holder: &str, agent: Option<String>) -> io::Result<String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
        let token = hex::encode(bytes);
        self.store(&TokenId::hash(&token), &IssuedToken { holder: holder.to_owned(), agent })?;
        Ok(token)
    }

    /// Returns the id of a token; `None` if the token is not valid.
    pub fn find(&self, token: &str) -> Option<TokenId> {
        let id = TokenId::hash(token);
        self.load(&id).map(|_| id)
    }

    /// Binds a token to an agent. From then on no other agent can use it. If the token is of the platform, the tokens
    /// of earlier agents of the platform are revoked. Returns the kind of the token's holder.
    ///
    /// # Errors
    /// Returns [`Denied`] with the reason.
    pub fn bind(&self, id: &TokenId, agent: &str) -> Result<HolderKind, Denied> {
        let issued = self.load(id).ok_or(Denied::Revoked)?;
        let kind = HolderKind::of_holder(&issued.holder);
        match &issued.agent {
            Some(owner) if owner == agent => Ok(kind),
            Some(_) => {
                let mut misused_tokens = self.misused_tokens.lock().unwrap_or_else(PoisonError::into_inner);
                Err(Denied::Foreign { is_first: misused_tokens.insert(id.clone()) })
            }
            None => {
                self.store(id, &IssuedToken { agent: Some(agent.to_owned()), ..issued })
                    .map_err(|e| Denied::NotStored(e.kind()))?;
                if kind == HolderKind::Platform {
                    // The relay that issued this token may have been killed before it revoked the older tokens.
                    let is_old =
                        |issued: &IssuedToken| issued.holder == PLATFORM_HOLDER && issued.agent.is_some();
                    self.revoke_matching(|other, issued| other != id && is_old(issued));
                }
                Ok(kind)
            }
        }
    }

    /// Returns the agents among `agents` that have no valid token and therefore can't reconnect.
    pub fn agents_without_token(&self, mut agents: Vec<String>) -> Vec<String> {
        let issued = self.issued_tokens();
        agents.retain(|agent| !issued.iter().any(|(_, issued)| issued.agent.as_ref() == Some(agent)));
        agents
    }

    /// Returns true if a holder has a valid token.
    pub fn has_token(&self, holder: &str) -> bool {
        self.issued_tokens().iter().any(|(_, issued)| issued.holder == holder)
    }

    pub fn revoke(&self, token: &str) {
        self.remove(&TokenId::hash(token));
    }

    /// Revokes every token of a holder but `newest`.
    pub fn revoke_older(&self, holder: &str, newest: Option<&str>) {
        let newest = newest.map(TokenId::hash);
        self.revoke_matching(|id, issued| issued.holder == holder && newest.as_ref() != Some(id));
    }

    pub fn revoke_all(&self) {
        self.revoke_matching(|_, _| true);
    }

    fn revoke_matching(&self, must_revoke: impl Fn(&TokenId, &IssuedToken) -> bool) {
        for (id, issued) in self.issued_tokens() {
            if must_revoke(&id, &issued) {
                self.remove(&id);
            }
        }
    }

    fn remove(&self, id: &TokenId) {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::error!("a token can't be revoked: {}: {e}", path.display());
            }
            _ => {}
        }
    }

    fn issued_tokens(&self) -> Vec<(TokenId, IssuedToken)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let ids = entries
            .filter_map(|entry| Some(TokenId(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned())));
        ids.filter_map(|id| self.load(&id).map(|issued| (id, issued))).collect()
    }

    fn load(&self, id: &TokenId) -> Option<IssuedToken> {
        serde_json::from_slice(&fs::read(self.path(id)).ok()?).ok()
    }

    fn store(&self, id: &TokenId, issued: &IssuedToken) -> io::Result<()> {
        atomic::replace_file(&self.path(id), &serde_json::to_vec(issued)?, Durability::Synced)
    }

    fn path(&self, id: &TokenId) -> PathBuf {
        self.dir.join(format!("{}.json", id.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> (tempfile::TempDir, AgentTokens) {
        let dir = tempfile::tempdir().unwrap();
        let tokens = AgentTokens::in_folder(dir.path().to_owned());
        (dir, tokens)
    }

    #[test]
    fn a_token_belongs_to_the_first_agent_that_uses_it_and_is_on_disk_as_a_hash_alone() {
        let (dir, tokens) = tokens();
        let token = tokens.mint(PLATFORM_HOLDER).unwrap();
        assert_eq!(token.len(), 64);
        let id = tokens.find(&token).unwrap();
        assert_eq!(tokens.find(&token.to_uppercase()), None);
        assert_eq!(tokens.find(""), None);
        assert_eq!(tokens.find(&id.0), None, "a hash is not a token");
        assert_eq!(tokens.bind(&id, "a"), Ok(HolderKind::Platform));
        assert_eq!(tokens.bind(&id, "b"), Err(Denied::Foreign { is_first: true }));
        assert_eq!(tokens.bind(&id, "b"), Err(Denied::Foreign { is_first: false }));
        assert_eq!(tokens.bind(&id, "a"), Ok(HolderKind::Platform));
        for entry in fs::read_dir(dir.path()).unwrap().flatten() {
            let text = format!("{entry:?} {}", fs::read_to_string(entry.path()).unwrap());
            assert!(!text.contains(&token), "{text}");
        }
    }

    #[test]
    fn the_token_of_a_single_job_belongs_to_the_agent_in_its_container() {
        let (_dir, tokens) = tokens();
        let token = tokens.mint_for_box("b0").unwrap();
        let id = tokens.find(&token).unwrap();
        assert_eq!(tokens.bind(&id, "b1"), Err(Denied::Foreign { is_first: true }));
        assert_eq!(tokens.bind(&id, "b0"), Ok(HolderKind::Box));
        tokens.revoke_older(&box_holder("b0"), None);
        assert_eq!(tokens.bind(&id, "b0"), Err(Denied::Revoked));
    }

    #[test]
    fn a_revoked_token_is_invalid_and_others_stay_valid() {
        let (_dir, tokens) = tokens();
        let [old, new, other] =
            [PLATFORM_HOLDER, PLATFORM_HOLDER, "box"].map(|holder| tokens.mint(holder).unwrap());
        let id = tokens.find(&old).unwrap();
        tokens.revoke_older(PLATFORM_HOLDER, Some(&new));
        assert_eq!((tokens.find(&old), tokens.bind(&id, "a")), (None, Err(Denied::Revoked)));
        assert!(tokens.find(&new).is_some() && tokens.find(&other).is_some());
        tokens.revoke_all();
        assert!(tokens.find(&new).is_none() && !tokens.has_token(PLATFORM_HOLDER));
    }

    #[test]
    fn the_first_use_of_a_new_platform_token_revokes_the_older_one() {
        let (_dir, tokens) = tokens();
        let [old, new, other] = [PLATFORM_HOLDER, PLATFORM_HOLDER, "box"].map(|holder| {
            let token = tokens.mint(holder).unwrap();
            tokens.find(&token).unwrap()
        });
        let agents = || tokens.agents_without_token(["a", "b", "c"].map(str::to_owned).to_vec());
        assert_eq!(tokens.bind(&other, "c"), Ok(HolderKind::Other));
        assert_eq!(tokens.bind(&old, "a"), Ok(HolderKind::Platform));
        assert_eq!(agents(), ["b"]);
        assert_eq!(tokens.bind(&new, "b"), Ok(HolderKind::Platform));
        assert_eq!(agents(), ["a"]);
        assert_eq!(tokens.bind(&old, "a"), Err(Denied::Revoked));
    }
}
