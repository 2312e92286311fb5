//! Names of engines.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

/// Engine of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
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
        self.into()
    }

    /// Returns true if its platform is a container.
    pub fn is_container(self) -> bool {
        self != Self::Local
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::VARIANTS.iter().copied().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("unknown engine '{text}': use docker, podman or local"))
    }
}
