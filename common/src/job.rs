//! The job spec: everything that the agent needs to run a job, such as the task, the workspace and the limits.
//!
//! A spec is encoded as JSON, both in the registry and inside [`crate::wire::RelayFrame::Start`], so that it can gain
//! fields without a new protocol version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::expectation::Expectation;
use crate::folder::FolderUse;
use crate::hold::OnQuota;
use crate::ids::JobId;
use crate::place::PlaceSpec;
use crate::rule::{OnLimit, OnLoop, StepRule};
pub use crate::step_kind::StepKind;

/// Version of the spec's JSON.
pub const SPEC_SCHEMA_VERSION: u32 = 1;

/// Maximum length of a prompt, in bytes. It leaves space for the other fields of a spec, see [`MAX_SPEC`].
pub const MAX_PROMPT: usize = 512 * 1024;

/// Maximum number of jobs that one agent runs at once. Each job takes about a dozen of the 1024 file descriptors that
/// a process may usually have.
pub const MAX_AGENT_JOBS: u32 = 50;

/// Maximum number of images that Codex gets with the prompt of a job.
pub const MAX_IMAGES: usize = 10;

/// Maximum length of all images of a job together, in bytes.
pub const MAX_TOTAL_IMAGE_BYTES: u64 = 50 << 20;

/// Maximum length of a spec as JSON, in bytes: a message of the wire has 1 MiB, minus the other fields of its frame.
pub const MAX_SPEC: usize = 1024 * 1024 - 4096;

/// Limits of a job. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Limit of the whole job, from its acceptance to its end.
    pub job_ms: u64,
    /// Grace period: the time from the request to end the job until the last of its processes is killed.
    pub grace_ms: u64,
    /// Limits of steps, by kind. Other kinds have [`StepKind::default_limit_ms`].
    pub steps: BTreeMap<StepKind, u64>,
    /// Stall limit: the maximum time of a step without progress. At this limit a step of a network kind fails. Any
    /// other step causes a warning, because it can be healthy without visible progress.
    #[serde(default = "default_stall_ms")]
    pub stall_ms: u64,
    /// Stall limits of some kinds, instead of `stall_ms`. A step of such a kind fails at its stall limit even if the
    /// kind does not use the network.
    #[serde(default)]
    pub stalls: BTreeMap<StepKind, u64>,
    /// Budget for the model, which the relay enforces.
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,
}

fn default_stall_ms() -> u64 {
    Limits::STALL_MS
}

impl Limits {
    /// Default limit of a whole job: 4 hours.
    pub const JOB_MS: u64 = 4 * 3600 * 1000;
    /// Default grace period: 5 seconds.
    pub const GRACE_MS: u64 = 5000;
    /// Default stall limit: 2 minutes.
    pub const STALL_MS: u64 = 120_000;

    /// Returns the limit of a step of this kind, in milliseconds.
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
            budget: Budget::default(),
        }
    }
}

/// Program that executes the prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Runner {
    /// `codex exec` with the prompt on its stdin.
    #[default]
    Codex,
    /// `sh -c` with the prompt as the command line.
    Shell,
}

/// Mode of Codex's own sandbox, in which the commands of the model run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// Allows writing in the workspace only, and network access.
    WorkspaceWrite,
    /// No sandbox of Codex: the container is the sandbox.
    Off,
}

/// Beginning of the error message if a setting requires [`Sandbox::WorkspaceWrite`] in a container.
pub const NO_SANDBOX_IN_CONTAINER: &str = "Codex's sandbox can't work in this container";

/// Settings for calling Codex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodexSettings {
    /// Program: a name looked up on the agent's `PATH`, or a path.
    pub program: String,
    /// Requested model; `None` for Codex's own default.
    pub model: Option<String>,
    /// Sandbox mode.
    pub sandbox: Sandbox,
    /// Additional arguments of the user, which follow those that relay sets.
    pub args: Vec<String>,
}

impl Default for CodexSettings {
    fn default() -> Self {
        Self { program: "codex".to_owned(), model: None, sandbox: Sandbox::Off, args: Vec::new() }
    }
}

/// Everything that the agent needs to run a job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Version of the spec's JSON, [`SPEC_SCHEMA_VERSION`].
    pub schema: u32,
    /// Id of the job.
    pub job: JobId,
    /// Program that executes the prompt.
    pub runner: Runner,
    /// The task, or the command line for [`Runner::Shell`].
    pub prompt: String,
    /// Working folder on the agent's platform.
    pub workspace: String,
    /// Environment variables of the worker; removed from the registry's copy once the agent has them.
    pub env: BTreeMap<String, String>,
    /// Names of the variables removed from `env`, so that a retry can request their values.
    #[serde(default)]
    pub env_names: BTreeSet<String>,
    /// Command lines that run before the worker; the first that fails ends the job.
    pub setup: Vec<String>,
    /// Command lines that run after the worker; the first that fails makes the job `failed: check_failed`.
    pub checks: Vec<String>,
    /// Limits of the job and of its steps.
    pub limits: Limits,
    /// The user's rules for steps, which are tried before the built-in rules.
    #[serde(default)]
    pub rules: Vec<StepRule>,
    /// Action when a step exceeds its limit, unless a rule sets another action.
    #[serde(default)]
    pub on_limit: OnLimit,
    /// Action when the worker repeats itself and changes no file.
    #[serde(default)]
    pub on_loop: OnLoop,
    /// Action when the account's usage limit for the model is reached.
    #[serde(default, skip_serializing_if = "OnQuota::is_fail")]
    pub on_quota: OnQuota,
    /// Settings for calling Codex.
    pub codex: CodexSettings,
    /// Codex thread to continue; `None` starts a new one.
    #[serde(default)]
    pub thread: Option<String>,
    /// Clone that the job works in; `None` for a job that works in `workspace` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceSpec>,
    /// What the job must leave behind. If something is missing, an otherwise completed job fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expectation>,
    /// True if the job does not wait for other jobs that work in its workspace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share: bool,
    /// Names of the images that Codex gets with the prompt, such as `1.png`. The relay has their content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
}

impl JobSpec {
    /// Returns a spec with these values and defaults for everything else.
    pub fn new(job: JobId, runner: Runner, prompt: &str, workspace: &str) -> Self {
        Self {
            schema: SPEC_SCHEMA_VERSION,
            job,
            runner,
            prompt: prompt.to_owned(),
            workspace: workspace.to_owned(),
            env: BTreeMap::new(),
            env_names: BTreeSet::new(),
            setup: Vec::new(),
            checks: Vec::new(),
            limits: Limits::default(),
            rules: Vec::new(),
            on_limit: OnLimit::default(),
            on_loop: OnLoop::default(),
            on_quota: OnQuota::default(),
            codex: CodexSettings::default(),
            thread: None,
            place: None,
            expect: Vec::new(),
            share: false,
            images: Vec::new(),
        }
    }

    /// Returns the use of the workspace by the job.
    pub fn folder_use(&self) -> FolderUse {
        match (&self.place, self.share) {
            (Some(_), _) => FolderUse::OwnPlace,
            (None, true) => FolderUse::Shared,
            (None, false) => FolderUse::Alone,
        }
    }
}

// Implemented by hand so that no environment value can get into a log.
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

/// Returns true for a valid name of a job's image, such as `1.png`: lower-case letters and digits, joined by dots.
pub fn is_image_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 20 && name.split('.').all(|part| !part.is_empty() && part.bytes().all(is_plain))
}

/// Returns true for an id of a Codex thread: a UUID in its usual form. With any other id Codex silently starts a new
/// thread.
pub fn is_thread_id(text: &str) -> bool {
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
    fn only_a_uuid_is_a_thread_id() {
        assert!(is_thread_id("01a203ca-9b3a-74f0-a0f9-92040009a617"));
        for bad in [
            "",
            "my thread",
            "--last",
            "01a203ca-9b3a-74f0-a0f9-92040009a61",
            "01a203ca-9b3a-74f0-a0f9-92040009a61g",
            "01a203ca.9b3a-74f0-a0f9-92040009a617",
        ] {
            assert!(!is_thread_id(bad), "{bad}");
        }
    }

    #[test]
    fn a_spec_is_written_with_a_place_only_if_it_has_one() {
        let mut spec = JobSpec::new("a#1".parse().unwrap(), Runner::Shell, "true", "/w");
        let json = serde_json::to_string(&spec).unwrap();
        assert!(json.ends_with(r#""thread":null}"#), "{json}");
        assert_eq!(serde_json::from_str::<JobSpec>(&json).unwrap(), spec);
        let id = "a".repeat(40);
        spec.place = Some(PlaceSpec::new(&id, &id, "relay/a-1", "sub").unwrap());
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<JobSpec>(&json).unwrap(), spec);
        assert!(serde_json::from_str::<JobSpec>(&json.replace("relay/a-1", "-x")).is_err());
    }

    #[test]
    fn every_step_kind_is_parsed_from_its_name_and_its_json() {
        for kind in StepKind::ALL {
            assert_eq!(kind.as_str().parse::<StepKind>(), Ok(*kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("instal".parse::<StepKind>().unwrap_err().contains("install"));
    }

    #[test]
    fn a_configured_limit_replaces_the_default_of_the_kind() {
        let mut limits = Limits::default();
        assert_eq!(limits.step_ms(StepKind::Install), 600_000);
        limits.steps.insert(StepKind::Install, 5000);
        assert_eq!(limits.step_ms(StepKind::Install), 5000);
    }
}
