//! State of one connection from `Welcome` on: the data to send next, and the handling of the relay's frames. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io;

use common::stream::StreamService;
use common::vitals::MachineVitals;
use common::wire::{
    self, AgentFrame, CodecError, Durable, MODEL_PROTOCOL, RelayFrame, STREAM_PROTOCOL, VITALS_PROTOCOL,
};

use super::LinkError;
use super::action::{Action, SpoolAction};
use super::send_window::{InvalidAck, NextData, RunExtent, SendWindow};
use crate::spool::{EncodedEvents, MAX_SEQ, RunId};

/// Maximum number of queued replies. A relay that causes more is faulty: it sends frames without reading the replies.
const MAX_REPLIES: usize = 256;

/// Services for which the relay's protocol version has streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum StreamSupport {
    #[default]
    None,
    /// All services without connections of workers.
    Files,
    All,
}

impl StreamSupport {
    fn of_protocol(protocol: u32) -> Self {
        match protocol {
            MODEL_PROTOCOL.. => Self::All,
            STREAM_PROTOCOL.. => Self::Files,
            _ => Self::None,
        }
    }

    pub(super) fn includes(self, service: StreamService) -> bool {
        match self {
            Self::None => false,
            Self::Files => !matches!(service, StreamService::Model | StreamService::Network),
            Self::All => true,
        }
    }
}

/// Send windows of all runs, and the queued replies.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    /// True if the relay's protocol version has vitals.
    supports_vitals: bool,
    /// Services that streams can be opened for.
    streams: StreamSupport,
    /// Newest vitals, until they are sent.
    vitals: Option<Box<MachineVitals>>,
    send_windows: BTreeMap<RunId, SendWindow>,
    /// Run whose data was sent last. The next run is tried first, so that all runs take turns.
    last_sent_run: Option<RunId>,
    queued_replies: VecDeque<AgentFrame>,
    /// Number of starts in progress.
    pending_starts: usize,
}

/// Data of a run that was read from the spool.
#[derive(Debug)]
pub(super) enum RunData {
    /// Events from this sequence number on.
    Events { first_seq: u64, events: EncodedEvents },
    /// Output from this offset on.
    Output { offset: u64, bytes: Vec<u8> },
}

impl ConnectionState {
    /// Creates the state after a `Welcome`. `held_runs` names the data that the relay has of each run in `runs`; the
    /// hello named these runs.
    pub(super) fn new(
        protocol: u32,
        runs: &[RunId],
        held_runs: Vec<Durable>,
        actions: &mut VecDeque<Action>,
    ) -> Self {
        let mut connection = Self {
            supports_vitals: protocol >= VITALS_PROTOCOL,
            streams: StreamSupport::of_protocol(protocol),
            ..Self::default()
        };
        for held_run in held_runs {
            let run = RunId { job: held_run.job, epoch: held_run.epoch };
            if !runs.contains(&run) {
                continue;
            }
            if held_run.closed {
                actions.push_back(Action::Abandon(run));
                continue;
            }
            // Sums with an impossibly large position would overflow. Everything is sent from the start instead.
            if held_run.seq.max(held_run.output) > MAX_SEQ {
                continue;
            }
            connection.send_windows.insert(run.clone(), SendWindow::resume(held_run.seq, held_run.output));
            let (seq, output) = (held_run.seq, held_run.output);
            actions.push_back(Action::Spool(SpoolAction::Resume { run, seq, output_offset: output }));
        }
        connection
    }

    /// Handles a frame.
    pub(super) fn handle_frame(
        &mut self,
        frame: RelayFrame,
        actions: &mut VecDeque<Action>,
    ) -> Result<(), LinkError> {
        let action = match frame {
            RelayFrame::Start { .. } | RelayFrame::StartWithModel { .. }
                if self.pending_starts >= MAX_REPLIES =>
            {
                return Err(LinkError::Protocol("it starts jobs without reading the replies".to_owned()));
            }
            RelayFrame::Start { job, epoch, spec } => {
                self.pending_starts += 1;
                Action::Start { run: RunId { job, epoch }, spec, model: None }
            }
            RelayFrame::StartWithModel { job, epoch, spec, model } => {
                self.pending_starts += 1;
                Action::Start { run: RunId { job, epoch }, spec, model: Some(model) }
            }
            RelayFrame::Extend { job, step, by_ms } => Action::Extend { job, is_step_limit: step, by_ms },
            RelayFrame::Continue { job } => Action::Continue(job),
            RelayFrame::Cancel { job, grace_ms } => Action::Cancel { job, grace_ms },
            RelayFrame::Ack { job, epoch, seq } => {
                let run = RunId { job, epoch };
                let Some(window) = self.send_windows.get_mut(&run) else { return Ok(()) };
                window.ack(seq)?;
                Action::Spool(SpoolAction::Ack { run, seq })
            }
            RelayFrame::OutputAck { job, epoch, offset } => {
                let run = RunId { job, epoch };
                let Some(window) = self.send_windows.get_mut(&run) else { return Ok(()) };
                window.ack_output(offset)?;
                Action::Spool(SpoolAction::AckOutput { run, offset })
            }
            RelayFrame::Ping { nonce } => return self.queue_reply(AgentFrame::Pong { nonce }),
            RelayFrame::Stream { stream, part } => Action::Stream { stream, part },
            RelayFrame::Welcome { .. } => return Err(LinkError::Protocol("it sent two welcomes".to_owned())),
        };
        actions.push_back(action);
        Ok(())
    }

    /// Queues the reply to a start.
    ///
    /// # Errors
    /// Too many replies are queued.
    pub(super) fn queue_start_reply(&mut self, frame: AgentFrame) -> Result<(), LinkError> {
        self.pending_starts = self.pending_starts.saturating_sub(1);
        self.queue_reply(frame)
    }

    fn queue_reply(&mut self, frame: AgentFrame) -> Result<(), LinkError> {
        if self.queued_replies.len() >= MAX_REPLIES {
            return Err(LinkError::Protocol("it sends requests without reading the replies".to_owned()));
        }
        self.queued_replies.push_back(frame);
        Ok(())
    }

    /// Forgets a delivered run. A later acknowledgement of its data is not an error.
    pub(super) fn forget_run(&mut self, run: &RunId) {
        self.send_windows.remove(run);
    }

    /// Returns the services that streams can be opened for.
    pub(super) fn stream_support(&self) -> StreamSupport {
        self.streams
    }

    /// Sets the vitals to send. Replaces older vitals that have not been sent yet.
    pub(super) fn set_vitals(&mut self, vitals: Box<MachineVitals>) {
        self.vitals = self.supports_vitals.then_some(vitals);
    }

    /// Returns the next reply or the newest vitals, which are sent before any data.
    pub(super) fn next_reply(&mut self) -> Option<AgentFrame> {
        self.queued_replies.pop_front().or_else(|| self.vitals.take().map(AgentFrame::Vitals))
    }

    pub(super) fn last_sent_run(&self) -> Option<&RunId> {
        self.last_sent_run.as_ref()
    }

    /// Returns the data of a run to read and send next.
    pub(super) fn next_data(&mut self, run: &RunId, extent: RunExtent) -> Option<NextData> {
        self.send_windows.entry(run.clone()).or_default().next_data(extent)
    }

    /// Returns the last sequence number and the output offset of a run that were sent.
    pub(super) fn sent_positions(&self, run: &RunId) -> (u64, u64) {
        self.send_windows.get(run).map_or((0, 0), SendWindow::sent_positions)
    }

    /// Returns the encoded frame with data of a run, and counts the data as sent; `None` if the data is empty.
    pub(super) fn encode_data(&mut self, run: &RunId, data: RunData) -> Result<Option<Vec<u8>>, LinkError> {
        let window = self.send_windows.entry(run.clone()).or_default();
        let RunId { job, epoch } = run.clone();
        let frame = match data {
            RunData::Events { events: batch, .. } if batch.len() == 0 => return Ok(None),
            RunData::Output { bytes, .. } if bytes.is_empty() => return Ok(None),
            RunData::Events { first_seq: first, events: batch } => {
                window.record_sent_events(batch.len(), batch.bytes().len());
                let events = if self.supports_vitals {
                    Cow::Borrowed(batch.bytes())
                } else {
                    Cow::Owned(wire::without_vitals(batch.events()).map_err(encode_error)?)
                };
                wire::encode_events(&job, epoch, first, batch.len(), &events)
            }
            RunData::Output { offset, bytes } => {
                window.record_sent_output(bytes.len());
                wire::encode(&AgentFrame::Output { job, epoch, offset, bytes })
            }
        };
        self.last_sent_run = Some(run.clone());
        frame.map(Some).map_err(encode_error)
    }
}

impl From<InvalidAck> for LinkError {
    fn from(error: InvalidAck) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Returns the error for a frame that can't be encoded. This never happens if the limits are observed.
pub(super) fn encode_error(error: CodecError) -> LinkError {
    LinkError::Spool(io::Error::other(error))
}
