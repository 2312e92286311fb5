//! Names of engines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Engine of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// A Docker container.
    Docker,
    /// A Podman container.
    Podman,
    /// This machine.
    Local,
}

impl EngineKind {
    /// Name in flags, configuration and JSON; for a container engine also its command.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Local => "local",
        }
    }

    /// Returns true if its platform is a container.
    pub fn is_container(self) -> bool {
        self != Self::Local
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Docker, Self::Podman, Self::Local]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("unknown engine '{text}': use docker, podman or local"))
    }
}
