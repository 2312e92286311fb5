//! The user's own program: receives the record on its stdin and the rest in its environment.

use common::record::JobRecord;
use tokio::process::Command;

use super::attempt::{Channels, TIME_LIMIT, idempotency_key};
use super::program;
use crate::daemon::deliver::schedule::Outcome;
use crate::{failure_text, notice};

/// Runs the program; exit code 0 means that it has taken the notification.
pub(super) async fn run(channels: &Channels, record: &JobRecord) -> Outcome {
    let Some((program, arguments)) = channels.config().command.split_first() else {
        return Outcome::Refused("no command is configured".to_owned());
    };
    let Ok(input) = record.to_bytes() else {
        return Outcome::Refused("its record can't be written as JSON".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(channels.root());
    command.env("RELAY_JOB", record.job.to_string());
    command.env("RELAY_STATE", record.state.as_str());
    command.env("RELAY_REASON", failure_text::failure_kind(record));
    command.env("RELAY_SUMMARY", notice::text(record));
    command.env("RELAY_LOG", common::text::printable(&record.log_path));
    command.env("RELAY_DELIVERY", idempotency_key(record));
    match program::run(command, input, TIME_LIMIT).await {
        Ok(()) => Outcome::Taken,
        Err(reason) => Outcome::Failed(reason),
    }
}
