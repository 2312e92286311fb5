//! Texts for the failure of a job: its kind and its reason.

use common::record::JobRecord;
use common::text_format;

/// Maximum length of a failure's message, in bytes, so that it fits into a row of `relay status`.
const MAX_MESSAGE_BYTES: usize = 240;

/// Returns the kind of failure, as in the record's JSON; empty if the job has not failed.
pub fn failure_kind(record: &JobRecord) -> String {
    let kind = record.error.as_ref().and_then(|error| serde_json::to_value(error.kind).ok());
    kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default().to_owned()
}

/// Returns the reason of a job's failure, in one line.
pub fn failure_reason(record: &JobRecord) -> String {
    let message = record.error.as_ref().map(|error| text_format::one_line(&error.message, MAX_MESSAGE_BYTES));
    format!("{}: {}", failure_kind(record), message.unwrap_or_default())
}
