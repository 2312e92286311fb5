//! Memory for the bodies of requests that may have to be sent twice. All jobs share it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either};
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::worker_body::{BodyError, WorkerBody};

/// Maximum size of a body that is kept, in KiB. Few requests are larger, and those are sent once.
const MAX_KEPT_KIB: u32 = 4 * 1024;
/// Size of all kept bodies, in KiB.
const TOTAL_KIB: usize = 256 * 1024;
/// Time limit for the whole body: a worker that sends it slowly must not keep the memory from others.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Memory for the bodies of requests.
#[derive(Debug)]
pub(super) struct BodyMemory {
    free_kib: Arc<Semaphore>,
    timeout: Duration,
}

/// A body in memory.
#[derive(Debug)]
pub(super) struct KeptBody {
    pub(super) bytes: Bytes,
    /// Memory that the body takes.
    _memory: OwnedSemaphorePermit,
}

impl Default for BodyMemory {
    fn default() -> Self {
        Self { free_kib: Arc::new(Semaphore::new(TOTAL_KIB)), timeout: BODY_TIMEOUT }
    }
}

impl BodyMemory {
    /// Reads a body to its end. Returns it as it is if its size is not known, or too large for the free memory.
    ///
    /// # Errors
    /// The body can't be read, or not in time.
    pub(super) async fn keep(&self, body: WorkerBody) -> Result<Either<WorkerBody, KeptBody>, BodyError> {
        let Some(memory) = body.size_hint().exact().and_then(|bytes| self.reserve(bytes)) else {
            return Ok(Either::Left(body));
        };
        let bytes = timeout(self.timeout, body.collect()).await??.to_bytes();
        Ok(Either::Right(KeptBody { bytes, _memory: memory }))
    }

    fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).ok().filter(|kib| *kib <= MAX_KEPT_KIB)?;
        Arc::clone(&self.free_kib).try_acquire_many_owned(kib).ok()
    }
}

#[cfg(test)]
#[path = "body_memory_tests.rs"]
mod tests;
