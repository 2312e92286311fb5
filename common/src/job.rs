//! The job spec: what to run and under which limits.
//!
//! A spec travels as JSON, in the registry as well as inside [`crate::wire::RelayFrame::Start`], so that it can grow
//! fields without a new protocol version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::rule::{OnLimit, OnLoop, StepRule};

/// Version of the spec's JSON.
pub const SPEC_SCHEMA: u32 = 1;

/// Longest prompt, in bytes. A spec must fit into one message of the wire with room for its other fields.
pub const MAX_PROMPT: usize = 512 * 1024;

/// Most jobs that one agent runs at once: each takes some dozen descriptors, of which a process usually has 1024.
pub const MOST_JOBS: u32 = 50;

/// Longest spec as JSON, in bytes: a message of 1 MiB less the frame around it.
pub const MAX_SPEC: usize = 1024 * 1024 - 4096;

/// What kind of work a step is. Limits are set per kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// From the command's start to its first sign of life.
    Start,
    /// Waiting for the model.
    Model,
    /// `git clone` and the like.
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
    /// A command before the worker.
    Setup,
    /// A command after the worker that must succeed.
    Check,
}

impl StepKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::Start,
        Self::Model,
        Self::Clone,
        Self::Install,
        Self::Fetch,
        Self::Build,
        Self::Test,
        Self::Command,
        Self::Edit,
        Self::Search,
        Self::Tool,
        Self::Setup,
        Self::Check,
    ];

    /// Its name in flags, configuration and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Model => "model",
            Self::Clone => "clone",
            Self::Install => "install",
            Self::Fetch => "fetch",
            Self::Build => "build",
            Self::Test => "test",
            Self::Command => "command",
            Self::Edit => "edit",
            Self::Search => "search",
            Self::Tool => "tool",
            Self::Setup => "setup",
            Self::Check => "check",
        }
    }

    /// The default time limit, in milliseconds.
    pub fn default_limit_ms(self) -> u64 {
        const MINUTE: u64 = 60_000;
        match self {
            Self::Start => MINUTE,
            Self::Clone => 5 * MINUTE,
            Self::Model | Self::Install | Self::Fetch => 10 * MINUTE,
            Self::Command | Self::Edit | Self::Search | Self::Tool => 15 * MINUTE,
            Self::Build => 20 * MINUTE,
            // A setup or check is any command line: it may build and test.
            Self::Test | Self::Setup | Self::Check => 30 * MINUTE,
        }
    }
}

impl StepKind {
    /// Whether work of this kind waits for the network above all, so that silence of its processes means a hang.
    pub fn is_network(self) -> bool {
        matches!(self, Self::Clone | Self::Install | Self::Fetch)
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StepKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!(
                "unknown step kind '{}': use one of {}",
                crate::text::one_line(text, 40),
                known.join(", ")
            )
        })
    }
}

/// Time limits of a job, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The whole job, from its acceptance to its end.
    pub job_ms: u64,
    /// From the request to end to the last process killed.
    pub grace_ms: u64,
    /// Limits that differ from [`StepKind::default_limit_ms`].
    pub steps: BTreeMap<StepKind, u64>,
    /// How long a step may make no progress. Network kinds fail then; others are warned of, because quiet can be healthy.
    #[serde(default = "default_stall_ms")]
    pub stall_ms: u64,
    /// Kinds with a stall limit of their own, which fail at it whether they are network kinds or not.
    #[serde(default)]
    pub stalls: BTreeMap<StepKind, u64>,
}

fn default_stall_ms() -> u64 {
    Limits::STALL_MS
}

impl Limits {
    /// The default limit of a whole job: 4 hours.
    pub const JOB_MS: u64 = 4 * 3600 * 1000;
    /// The default grace: 5 seconds.
    pub const GRACE_MS: u64 = 5000;
    /// The default stall limit: 2 minutes.
    pub const STALL_MS: u64 = 120_000;

    /// The limit of a step of this kind.
    pub fn step_ms(&self, kind: StepKind) -> u64 {
        self.steps.get(&kind).copied().unwrap_or_else(|| kind.default_limit_ms())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            job_ms: Self::JOB_MS,
            grace_ms: Self::GRACE_MS,
            steps: BTreeMap::new(),
            stall_ms: Self::STALL_MS,
            stalls: BTreeMap::new(),
        }
    }
}

/// What carries out the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runner {
    /// `codex exec` with the prompt on its stdin.
    Codex,
    /// `sh -c` with the prompt as the command line.
    Shell,
}

/// Codex's own sandbox around the commands of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// Writing in the workspace only, with network access.
    WorkspaceWrite,
    /// None: the container is the sandbox.
    Off,
}

/// The beginning of why no worker can run in a container whose settings ask for [`Sandbox::WorkspaceWrite`] in it.
pub const NO_SANDBOX: &str = "Codex's sandbox can't work in this container";

/// How Codex is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodexSettings {
    /// Its program: a name looked up on the agent's `PATH`, or a path.
    pub program: String,
    /// The model; Codex's own default where none is given.
    pub model: Option<String>,
    /// Its sandbox.
    pub sandbox: Sandbox,
    /// Further arguments, put behind those of the product.
    pub args: Vec<String>,
}

impl Default for CodexSettings {
    fn default() -> Self {
        Self { program: "codex".to_owned(), model: None, sandbox: Sandbox::Off, args: Vec::new() }
    }
}

/// Everything the agent must know to run a job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// [`SPEC_SCHEMA`].
    pub schema: u32,
    /// Which job.
    pub job: JobId,
    /// What carries out the prompt.
    pub runner: Runner,
    /// The task, or the command line with [`Runner::Shell`].
    pub prompt: String,
    /// The working folder as the agent sees it.
    pub workspace: String,
    /// Environment values for the worker; dropped from the registry's copy once the agent has them.
    pub env: BTreeMap<String, String>,
    /// Names of the environment values that were dropped, so that a retry knows which to ask for.
    #[serde(default)]
    pub env_names: BTreeSet<String>,
    /// Command lines before the worker; the first that fails ends the job.
    pub setup: Vec<String>,
    /// Command lines after the worker; the first that fails makes the job `failed: check_failed`.
    pub checks: Vec<String>,
    /// Time limits.
    pub limits: Limits,
    /// Rules for steps, before the built-in ones.
    #[serde(default)]
    pub rules: Vec<StepRule>,
    /// What happens at a step's limit unless a rule says otherwise.
    #[serde(default)]
    pub on_limit: OnLimit,
    /// What happens when its worker goes round in a circle.
    #[serde(default)]
    pub on_loop: OnLoop,
    /// How Codex is called.
    pub codex: CodexSettings,
    /// The Codex thread to go on with; a new one otherwise.
    #[serde(default)]
    pub thread: Option<String>,
}

// By hand, so that no environment value can get into a log.
impl fmt::Debug for JobSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSpec")
            .field("job", &self.job)
            .field("runner", &self.runner)
            .field("workspace", &self.workspace)
            .field("env", &self.env.keys())
            .field("env_names", &self.env_names)
            .field("limits", &self.limits)
            .field("codex", &self.codex)
            .finish_non_exhaustive()
    }
}

/// Whether this is an id that Codex gives its threads: a UUID in its usual form. Of anything else Codex makes a new
/// thread without a word.
pub fn is_thread(text: &str) -> bool {
    let mut bytes = text.bytes().enumerate();
    text.len() == 36
        && bytes.all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_is_a_thread() {
        assert!(is_thread("01a203ca-9b3a-74f0-a0f9-92040009a617"));
        for bad in [
            "",
            "my thread",
            "--last",
            "01a203ca-9b3a-74f0-a0f9-92040009a61",
            "01a203ca-9b3a-74f0-a0f9-92040009a61g",
            "01a203ca.9b3a-74f0-a0f9-92040009a617",
        ] {
            assert!(!is_thread(bad), "{bad}");
        }
    }

    #[test]
    fn every_kind_reads_back_from_its_name_and_its_json() {
        for kind in StepKind::ALL {
            assert_eq!(kind.as_str().parse::<StepKind>(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("instal".parse::<StepKind>().unwrap_err().contains("install"));
    }

    #[test]
    fn a_limit_that_is_set_replaces_the_default() {
        let mut limits = Limits::default();
        assert_eq!(limits.step_ms(StepKind::Install), 600_000);
        limits.steps.insert(StepKind::Install, 5000);
        assert_eq!(limits.step_ms(StepKind::Install), 5000);
    }
}
