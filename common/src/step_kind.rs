//! Kinds of steps.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

/// Kind of work of a step. Each kind has its own time limit.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Display,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StepKind {
    /// The start of the worker, until its first activity.
    Start,
    /// A wait for the model.
    Model,
    /// `git clone` and similar commands.
    Clone,
    /// Fetching dependencies: `npm ci`, `pip install`, `cargo fetch`, `apt-get install`.
    Install,
    /// Other downloads and uploads: curl, wget, rsync, `docker pull`.
    Fetch,
    /// Compilers and bundlers.
    Build,
    /// Test runners.
    Test,
    /// Any other command.
    Command,
    /// A change of files by the worker itself.
    Edit,
    /// A web search.
    Search,
    /// A tool call (MCP, sub-agent).
    Tool,
    /// A command that runs before the worker.
    Setup,
    /// A command that runs after the worker and must succeed.
    Check,
}

impl StepKind {
    /// All kinds, in the order in which the documentation lists them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the name used in flags, configuration and JSON.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the default time limit, in milliseconds.
    pub fn default_limit_ms(self) -> u64 {
        const MINUTE: u64 = 60_000;
        match self {
            Self::Start => MINUTE,
            Self::Clone => 5 * MINUTE,
            Self::Model | Self::Install | Self::Fetch => 10 * MINUTE,
            Self::Command | Self::Edit | Self::Search | Self::Tool => 15 * MINUTE,
            Self::Build => 20 * MINUTE,
            // A setup or check can be any command line: it may build and test.
            Self::Test | Self::Setup | Self::Check => 30 * MINUTE,
        }
    }
}

impl StepKind {
    /// Returns true if work of this kind mostly waits for the network, so that a stall means a hang.
    pub fn is_network(self) -> bool {
        matches!(self, Self::Clone | Self::Install | Self::Fetch)
    }
}

impl FromStr for StepKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!(
                "unknown step kind '{}': use one of {}",
                crate::text_format::one_line(text, 40),
                known.join(", ")
            )
        })
    }
}
