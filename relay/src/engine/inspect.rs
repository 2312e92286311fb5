//! Query of the state of a container from its engine.

use super::command::query;
use super::container::Container;
use crate::container_state::ContainerState;
use crate::engine_kind::EngineKind;

/// Output format that [`parse_state`] reads. As JSON, the time has the same form with both engines (RFC 3339).
pub(super) const INSPECT_FORMAT: &str = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.HostConfig.Memory}} {{json .State.FinishedAt}}";

impl Container<'_> {
    /// Queries the state of the platform's container.
    pub fn container_state(&self) -> Result<ContainerState, String> {
        container_state(self.engine, &self.platform.name)
    }
}

/// Queries the state of a container.
pub(super) fn container_state(engine: EngineKind, name: &str) -> Result<ContainerState, String> {
    match query(engine, &["container", "inspect", "--format", INSPECT_FORMAT, name]) {
        Ok(answer) => parse_state(&answer).ok_or_else(|| format!("{engine} says '{answer}'")),
        Err(reason) if reason.to_lowercase().contains("no such container") => Ok(ContainerState::Absent),
        Err(reason) => Err(reason),
    }
}

pub(super) fn parse_state(answer: &str) -> Option<ContainerState> {
    let mut words = answer.splitn(5, ' ');
    Some(match words.next()? {
        "created" | "configured" | "initialized" => ContainerState::Absent,
        "paused" => ContainerState::Paused,
        "exited" | "stopped" | "dead" | "removing" => {
            let exit_code = words.next()?.parse().ok()?;
            let oom_killed = words.next()? == "true";
            let memory_limit = words.next()?.parse().ok().filter(|limit| *limit > 0);
            ContainerState::Exited {
                exit_code,
                oom_killed,
                memory_limit,
                finished_at: words.next()?.trim_matches('"').to_owned(),
            }
        }
        _ => ContainerState::Running,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_parsed_with_exit_code_memory_limit_and_time() {
        let docker = parse_state(r#"exited 137 true 314572800 "2026-11-22T22:26:09.888279609Z""#);
        let exited = |oom_killed, memory_limit, finished_at: &str| {
            let finished_at = finished_at.to_owned();
            Some(ContainerState::Exited { exit_code: 137, oom_killed, memory_limit, finished_at })
        };
        assert_eq!(docker, exited(true, Some(314_572_800), "2026-11-22T22:26:09.888279609Z"));
        let podman = parse_state(r#"exited 137 false 0 "2026-11-30T11:26:40.311957304Z""#);
        assert_eq!(podman, exited(false, None, "2026-11-30T11:26:40.311957304Z"));
        assert_eq!(parse_state("exited many false 0 x"), None);
    }

    #[test]
    fn a_container_that_has_not_exited_is_parsed_from_its_status_alone() {
        assert_eq!(parse_state("running 0 false 0 0001-01-01T00:00:00Z"), Some(ContainerState::Running));
        assert_eq!(parse_state("restarting 1 false 0 2026"), Some(ContainerState::Running));
        assert_eq!(parse_state("paused 0 false 0 0001-01-01T00:00:00Z"), Some(ContainerState::Paused));
        assert_eq!(parse_state("created 0 false 0 0001-01-01T00:00:00Z"), Some(ContainerState::Absent));
    }
}
