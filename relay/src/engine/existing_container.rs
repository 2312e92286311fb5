//! Container of the platform as it is, and the decision to keep it.

use std::collections::BTreeMap;

use super::command::query;
use crate::engine_kind::EngineKind;

/// Label with the digest of the arguments that the container was created with: if they change, the container is
/// replaced.
pub(super) const ARGUMENTS_DIGEST_LABEL: &str = "relay.arguments";

/// Container that exists, as reported by `inspect`.
pub(super) struct ExistingContainer {
    pub(super) is_running: bool,
    pub(super) is_paused: bool,
    pub(super) image: String,
    pub(super) labels: BTreeMap<String, String>,
}

/// Use of a container that exists.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// Used as it is: running, with these settings.
    AsItIs,
    /// Kept for its jobs: running, with other settings.
    ForItsJobs,
    /// Started: stopped, with these settings.
    Started,
    /// Replaced by another one.
    Never,
}

impl ExistingContainer {
    /// Decides how the container is used for these settings.
    pub(super) fn reuse(&self, image: &str, digest: &str, has_jobs: bool) -> Reuse {
        let is_same = self.image == image
            && self.labels.get(ARGUMENTS_DIGEST_LABEL).is_some_and(|created_with| created_with == digest);
        match (is_same, self.is_running) {
            (true, true) => Reuse::AsItIs,
            (true, false) => Reuse::Started,
            (false, true) if has_jobs => Reuse::ForItsJobs,
            (false, _) => Reuse::Never,
        }
    }
}

/// Returns the container of this name, if there is one.
pub(super) fn find_container(engine: EngineKind, name: &str) -> Result<Option<ExistingContainer>, String> {
    let format = "{{.State.Running}} {{.State.Paused}} {{.Image}} {{json .Config.Labels}}";
    let answer = match query(engine, &["container", "inspect", "--format", format, name]) {
        Ok(answer) => answer,
        Err(reason) if reason.to_lowercase().contains("no such container") => return Ok(None),
        Err(reason) => return Err(format!("{engine}: {reason}")),
    };
    let mut words = answer.splitn(4, ' ');
    let is_running = words.next() == Some("true");
    let is_paused = words.next() == Some("true");
    let image = words.next().unwrap_or_default().to_owned();
    let labels = words.next().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    Ok(Some(ExistingContainer { is_running, is_paused, image, labels }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_container_with_jobs_is_not_replaced_for_new_settings() {
        let container = |is_running, digest: &str| ExistingContainer {
            is_running,
            is_paused: false,
            image: "image".to_owned(),
            labels: BTreeMap::from([(ARGUMENTS_DIGEST_LABEL.to_owned(), digest.to_owned())]),
        };
        for (is_running, digest, has_jobs, expected) in [
            (true, "same", false, Reuse::AsItIs),
            (true, "same", true, Reuse::AsItIs),
            (false, "same", true, Reuse::Started),
            (true, "other", true, Reuse::ForItsJobs),
            (true, "other", false, Reuse::Never),
            (false, "other", true, Reuse::Never),
        ] {
            assert_eq!(container(is_running, digest).reuse("image", "same", has_jobs), expected);
        }
        assert_eq!(container(true, "same").reuse("newer", "same", true), Reuse::ForItsJobs);
        assert_eq!(container(true, "same").reuse("newer", "same", false), Reuse::Never);
    }
}
