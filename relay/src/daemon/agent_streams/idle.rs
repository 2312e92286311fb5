//! Detection of a stream that transfers nothing.

use std::time::Duration;

use common::stream::StreamHandle;

/// Returns once the stream has transferred no byte for this time.
pub(super) async fn wait_until_idle(handle: &StreamHandle, limit: Duration) {
    let mut transferred = None;
    while transferred != Some(handle.transferred()) {
        transferred = Some(handle.transferred());
        tokio::time::sleep(limit).await;
    }
}
