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
use crate::daemon::deliver::schedule::Outcome;
use crate::registry::{Registry, read};

pub(super) const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Time limit of an attempt with its reading and recording: a channel that overlooks its own limit holds its slot no
/// longer than this.
const TOTAL_LIMIT: Duration = Duration::from_secs(60);

/// Shared state of all channels.
pub(in crate::daemon::deliver) struct Channels {
    registry: Registry,
    root: PathBuf,
    config: NotifyConfig,
    /// Made at the first use: it reads the system's certificates.
    http: OnceLock<ureq::Agent>,
}

impl Channels {
    pub(in crate::daemon::deliver) fn new(registry: Registry, root: &Path, config: NotifyConfig) -> Self {
        Self { registry, root: root.to_owned(), config, http: OnceLock::new() }
    }

    pub(in crate::daemon::deliver) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(in crate::daemon::deliver) fn config(&self) -> &NotifyConfig {
        &self.config
    }

    /// Project folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn http(&self) -> ureq::Agent {
        self.http.get_or_init(webhook::http_client).clone()
    }
}

/// Makes one attempt to deliver through a channel.
pub(in crate::daemon::deliver) async fn deliver(
    channels: &Channels,
    job: &JobId,
    kind: ChannelKind,
) -> Outcome {
    let record = match read::load(channels.registry(), job) {
        Ok(stored) => stored.record,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Outcome::Refused("its job was removed".to_owned());
        }
        Err(e) => return Outcome::Failed(format!("its record can't be read: {e}")),
    };
    if !record.state.is_final() {
        return Outcome::Failed("its record has no end state yet".to_owned());
    }
    let tried = async {
        match kind {
            ChannelKind::Codex => codex::send_message(channels, &record).await,
            ChannelKind::Desktop => desktop::show_notification(&record).await,
            ChannelKind::Command => command::run(channels, &record).await,
            ChannelKind::Webhook => webhook::post(channels, &record).await,
        }
    };
    let late = |_| Outcome::Failed(format!("{kind} did not finish within {} s", TOTAL_LIMIT.as_secs()));
    timeout(TOTAL_LIMIT, tried).await.unwrap_or_else(late)
}

/// Idempotency key of a notification: unique across projects, stable across retries.
pub(super) fn idempotency_key(record: &JobRecord) -> String {
    format!("{}-{}", record.job.stem(), record.created_at.as_millisecond())
}
