//! State that a relay leaves for the next one.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::StateDir;
use crate::engine::EngineKind;
use crate::registry::atomic::{self, Durability};
use crate::registry::lease::Death;
use crate::time::BootScale;

/// State that a relay leaves for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The port it listened on: its agents come back there.
    #[serde(default)]
    pub port: Option<u16>,
    /// The id of the platform's own agent.
    #[serde(default)]
    pub agent: Option<String>,
    /// How its container last died, until every job that this cut off has its end.
    #[serde(default)]
    pub death: Option<Death>,
    /// Container engines on which something of this registry may still run.
    #[serde(default)]
    pub engines: Vec<EngineKind>,
    /// The scale of its times.
    #[serde(default)]
    pub clock: Option<BootScale>,
}

impl Memory {
    /// Loads the stored state; the default where it can't be read.
    pub fn load(state: &StateDir) -> Self {
        let bytes = fs::read(state.memory()).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Stores it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn store(&self, state: &StateDir, durability: Durability) -> io::Result<()> {
        atomic::replace(&state.memory(), &serde_json::to_vec(self)?, durability)
    }
}
