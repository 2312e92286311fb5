//! Kinds of engines, and their names.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

/// Kind of engine that runs the platform.
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
    /// Returns the name in flags, configuration and JSON, which is also the command of a container engine.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns true if the platform of this engine is a container.
    pub fn is_container(self) -> bool {
        self != Self::Local
    }
}

/// Containers that jobs run in, if the engine has containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobContainers {
    /// Each job runs in a container of its own.
    #[default]
    Job,
    /// All jobs run in the platform's container.
    Shared,
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::VARIANTS.iter().copied().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("unknown engine '{text}': use docker, podman or local"))
    }
}
