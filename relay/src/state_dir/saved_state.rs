//! State that a relay stores for the next relay of the project.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::StateDir;
use crate::container_state::ContainerExit;
use crate::engine_kind::EngineKind;
use crate::files::atomic::{self, Durability};
use crate::time::BootScale;

/// State that a relay stores for the next relay of the project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedState {
    /// Port that the relay listened on. The agents reconnect to this port.
    #[serde(default)]
    pub port: Option<u16>,
    /// Id of the platform's own agent.
    #[serde(default)]
    pub agent: Option<String>,
    /// Last exit of the platform's container, kept until every interrupted job has an outcome.
    #[serde(default, rename = "death")]
    pub last_exit: Option<ContainerExit>,
    /// Container engines that may still run containers of this registry.
    #[serde(default)]
    pub engines: Vec<EngineKind>,
    /// Time scale of the relay, which the next relay continues.
    #[serde(default)]
    pub clock: Option<BootScale>,
}

impl SavedState {
    /// Loads the stored state; returns the default if it can't be read.
    pub fn load(state: &StateDir) -> Self {
        let bytes = fs::read(state.saved_state()).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    pub fn store(&self, state: &StateDir, durability: Durability) -> io::Result<()> {
        atomic::replace_file(&state.saved_state(), &serde_json::to_vec(self)?, durability)
    }
}
