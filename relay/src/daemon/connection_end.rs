//! Why the connection of an agent ends.

use std::time::Duration;

use common::wire;
use tokio::time::timeout;
use tungstenite::protocol::frame::coding::CloseCode;

/// Time limit for an answer of the core or the writer. Exceeding it loses no data: the agent sends the data again.
const ANSWER_TIMEOUT: Duration = wire::DEAD_AFTER;

/// Reason why a connection ended.
pub(super) enum EndReason {
    /// Ended by the other side, or by the network.
    Lost(String),
    /// Ended by this side: close code and reason.
    ClosedByRelay(u16, String),
    /// Ended by this side because of the agent's token. Not logged, because an agent may retry often.
    TokenDenied(String),
}

/// Waits for the core or the writer, at most for `ANSWER_TIMEOUT`. `action` completes the message "relay did
/// not …".
pub(super) async fn with_answer_timeout<T>(
    action: &str,
    work: impl Future<Output = T>,
) -> Result<T, EndReason> {
    let timed_out =
        |_| EndReason::Lost(format!("relay did not {action} within {} s", ANSWER_TIMEOUT.as_secs()));
    timeout(ANSWER_TIMEOUT, work).await.map_err(timed_out)
}

/// Converts an error of the connection into the reason why it ended.
pub(super) fn connection_error(error: axum::Error) -> EndReason {
    let error = error.into_inner();
    match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(e)) => {
            EndReason::ClosedByRelay(CloseCode::Size.into(), e.to_string())
        }
        // A dying process does not close TLS properly.
        Some(tungstenite::Error::Io(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            EndReason::Lost("the agent closed the connection".to_owned())
        }
        _ => EndReason::Lost(error.to_string()),
    }
}
