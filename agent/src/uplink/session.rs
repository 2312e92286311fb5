//! State of one connection from `Welcome` on: the data to send next, and the handling of the relay's frames. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use common::wire::{self, AgentFrame, CodecError, Durable, RelayFrame};

use super::LinkError;
use super::action::{Action, SpoolAction};
use super::send_window::{Extent, InvalidAck, NextData, SendWindow};
use crate::spool::{Batch, MAX_SEQ, RunId};

/// Maximum number of answers that wait to be sent. If there are more, the relay sends but does not read: it is broken.
const MAX_REPLIES: usize = 256;

/// Send windows of all runs, and the answers that wait.
#[derive(Debug, Default)]
pub(super) struct Session {
    windows: BTreeMap<RunId, SendWindow>,
    /// Run that was sent last: the next one is tried first, so that none keeps the others waiting.
    last_sent: Option<RunId>,
    replies: VecDeque<AgentFrame>,
    /// Number of starts in progress.
    starts: usize,
}

/// Data that was read of a run.
#[derive(Debug)]
pub(super) enum Piece {
    /// Events from this sequence on.
    Events { first: u64, batch: Batch },
    /// Output from this offset on.
    Output { offset: u64, bytes: Vec<u8> },
}

impl Session {
    /// Starts with the data that the relay holds of the `runs` in the hello.
    pub(super) fn new(runs: &[RunId], durable: Vec<Durable>, actions: &mut VecDeque<Action>) -> Self {
        let mut session = Self::default();
        for held in durable {
            let run = RunId { job: held.job, epoch: held.epoch };
            if !runs.contains(&run) {
                continue;
            }
            if held.closed {
                actions.push_back(Action::Abandon(run));
                continue;
            }
            // Sums with a number that no run ever reaches would overflow: a relay that reports one receives
            // everything from the start.
            if held.seq.max(held.output) > MAX_SEQ {
                continue;
            }
            session.windows.insert(run.clone(), SendWindow::resume(held.seq, held.output));
            let (seq, output) = (held.seq, held.output);
            actions.push_back(Action::Spool(SpoolAction::Resume { run, seq, output }));
        }
        session
    }

    /// Handles a frame.
    pub(super) fn take_frame(
        &mut self,
        frame: RelayFrame,
        actions: &mut VecDeque<Action>,
    ) -> Result<(), LinkError> {
        let action = match frame {
            RelayFrame::Start { .. } if self.starts >= MAX_REPLIES => {
                return Err(LinkError::Protocol("it starts jobs without reading the replies".to_owned()));
            }
            RelayFrame::Start { job, epoch, spec } => {
                self.starts += 1;
                Action::Start { run: RunId { job, epoch }, spec }
            }
            RelayFrame::Extend { job, step, by_ms } => Action::Extend { job, step, by_ms },
            RelayFrame::Cancel { job, grace_ms } => Action::Cancel { job, grace_ms },
            RelayFrame::Ack { job, epoch, seq } => {
                let run = RunId { job, epoch };
                let Some(window) = self.windows.get_mut(&run) else { return Ok(()) };
                window.ack(seq)?;
                Action::Spool(SpoolAction::Ack { run, seq })
            }
            RelayFrame::OutputAck { job, epoch, offset } => {
                let run = RunId { job, epoch };
                let Some(window) = self.windows.get_mut(&run) else { return Ok(()) };
                window.ack_output(offset)?;
                Action::Spool(SpoolAction::AckOutput { run, offset })
            }
            RelayFrame::Ping { nonce } => return self.reply(AgentFrame::Pong { nonce }),
            RelayFrame::Welcome { .. } => return Err(LinkError::Protocol("it sent two welcomes".to_owned())),
        };
        actions.push_back(action);
        Ok(())
    }

    /// Queues the answer to a start.
    ///
    /// # Errors
    /// Too many answers wait.
    pub(super) fn started(&mut self, frame: AgentFrame) -> Result<(), LinkError> {
        self.starts = self.starts.saturating_sub(1);
        self.reply(frame)
    }

    fn reply(&mut self, frame: AgentFrame) -> Result<(), LinkError> {
        if self.replies.len() >= MAX_REPLIES {
            return Err(LinkError::Protocol("it sends requests without reading the replies".to_owned()));
        }
        self.replies.push_back(frame);
        Ok(())
    }

    /// Forgets a run that the relay has all of. A later acknowledgement of it is late, and no error.
    pub(super) fn forget(&mut self, run: &RunId) {
        self.windows.remove(run);
    }

    /// Returns the next answer, which is sent before any data.
    pub(super) fn next_reply(&mut self) -> Option<AgentFrame> {
        self.replies.pop_front()
    }

    pub(super) fn last_sent(&self) -> Option<&RunId> {
        self.last_sent.as_ref()
    }

    /// Returns the data of a run to read and send next.
    pub(super) fn next_data(&mut self, run: &RunId, extent: Extent) -> Option<NextData> {
        self.windows.entry(run.clone()).or_default().next_data(extent)
    }

    /// Returns the sequence and the offset up to which everything of a run was sent.
    pub(super) fn sent(&self, run: &RunId) -> (u64, u64) {
        self.windows.get(run).map_or((0, 0), SendWindow::sent)
    }

    /// Returns the frame with data of a run, which counts as sent from then on; `None` if the data is empty.
    pub(super) fn frame(&mut self, run: &RunId, piece: Piece) -> Result<Option<Vec<u8>>, LinkError> {
        let window = self.windows.entry(run.clone()).or_default();
        let RunId { job, epoch } = run.clone();
        let frame = match piece {
            Piece::Events { batch, .. } if batch.len() == 0 => return Ok(None),
            Piece::Output { bytes, .. } if bytes.is_empty() => return Ok(None),
            Piece::Events { first, batch } => {
                window.sent_events(batch.len(), batch.bytes().len());
                wire::encode_events(&job, epoch, first, batch.len(), batch.bytes())
            }
            Piece::Output { offset, bytes } => {
                window.sent_output(bytes.len());
                wire::encode(&AgentFrame::Output { job, epoch, offset, bytes })
            }
        };
        self.last_sent = Some(run.clone());
        frame.map(Some).map_err(encode_error)
    }
}

impl From<InvalidAck> for LinkError {
    fn from(error: InvalidAck) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Returns the error for a frame that can't be encoded; one that is within its bounds always can.
pub(super) fn encode_error(error: CodecError) -> LinkError {
    LinkError::Spool(io::Error::other(error))
}
