//! Moves bytes between a stream and a generic reader and writer.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use super::flow::{Flow, StreamError, StreamViolation};
use super::part::{STREAM_CHUNK, StreamPart};

/// Queue of parts to send, each with the number of its stream.
pub type OutgoingParts = mpsc::Sender<(u32, StreamPart)>;

/// Result of a transfer: `Ok` if it was completed.
pub type StreamEnd = Result<(), StreamError>;

/// Handle of one stream. The connection passes received parts to it, and transfers read from it and write to it.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    number: u32,
    parts: OutgoingParts,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    flow: Mutex<Flow>,
    /// Wakes the transfer that waits for credit.
    credit_changed: Notify,
    /// Wakes the transfer that waits for bytes.
    bytes_changed: Notify,
    /// Wakes transfers that wait for something outside of the stream, when the stream has failed.
    failed: Notify,
}

impl StreamHandle {
    /// Creates a stream with this number. Parts that it sends go into the queue `parts`.
    pub fn new(number: u32, parts: OutgoingParts) -> Self {
        Self { number, parts, shared: Arc::default() }
    }

    /// Handles a part from the other end. Never waits: unconsumed bytes are bounded by the window.
    ///
    /// # Errors
    /// The other end broke the protocol.
    pub fn receive(&self, part: StreamPart) -> Result<(), StreamViolation> {
        self.lock_flow().receive(part)?;
        self.wake();
        Ok(())
    }

    /// Ends both directions at this end. The other end is not notified.
    pub fn fail(&self, error: StreamError) {
        self.lock_flow().fail(error);
        self.wake();
    }

    /// Sends all bytes of `reader`. Does not close the direction: the caller does that.
    ///
    /// # Errors
    /// The stream has failed, or `reader` can't be read.
    pub async fn send_from(&self, mut reader: impl AsyncRead + Unpin) -> StreamEnd {
        let mut buffer = vec![0; STREAM_CHUNK];
        loop {
            let max_len = self.wait_credit().await?.min(STREAM_CHUNK);
            // Cancel-safe: the read is only dropped when the stream has failed.
            let read = tokio::select! {
                read = reader.read(&mut buffer[..max_len]) => read.map_err(|error| local_error(&error))?,
                error = self.wait_failure() => return Err(error),
            };
            if read == 0 {
                return Ok(());
            }
            self.lock_flow().spend(read);
            self.send(StreamPart::Data(buffer[..read].to_vec())).await?;
        }
    }

    /// Writes all bytes that the other end sends into `writer`, then shuts the writer down.
    ///
    /// # Errors
    /// The stream has failed, or `writer` can't be written.
    pub async fn receive_into(&self, mut writer: impl AsyncWrite + Unpin) -> StreamEnd {
        while let Some(bytes) = self.wait_bytes().await? {
            tokio::select! {
                written = writer.write_all(&bytes) => written.map_err(|error| local_error(&error))?,
                error = self.wait_failure() => return Err(error),
            }
            let credit = self.lock_flow().consume(bytes.len());
            if credit > 0 {
                self.send(StreamPart::Window(credit)).await?;
            }
        }
        writer.shutdown().await.map_err(|error| local_error(&error))
    }

    /// Closes the direction in which this end sends; with an error for the other end, closes both directions.
    ///
    /// # Errors
    /// The stream has failed.
    pub async fn close(&self, error: Option<String>) -> StreamEnd {
        self.send(StreamPart::Close(error)).await
    }

    /// Returns the number of bytes that this end has consumed or sent. It grows while the stream makes progress.
    pub fn transferred(&self) -> u64 {
        self.lock_flow().transferred()
    }

    /// Waits until the stream has failed.
    pub async fn wait_failure(&self) -> StreamError {
        self.wait(&self.shared.failed, |_| None::<()>).await.err().unwrap_or(StreamError::Lost)
    }

    async fn wait_credit(&self) -> Result<usize, StreamError> {
        self.wait(&self.shared.credit_changed, |flow| Some(flow.credit()).filter(|credit| *credit > 0)).await
    }

    /// Returns the next bytes; `None` at the end of the other end's direction.
    async fn wait_bytes(&self) -> Result<Option<Vec<u8>>, StreamError> {
        let next = |flow: &mut Flow| match flow.take_received() {
            Some(bytes) => Some(Some(bytes)),
            None => flow.is_drained().then_some(None),
        };
        self.wait(&self.shared.bytes_changed, next).await
    }

    async fn wait<T>(
        &self,
        changed: &Notify,
        mut ready: impl FnMut(&mut Flow) -> Option<T>,
    ) -> Result<T, StreamError> {
        loop {
            // Created before the check, so that no change is missed between check and wait.
            let notified = changed.notified();
            {
                let mut flow = self.lock_flow();
                if let Some(error) = flow.failure() {
                    return Err(error.clone());
                }
                if let Some(value) = ready(&mut flow) {
                    return Ok(value);
                }
            }
            notified.await;
        }
    }

    async fn send(&self, part: StreamPart) -> StreamEnd {
        // Without a connection nothing takes parts from the queue.
        tokio::select! {
            sent = self.parts.send((self.number, part)) => sent.map_err(|_| StreamError::Lost),
            error = self.wait_failure() => Err(error),
        }
    }

    fn wake(&self) {
        self.shared.credit_changed.notify_one();
        self.shared.bytes_changed.notify_one();
        self.shared.failed.notify_waiters();
    }

    fn lock_flow(&self) -> MutexGuard<'_, Flow> {
        self.shared.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn local_error(error: &io::Error) -> StreamError {
    StreamError::Local(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transfers bytes between two connected ends. Returns the bytes that arrived, and the results of the sender and
    /// the receiver. Fails both ends once more than `fail_after` bytes were passed on.
    async fn transfer(sent: &[u8], fail_after: Option<usize>) -> (Vec<u8>, [StreamEnd; 2]) {
        let (near_parts, mut near_queue) = mpsc::channel(1);
        let (far_parts, mut far_queue) = mpsc::channel(1);
        let (near, far) = (StreamHandle::new(1, near_parts), StreamHandle::new(1, far_parts));
        let mut arrived = Vec::new();
        let sending = async {
            let end = near.send_from(sent).await;
            if end.is_ok() {
                near.close(None).await?;
            }
            end
        };
        let passing_on = async {
            let mut bytes = 0;
            loop {
                let part = tokio::select! {
                    Some((_, part)) = near_queue.recv() => (&far, part),
                    Some((_, part)) = far_queue.recv() => (&near, part),
                };
                if let StreamPart::Data(data) = &part.1 {
                    bytes += data.len();
                }
                part.0.receive(part.1).unwrap();
                if fail_after.is_some_and(|max_bytes| bytes > max_bytes) {
                    near.fail(StreamError::Lost);
                    far.fail(StreamError::Lost);
                }
            }
        };
        let ends = async { tokio::join!(sending, far.receive_into(&mut arrived)) };
        let ends = tokio::select! {
            ends = ends => ends,
            () = passing_on => unreachable!(),
        };
        (arrived, [ends.0, ends.1])
    }

    #[tokio::test]
    async fn more_bytes_than_the_window_arrive_in_order() {
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (arrived, ends) = transfer(&sent, None).await;
        assert_eq!(ends, [Ok(()), Ok(())]);
        assert!(arrived == sent);
    }

    #[tokio::test]
    async fn a_lost_connection_ends_the_transfers_at_both_ends() {
        let sent = vec![0; 3_000_000];
        let (_, ends) = transfer(&sent, Some(500_000)).await;
        assert_eq!(ends, [Err(StreamError::Lost), Err(StreamError::Lost)]);
    }
}
