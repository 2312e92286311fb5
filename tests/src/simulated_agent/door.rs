//! Where a relay listens, and what it lets in.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Site, until};

/// The relay's lease, which tells where it listens, and the token that was once given to its own agent.
#[derive(Debug, Clone)]
pub struct Door {
    registry: PathBuf,
    token: String,
}

impl Door {
    /// The door of a site whose platform has been up once.
    pub fn of(site: &Site) -> Self {
        let config = read(&site.registry().join("agent/config.json"));
        let token = config["token"].as_str().unwrap_or_default().to_owned();
        Self { registry: site.registry(), token }
    }

    /// The address, as it is now.
    ///
    /// # Panics
    /// When there is none.
    pub fn address(&self) -> SocketAddr {
        until("the relay's address", || {
            read(&self.registry.join("relay.json"))["listen"][0].as_str()?.parse().ok()
        })
    }

    /// The token, which an agent keeps over restarts of the relay.
    pub fn token(&self) -> &str {
        &self.token
    }
}

fn read(path: &Path) -> Value {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
