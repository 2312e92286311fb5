//! Sends the images of a job to the job's agent.

use common::ids::JobId;
use common::job::MAX_TOTAL_IMAGE_BYTES;
use common::stream::StreamHandle;
use tokio::io::AsyncReadExt;

use crate::registry::Registry;

/// Maximum length of the archive of a job's images with headers, in bytes: a session may have replaced the file.
const MAX_ARCHIVE: u64 = MAX_TOTAL_IMAGE_BYTES + (1 << 20);

/// Sends the archive of a job's images on a stream.
///
/// # Errors
/// One line with the reason.
pub(super) async fn send_images(handle: &StreamHandle, registry: Registry, job: JobId) -> Result<(), String> {
    let opened = tokio::task::spawn_blocking(move || registry.images(&job).open());
    let opened = opened.await.map_err(|_| "the relay is stopping".to_owned())?;
    let file = opened.map_err(|e| format!("they can't be read ({e}): launch the job again"))?;
    let file = tokio::fs::File::from_std(file).take(MAX_ARCHIVE);
    handle.send_from(file).await.map_err(|error| error.to_string())
}
