//! Receives the output of a job from the job's agent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use common::ids::JobId;
use common::stream::StreamHandle;
use tokio::io::AsyncWrite;

use crate::daemon::job_repositories::JobRepositories;
use crate::output::store::{MAX_ARCHIVE_BYTES, Outputs};

/// Receives the archive of a job's output on a stream, and stores it.
///
/// # Errors
/// One line with the reason. Nothing is stored then.
pub(super) async fn receive_output(
    handle: &StreamHandle,
    (repositories, outputs): (JobRepositories, Outputs),
    job: JobId,
) -> Result<(), String> {
    let stopping = |_| "the relay is stopping".to_owned();
    let store = outputs.clone();
    let creation = tokio::task::spawn_blocking(move || {
        let failed = |e: io::Error| format!("the output can't be stored: {e}");
        let identity = repositories.identity(&job)?;
        let archive = store.begin().map_err(failed)?;
        Ok::<_, String>((identity, archive.writer().map_err(failed)?, archive))
    });
    let (job, file, archive) = creation.await.map_err(stopping)??;
    let file = BoundedFile { file: tokio::fs::File::from_std(file), remaining_bytes: MAX_ARCHIVE_BYTES };
    handle.receive_into(file).await.map_err(|error| error.to_string())?;
    tokio::task::spawn_blocking(move || outputs.finish(&job, archive)).await.map_err(stopping)?
}

/// A file that accepts a limited number of bytes.
struct BoundedFile {
    file: tokio::fs::File,
    remaining_bytes: u64,
}

impl AsyncWrite for BoundedFile {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.len() as u64 > self.remaining_bytes {
            let message = format!("it is larger than {} MiB", MAX_ARCHIVE_BYTES >> 20);
            return Poll::Ready(Err(io::Error::other(message)));
        }
        let written = Pin::new(&mut self.file).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.remaining_bytes -= *count as u64;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(context)
    }
}
