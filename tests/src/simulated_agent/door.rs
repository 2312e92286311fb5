//! Where a relay listens, and what it lets in.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Site, until};

/// The files that tell: the relay's lease, and the configuration that it gave its own agent.
#[derive(Debug, Clone)]
pub struct Door {
    registry: PathBuf,
}

impl Door {
    /// The door of a site whose platform has been up once.
    pub fn of(site: &Site) -> Self {
        Self { registry: site.registry() }
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

    /// The token that lets in an agent, as it is now: each start of a relay makes a new one.
    pub fn token(&self) -> String {
        let config = read(&self.registry.join("agent/config.json"));
        config["token"].as_str().unwrap_or_default().to_owned()
    }
}

fn read(path: &Path) -> Value {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
