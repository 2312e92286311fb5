//! Secret values of a job, and the part of its spec that may be written to a disk. Pure.

use common::job::JobSpec;
use serde::Deserialize;

use crate::config::Config;
use crate::environment::Variables;
use crate::mask::{Masker, Secrets};

/// Part of a spec that is needed before the rest of it is validated.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PartialSpec {
    workspace: String,
    env: Variables,
}

/// Finds all values that were given to the job by name, those of the agent's configuration that look like secrets,
/// and the agent's own token. `own` is the agent's environment.
pub(super) fn build_masker(config: Option<&Config>, own: &Variables, spec: &str) -> Masker {
    let given: PartialSpec = serde_json::from_str(spec).unwrap_or_default();
    let home = |env: &Variables| env.get("HOME").cloned().unwrap_or_default();
    let configured = config.map(|config| home(&config.env)).unwrap_or_default();
    let mut secrets = Secrets::new(&[&given.workspace, &home(own), &configured]);
    secrets.add_all(&given.env);
    if let Some(config) = config {
        secrets.add_named(&config.env);
        secrets.add("RELAY_TOKEN", &config.token);
    }
    Masker::new(secrets)
}

/// Returns the spec without the values of its environment: only the running job has them.
pub(super) fn without_values(spec: &JobSpec) -> String {
    let mut spec = spec.clone();
    spec.env_names.extend(std::mem::take(&mut spec.env).into_keys());
    // A spec that came as JSON can be written as JSON; and only the file's presence matters: its content is never
    // read back.
    serde_json::to_string(&spec).unwrap_or_default()
}

/// Returns the reason why a spec can't be read, without any of its values: serde's own message may contain one.
pub(super) fn spec_error(error: &serde_json::Error) -> String {
    format!("the job's spec can't be read: it is wrong at line {}, column {}", error.line(), error.column())
}
