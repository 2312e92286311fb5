//! State, time limit and key of a notification that all channels share.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use common::record::JobRecord;

use crate::config::NotifyConfig;
use crate::job_identity::JobIdentity;
use crate::registry::Registry;

/// Time limit that each channel sets for its part of an attempt.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// Shared state of all channels.
pub(in crate::daemon::deliver) struct Channels {
    registry: Registry,
    root: PathBuf,
    config: NotifyConfig,
    /// HTTP client for webhooks. It is created late, because that reads the system's certificates.
    http_client: OnceLock<ureq::Agent>,
}

impl Channels {
    pub(in crate::daemon::deliver) fn new(registry: Registry, root: &Path, config: NotifyConfig) -> Self {
        Self { registry, root: root.to_owned(), config, http_client: OnceLock::new() }
    }

    pub(in crate::daemon::deliver) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(in crate::daemon::deliver) fn config(&self) -> &NotifyConfig {
        &self.config
    }

    /// Returns the project folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the HTTP client for webhooks, which `new` creates when it is first used.
    pub(super) fn http_client(&self, new: fn() -> ureq::Agent) -> ureq::Agent {
        self.http_client.get_or_init(new).clone()
    }
}

/// Returns the idempotency key of a notification: unique across projects, stable across retries.
pub(super) fn idempotency_key(record: &JobRecord) -> String {
    JobIdentity::of(record).file_stem()
}
