//! Secret values of a job, and the part of its spec that may be written to a disk. Pure.

use common::job::JobSpec;
use common::wire::ModelToken;
use serde::Deserialize;

use crate::config::Config;
use crate::environment::Variables;
use crate::gateway::settings;
use crate::mask::{Masker, Secrets};

/// Part of a spec that is needed before the rest of it is validated.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PartialSpec {
    workspace: String,
    env: Variables,
}

/// Returns a masker of the job's own variables, of variables in the configuration that look secret, and of the tokens
/// of the agent and of the job.
pub(super) fn build_masker(
    config: Option<&Config>,
    agent_env: &Variables,
    spec: &str,
    model_token: Option<&ModelToken>,
) -> Masker {
    let spec: PartialSpec = serde_json::from_str(spec).unwrap_or_default();
    let home = |env: &Variables| env.get("HOME").cloned().unwrap_or_default();
    let configured = config.map(|config| home(&config.env)).unwrap_or_default();
    let mut secrets = Secrets::new(&[&spec.workspace, &home(agent_env), &configured]);
    secrets.add_every_variable(&spec.env);
    if let Some(config) = config {
        secrets.add_secret_variables(&config.env);
        secrets.add("RELAY_TOKEN", &config.token);
    }
    if let Some(token) = model_token {
        secrets.add(settings::TOKEN_VARIABLE, token.as_str());
    }
    Masker::new(secrets)
}

/// Returns the spec without the values of its environment, which only the running job has.
pub(super) fn spec_without_values(spec: &JobSpec) -> String {
    let mut spec = spec.clone();
    spec.env_names.extend(std::mem::take(&mut spec.env).into_keys());
    // A spec that was parsed from JSON can be written as JSON. If writing failed, the stored spec would be empty: after
    // a crash, the next agent could then not hand over the run's result and output.
    serde_json::to_string(&spec).unwrap_or_default()
}

/// Returns the reason why a spec can't be read. It omits serde's message, which may contain a value.
pub(super) fn spec_error(error: &serde_json::Error) -> String {
    format!("the job's spec can't be read: it is wrong at line {}, column {}", error.line(), error.column())
}
