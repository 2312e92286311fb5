//! One attempt to deliver through one channel.

use std::time::Duration;

use common::ids::JobId;
use tokio::time::timeout;

use super::shared::Channels;
use super::{codex, command, desktop, webhook};
use crate::daemon::deliver::plan::ChannelKind;
use crate::daemon::deliver::schedule::DeliveryOutcome;
use crate::registry::read;

/// Time limit of a whole attempt, with its file access. It also ends a channel that exceeds [`super::shared::ATTEMPT_TIMEOUT`].
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);

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
