//! Names of engines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a platform runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// A container of Docker.
    Docker,
    /// A container of Podman.
    Podman,
    /// This machine.
    Local,
}

impl EngineKind {
    /// Its name in flags, configuration and JSON; of a container engine also its command.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Local => "local",
        }
    }

    /// Whether its platform is a container.
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
