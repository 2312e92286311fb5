//! The frame that starts a job on an agent, or the reason why this agent can't run the job.

use common::ids::JobId;
use common::job::{JobSpec, Runner};
use common::wire::{MODEL_PROTOCOL, RelayFrame, STREAM_PROTOCOL};

use super::model_access::ModelAccess;

/// Reason to refuse a job with a budget on a relay that counts no tokens.
const NO_GATEWAY: &str = "the job has a budget for the model, and this relay was started without [model] gateway = true, \
                          so it counts no tokens: run `relay restart`, then launch it again";

/// Returns the frame that starts a run of a job on an agent of this protocol. With access to a model, a Codex job gets
/// a token for it, and a shell job one for the Messages API.
///
/// # Errors
/// One line: the agent is too old for the job, or there is no model.
pub(super) fn start_frame(
    protocol: u32,
    model: Option<&ModelAccess>,
    (job, epoch): (JobId, u32),
    spec: String,
) -> Result<RelayFrame, String> {
    let parsed = serde_json::from_str::<JobSpec>(&spec);
    let has_place = parsed.as_ref().is_ok_and(|spec| spec.place.is_some());
    let is_codex = parsed.as_ref().is_ok_and(|spec| spec.runner == Runner::Codex);
    let has_budget = parsed.is_ok_and(|spec| !spec.limits.budget.is_unlimited());
    if protocol < STREAM_PROTOCOL && has_place {
        return Err(too_old("make a clone for a job"));
    }
    let grant = match model {
        // This relay may be older than the settings with which the job was launched.
        None if is_codex && has_budget => return Err(NO_GATEWAY.to_owned()),
        Some(_) if is_codex && protocol < MODEL_PROTOCOL => {
            return Err(too_old("reach the model through the relay"));
        }
        Some(model) if is_codex => Some(model.grant(&job, epoch)?),
        Some(model) if protocol >= MODEL_PROTOCOL => model.anthropic_grant(&job, epoch)?,
        None | Some(_) => None,
    };
    Ok(match grant {
        None => RelayFrame::Start { job, epoch, spec },
        Some(model) => RelayFrame::StartWithModel { job, epoch, spec, model },
    })
}

fn too_old(action: &str) -> String {
    format!(
        "the platform's agent is older than relay and can't {action}: run `relay down` and `relay up`, then launch it \
         again"
    )
}

#[cfg(test)]
mod tests {
    use common::place::PlaceSpec;

    use super::*;
    use crate::config::prices::Prices;
    use crate::daemon::writer::WriterHandle;
    use crate::registry::Registry;

    #[test]
    fn only_an_agent_with_streams_is_offered_a_job_with_its_own_clone() {
        let mut spec = JobSpec::new("a#1".parse().unwrap(), Runner::Shell, "true", "/w");
        let start = |spec: &JobSpec, protocol| {
            start_frame(protocol, None, (spec.job.clone(), 1), serde_json::to_string(spec).unwrap())
        };
        assert!(start(&spec, STREAM_PROTOCOL - 1).is_ok());
        let id = "a".repeat(40);
        spec.place = Some(PlaceSpec::new(&id, &id, "relay/a-1", "").unwrap());
        assert!(start(&spec, STREAM_PROTOCOL).is_ok());
        assert!(start(&spec, STREAM_PROTOCOL - 1).unwrap_err().contains("relay up"));
    }

    #[test]
    fn a_relay_that_counts_no_tokens_starts_no_job_with_a_budget() {
        let mut spec = JobSpec::new("a#1".parse().unwrap(), Runner::Codex, "task", "/w");
        let start = |spec: &JobSpec| {
            start_frame(MODEL_PROTOCOL, None, (spec.job.clone(), 1), serde_json::to_string(spec).unwrap())
        };
        assert!(matches!(start(&spec), Ok(RelayFrame::Start { .. })));
        spec.limits.budget.max_tokens = Some(1);
        assert!(start(&spec).unwrap_err().contains("run `relay restart`"));
        spec.runner = Runner::Shell;
        assert!(matches!(start(&spec), Ok(RelayFrame::Start { .. })));
    }

    #[test]
    fn an_agent_without_streams_to_the_model_gets_no_codex_job_that_needs_one() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, _) = tokio::sync::mpsc::channel(1);
        let (registry, writer) = (Registry::for_project(dir.path()), WriterHandle::new(commands));
        let secret = dir.path().join("model-secret");
        let model = ModelAccess::load(&secret, registry, Prices::default(), writer).unwrap();
        let start = |runner| {
            let spec = JobSpec::new("a#1".parse().unwrap(), runner, "true", "/w");
            let text = serde_json::to_string(&spec).unwrap();
            start_frame(MODEL_PROTOCOL - 1, Some(&model), (spec.job, 1), text)
        };
        assert!(matches!(start(Runner::Shell), Ok(RelayFrame::Start { .. })));
        let refused = start(Runner::Codex).unwrap_err();
        assert!(refused.contains("can't reach the model through the relay: run `relay down`"), "{refused}");
    }
}
