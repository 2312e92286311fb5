//! Flow control of one stream: received bytes that are not consumed yet, and credit (the bytes that may be sent). Pure.

use std::collections::VecDeque;

use super::part::{STREAM_CHUNK, STREAM_WINDOW, StreamPart};

/// Number of consumed bytes that are reported at once: a quarter of the window, so that the other end goes on sending.
const REPORT_BYTES: u32 = STREAM_WINDOW / 4;
/// Maximum length of an error message from the other end, in bytes.
const MAX_ERROR: usize = 500;

/// Reason why a stream ended before all its bytes were transferred.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The connection ended.
    #[error("the connection to the relay was lost")]
    Lost,
    /// The other end ended the stream for this reason.
    #[error("{0}")]
    Refused(String),
    /// This end could not read or write, for this reason.
    #[error("{0}")]
    Local(String),
}

/// Violation of the protocol: a part that the other end may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamViolation {
    /// More bytes than the window allows.
    #[error("a stream got more bytes than its window allows")]
    WindowExceeded,
    /// More credit than the window allows.
    #[error("a stream got more credit than its window allows")]
    TooMuchCredit,
    /// Bytes after the `Close` of their direction.
    #[error("a stream got bytes after its end")]
    AfterEnd,
}

/// State of both directions of a stream.
#[derive(Debug)]
pub(super) struct Flow {
    /// Received bytes that were not taken yet.
    received: VecDeque<Vec<u8>>,
    /// Bytes that the other end may still send.
    window: u32,
    /// Consumed bytes that were not reported to the other end yet.
    unreported: u32,
    /// True if the other end has closed its direction.
    is_closed: bool,
    /// Bytes that this end may still send.
    credit: u32,
    /// Bytes that this end has consumed or sent.
    transferred: u64,
    failure: Option<StreamError>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            received: VecDeque::new(),
            window: STREAM_WINDOW,
            unreported: 0,
            is_closed: false,
            credit: STREAM_WINDOW,
            transferred: 0,
            failure: None,
        }
    }
}

impl Flow {
    /// Handles a part from the other end.
    ///
    /// # Errors
    /// The other end broke the protocol.
    pub(super) fn receive(&mut self, part: StreamPart) -> Result<(), StreamViolation> {
        match part {
            StreamPart::Data(_) if self.is_closed => return Err(StreamViolation::AfterEnd),
            StreamPart::Data(bytes) => {
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                self.window = self.window.checked_sub(len).ok_or(StreamViolation::WindowExceeded)?;
                self.append(bytes);
            }
            StreamPart::Window(bytes) => {
                let credit = self.credit.checked_add(bytes).filter(|credit| *credit <= STREAM_WINDOW);
                self.credit = credit.ok_or(StreamViolation::TooMuchCredit)?;
            }
            StreamPart::Close(None) => self.is_closed = true,
            StreamPart::Close(Some(error)) => {
                self.fail(StreamError::Refused(crate::text_format::one_line(&error, MAX_ERROR)));
            }
        }
        Ok(())
    }

    /// Appends received bytes. Joins small parts, so that many of them take no more memory than their bytes.
    fn append(&mut self, bytes: Vec<u8>) {
        match self.received.back_mut() {
            Some(last) if last.len() + bytes.len() <= STREAM_CHUNK => last.extend_from_slice(&bytes),
            _ if bytes.is_empty() => {}
            _ => self.received.push_back(bytes),
        }
    }

    /// Ends both directions. A later failure does not replace the first one.
    pub(super) fn fail(&mut self, error: StreamError) {
        if self.failure.is_none() {
            self.failure = Some(error);
            self.received.clear();
        }
    }

    pub(super) fn failure(&self) -> Option<&StreamError> {
        self.failure.as_ref()
    }

    /// Removes and returns the oldest received bytes.
    pub(super) fn take_received(&mut self) -> Option<Vec<u8>> {
        self.received.pop_front()
    }

    /// Returns true if all received bytes were taken and no more can arrive.
    pub(super) fn is_drained(&self) -> bool {
        self.is_closed && self.received.is_empty()
    }

    /// Records that `len` taken bytes were consumed. Returns the credit to give the other end now; 0 for none.
    pub(super) fn consume(&mut self, len: usize) -> u32 {
        self.transferred = self.transferred.saturating_add(len as u64);
        self.unreported = self.unreported.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        if self.unreported < REPORT_BYTES || self.is_closed {
            return 0;
        }
        let credit = std::mem::take(&mut self.unreported);
        self.window = self.window.saturating_add(credit);
        credit
    }

    /// Returns the number of bytes that were consumed or sent so far.
    pub(super) fn transferred(&self) -> u64 {
        self.transferred
    }

    /// Returns the number of bytes that may be sent now.
    pub(super) fn credit(&self) -> usize {
        self.credit as usize
    }

    /// Records that `len` bytes were sent.
    pub(super) fn spend(&mut self, len: usize) {
        self.transferred = self.transferred.saturating_add(len as u64);
        self.credit = self.credit.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(len: usize) -> StreamPart {
        StreamPart::Data(vec![7; len])
    }

    #[test]
    fn more_bytes_than_the_window_are_refused_until_some_are_consumed() {
        let mut flow = Flow::default();
        for _ in 0..4 {
            flow.receive(data(STREAM_CHUNK)).unwrap();
        }
        assert_eq!(flow.receive(data(1)), Err(StreamViolation::WindowExceeded));
        let taken = flow.take_received().unwrap();
        assert_eq!(flow.consume(taken.len()), 64 * 1024);
        flow.receive(data(STREAM_CHUNK)).unwrap();
        assert_eq!(flow.receive(data(1)), Err(StreamViolation::WindowExceeded));
    }

    #[test]
    fn credit_is_spent_and_given_back_but_never_exceeds_the_window() {
        let mut flow = Flow::default();
        assert_eq!(flow.receive(StreamPart::Window(1)), Err(StreamViolation::TooMuchCredit));
        assert_eq!(flow.receive(StreamPart::Window(u32::MAX)), Err(StreamViolation::TooMuchCredit));
        flow.spend(1000);
        assert_eq!(flow.credit(), STREAM_WINDOW as usize - 1000);
        flow.receive(StreamPart::Window(1000)).unwrap();
        assert_eq!(flow.credit(), STREAM_WINDOW as usize);
    }

    #[test]
    fn parts_of_one_byte_take_no_more_memory_than_their_bytes() {
        let mut flow = Flow::default();
        for _ in 0..STREAM_CHUNK {
            flow.receive(data(1)).unwrap();
        }
        assert_eq!(flow.received.len(), 1);
        flow.receive(data(0)).unwrap();
        assert_eq!(flow.received.len(), 1);
    }

    #[test]
    fn a_closed_stream_still_returns_its_bytes_and_a_failed_one_does_not() {
        let mut flow = Flow::default();
        flow.receive(data(3)).unwrap();
        flow.receive(StreamPart::Close(None)).unwrap();
        assert!(!flow.is_drained());
        assert_eq!(flow.receive(data(1)), Err(StreamViolation::AfterEnd));
        assert_eq!(flow.take_received(), Some(vec![7; 3]));
        assert!(flow.is_drained());
        flow.receive(StreamPart::Close(Some("no room\nat all".into()))).unwrap();
        flow.fail(StreamError::Lost);
        assert_eq!(flow.failure(), Some(&StreamError::Refused("no room".into())));
    }
}
