//! Copy of a job's log in the workspace. A separate thread writes it, so that a hanging disk delays nothing else.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::workspace_log::{LogFile, WorkspaceLog};

/// Number of bytes waiting to be written at which reading from the worker pauses.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;
/// Maximum size of a chunk, in bytes. Output for the same file is joined and written with one call.
const MAX_CHUNK_BYTES: usize = 64 * 1024;
/// Maximum time that one write may take. A busy disk needs a second.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Handle of the copy. Dropping it closes the queue of the writing thread.
#[derive(Debug)]
pub(super) struct LogCopy(Arc<SharedQueue>);

#[derive(Debug, Default)]
struct SharedQueue {
    queue: Mutex<Queue>,
    chunk_added: Condvar,
    drained: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<(LogFile, Vec<u8>)>,
    bytes: usize,
    /// Start of the write in progress.
    writing_since: Option<Instant>,
    error: Option<String>,
    is_closed: bool,
}

impl SharedQueue {
    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the queued chunks until the queue is closed, or a write fails.
    fn write_queued(&self, log: &mut WorkspaceLog) {
        loop {
            let mut queue = self.lock_queue();
            while queue.chunks.is_empty() && !queue.is_closed {
                queue = self.chunk_added.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((part, bytes)) = queue.chunks.pop_front() else { return };
            queue.writing_since = Some(Instant::now());
            drop(queue);
            let written = log.append(part, &bytes);
            let mut queue = self.lock_queue();
            queue.writing_since = None;
            queue.bytes -= bytes.len();
            if let Err(error) = written {
                queue.error = Some(error.to_string());
                queue.chunks.clear();
                queue.is_closed = true;
            }
            if queue.chunks.is_empty() {
                self.drained.notify_waiters();
            }
        }
    }
}

impl LogCopy {
    /// Starts the writing thread.
    pub(super) fn start(mut log: WorkspaceLog) -> std::io::Result<Self> {
        let shared = Arc::new(SharedQueue::default());
        let thread_queue = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("copy".to_owned())
            .spawn(move || thread_queue.write_queued(&mut log))?;
        Ok(Self(shared))
    }

    /// Queues bytes to be written.
    pub(super) fn append(&self, file: LogFile, bytes: &[u8]) {
        let mut queue = self.0.lock_queue();
        if queue.is_closed || bytes.is_empty() {
            return;
        }
        queue.bytes += bytes.len();
        match queue.chunks.back_mut() {
            Some((last, piece)) if *last == file && piece.len() < MAX_CHUNK_BYTES => {
                piece.extend_from_slice(bytes);
            }
            _ => queue.chunks.push_back((file, bytes.to_vec())),
        }
        self.0.chunk_added.notify_one();
    }

    /// Returns true if the queue is so long that no more bytes should be added.
    pub(super) fn is_full(&self) -> bool {
        self.0.lock_queue().bytes >= MAX_QUEUED_BYTES
    }

    /// Returns the reason why the copy can no longer be written, if writing has failed.
    pub(super) fn error(&self) -> Option<String> {
        let queue = self.0.lock_queue();
        let hangs = queue.writing_since.is_some_and(|since| since.elapsed() >= WRITE_TIMEOUT);
        queue.error.clone().or_else(|| hangs.then(timeout_message))
    }

    /// Waits until everything is written, but no longer than [`WRITE_TIMEOUT`].
    pub(super) async fn wait_drained(&self) {
        let drained = async {
            loop {
                // The waiter is registered before the check, so that it does not miss a `drained` notification
                // right after the check.
                let drained = self.0.drained.notified();
                tokio::pin!(drained);
                drained.as_mut().enable();
                if self.0.lock_queue().bytes == 0 || self.0.lock_queue().is_closed {
                    return;
                }
                drained.await;
            }
        };
        // A hanging write is abandoned. It may have begun later than this wait.
        if timeout(WRITE_TIMEOUT, drained).await.is_err() {
            self.0.lock_queue().error.get_or_insert_with(timeout_message);
        }
    }
}

fn timeout_message() -> String {
    format!("its disk did not respond for {} s", WRITE_TIMEOUT.as_secs())
}

impl Drop for LogCopy {
    fn drop(&mut self) {
        self.0.lock_queue().is_closed = true;
        self.0.chunk_added.notify_one();
    }
}
