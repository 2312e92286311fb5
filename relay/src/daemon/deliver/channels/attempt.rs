//! One attempt to deliver through one channel.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use common::ids::JobId;
use common::record::JobRecord;
use tokio::time::timeout;

use super::{codex, command, desktop, webhook};
use crate::config::NotifyConfig;
use crate::daemon::deliver::plan::ChannelKind;
use crate::daemon::deliver::schedule::DeliveryOutcome;
use crate::job_identity::JobIdentity;
use crate::registry::{Registry, read};

/// Time limit that each channel sets for its part of an attempt.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of a whole attempt, with its file access. It also ends a channel that exceeds [`ATTEMPT_TIMEOUT`].
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Shared state of all channels.
pub(in crate::daemon::deliver) struct Channels {
    registry: Registry,
    root: PathBuf,
    config: NotifyConfig,
    /// HTTP client for webhooks. It is created when it is first used, because that reads the system's certificates.
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

    pub(super) fn http_client(&self) -> ureq::Agent {
        self.http_client.get_or_init(webhook::http_client).clone()
    }
}

/// Attempts one delivery through a channel.
pub(in crate::daemon::deliver) async fn attempt_delivery(
    channels: &Channels,
    job: &JobId,
    kind: ChannelKind,
) -> DeliveryOutcome {
    let record = match read::load_record(channels.registry(), job) {
        Ok(stored) => stored.record,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return DeliveryOutcome::Refused("its job was removed".to_owned());
        }
        Err(e) => return DeliveryOutcome::Failed(format!("the job's record can't be read: {e}")),
    };
    if !record.state.is_final() {
        return DeliveryOutcome::Failed("its record has no end state yet".to_owned());
    }
    let attempt = async {
        match kind {
            ChannelKind::Codex => codex::send_message(channels, &record).await,
            ChannelKind::Desktop => desktop::show_notification(&record).await,
            ChannelKind::Command => command::run_notify_command(channels, &record).await,
            ChannelKind::Webhook => webhook::post_notification(channels, &record).await,
        }
    };
    let timed_out =
        |_| DeliveryOutcome::Failed(format!("{kind} did not finish within {} s", TOTAL_TIMEOUT.as_secs()));
    timeout(TOTAL_TIMEOUT, attempt).await.unwrap_or_else(timed_out)
}

/// Returns the idempotency key of a notification: unique across projects, stable across retries.
pub(super) fn idempotency_key(record: &JobRecord) -> String {
    JobIdentity::of(record).file_stem()
}
