//! The channel `command`: runs the user's program with the job's record on stdin and the notice in its environment.

use common::record::JobRecord;
use tokio::process::Command;

use super::program;
use super::shared::{ATTEMPT_TIMEOUT, Channels, idempotency_key};
use crate::daemon::deliver::schedule::DeliveryOutcome;
use crate::{failure_text, notice};

/// Runs the program; exit code 0 means that it has accepted the notification.
pub(super) async fn run_notify_command(channels: &Channels, record: &JobRecord) -> DeliveryOutcome {
    let Some((program, arguments)) = channels.config().command.split_first() else {
        return DeliveryOutcome::Refused("no command is configured".to_owned());
    };
    let Ok(input) = record.to_bytes() else {
        return DeliveryOutcome::Refused("the job's record can't be written as JSON".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(channels.root());
    command.env("RELAY_JOB", record.job.to_string());
    command.env("RELAY_STATE", record.state.as_str());
    command.env("RELAY_REASON", failure_text::failure_kind(record));
    command.env("RELAY_SUMMARY", notice::notice_text(record));
    command.env("RELAY_LOG", common::text_format::to_printable(&record.log_path));
    command.env("RELAY_DELIVERY", idempotency_key(record));
    match program::run_with_limit(command, input, ATTEMPT_TIMEOUT).await {
        Ok(()) => DeliveryOutcome::Accepted,
        Err(reason) => DeliveryOutcome::Failed(reason),
    }
}
