//! Frames to send on a connection, and the handling of the relay's frames. Independent of the transport.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use common::wire::{self, AgentFrame, BATCH_BYTES, CodecError, Durable, JobProgress, MAX_BATCH, RelayFrame};

use tokio::task::JoinSet;

use super::LinkError;
use super::send_window::{Extent, NextData, SendWindow};
use crate::job::JobManager;
use crate::spool::{Batch, JobSpool, MAX_SEQ, RunId, Spool};

/// Most answers that wait to be sent. The relay has to read; one that only writes is broken.
const MAX_REPLIES: usize = 256;

/// State of one connection, from `Welcome` on.
#[derive(Debug)]
pub(super) struct Session<'a> {
    spool: &'a Spool,
    jobs: &'a Arc<JobManager>,
    windows: BTreeMap<RunId, SendWindow>,
    /// Run that was sent last: the next one is tried first, so that none keeps the others waiting.
    last_sent: Option<RunId>,
    replies: VecDeque<AgentFrame>,
    /// Starts of jobs in progress. They are dropped with the connection: the relay repeats them.
    starts: JoinSet<AgentFrame>,
}

/// Returns the progress of every run in the spool, for `Hello`.
pub(super) fn progress(spool: &Spool) -> Vec<JobProgress> {
    let runs = spool.all();
    runs.iter()
        .map(|run| JobProgress {
            job: run.run().job.clone(),
            epoch: run.run().epoch,
            last_seq: run.last_seq(),
        })
        .collect()
}

impl<'a> Session<'a> {
    /// Starts with what the relay holds.
    pub(super) fn new(spool: &'a Spool, jobs: &'a Arc<JobManager>, durable: Vec<Durable>) -> Self {
        let mut session = Self {
            spool,
            jobs,
            windows: BTreeMap::new(),
            last_sent: None,
            replies: VecDeque::new(),
            starts: JoinSet::new(),
        };
        for held in durable {
            session.resume(held);
        }
        session
    }

    fn resume(&mut self, held: Durable) {
        let id = RunId { job: held.job, epoch: held.epoch };
        let Some(run) = self.spool.get(&id) else { return };
        if held.closed {
            self.jobs.abandon(&id);
            return;
        }
        // Sums with a number that no run ever reaches would overflow: a relay that reports one receives everything
        // from the start.
        if held.seq.max(held.output) > MAX_SEQ {
            return;
        }
        run.continue_after(held.seq);
        run.continue_output_after(held.output);
        self.windows.insert(id, SendWindow::resume(held.seq, held.output));
    }

    /// Handles a frame.
    ///
    /// # Errors
    /// The relay broke the protocol.
    pub(super) fn take_frame(&mut self, frame: RelayFrame) -> Result<(), LinkError> {
        match frame {
            RelayFrame::Start { job, epoch, spec } => {
                if self.starts.len() >= MAX_REPLIES {
                    return Err(LinkError::Protocol("it starts jobs without reading the replies".to_owned()));
                }
                self.starts.spawn(self.jobs.start(RunId { job, epoch }, spec));
                Ok(())
            }
            RelayFrame::Extend { job, step, by_ms } => {
                self.jobs.extend(&job, step, by_ms);
                Ok(())
            }
            RelayFrame::Cancel { job, grace_ms } => {
                self.jobs.cancel(&job, grace_ms);
                Ok(())
            }
            RelayFrame::Ack { job, epoch, seq } => self.apply_ack(&RunId { job, epoch }, |window, run| {
                window.ack(seq)?;
                run.ack(seq);
                Ok(())
            }),
            RelayFrame::OutputAck { job, epoch, offset } => {
                self.apply_ack(&RunId { job, epoch }, |window, run| {
                    window.ack_output(offset)?;
                    run.ack_output(offset);
                    Ok(())
                })
            }
            RelayFrame::Ping { nonce } => self.reply(AgentFrame::Pong { nonce }),
            RelayFrame::Welcome { .. } => Err(LinkError::Protocol("it sent two welcomes".to_owned())),
        }
    }

    /// Waits for the answer to a start, and queues it for sending; waits for ever while there is none to come.
    /// Cancel-safe: an answer is taken out without a wait after it.
    ///
    /// # Errors
    /// Too many answers wait.
    pub(super) async fn next_started(&mut self) -> Result<(), LinkError> {
        match self.starts.join_next().await {
            Some(Ok(frame)) => self.reply(frame),
            // Cut off by the runtime's end.
            Some(Err(_)) => Ok(()),
            None => std::future::pending().await,
        }
    }

    fn reply(&mut self, frame: AgentFrame) -> Result<(), LinkError> {
        if self.replies.len() >= MAX_REPLIES {
            return Err(LinkError::Protocol("it sends requests without reading the replies".to_owned()));
        }
        self.replies.push_back(frame);
        Ok(())
    }

    /// Handles an acknowledgement. One of a run that is no longer here is late, and no error.
    fn apply_ack(
        &mut self,
        id: &RunId,
        apply: impl FnOnce(&mut SendWindow, &JobSpool) -> Result<(), super::send_window::InvalidAck>,
    ) -> Result<(), LinkError> {
        let (Some(window), Some(run)) = (self.windows.get_mut(id), self.spool.get(id)) else { return Ok(()) };
        apply(window, &run).map_err(|error| LinkError::Protocol(error.to_string()))?;
        if run.is_delivered() {
            self.windows.remove(id);
            self.spool.remove(id);
        }
        Ok(())
    }

    /// Returns the bytes of the next frame to send: answers first, then the runs in turn. A run whose files can't be
    /// read is repaired, or skipped until it can be repaired: it does not keep the others waiting.
    ///
    /// # Errors
    /// A frame can't be encoded.
    pub(super) fn next_frame(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        if let Some(reply) = self.replies.pop_front() {
            return wire::encode(&reply).map(Some).map_err(encode_error);
        }
        let runs = self.spool.all();
        let after = self.last_sent.as_ref().map_or(0, |turn| runs.partition_point(|run| run.run() <= turn));
        for run in runs[after..].iter().chain(&runs[..after]) {
            if let Some(frame) = self.next_of_run(run)? {
                self.last_sent = Some(run.run().clone());
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn next_of_run(&mut self, run: &Arc<JobSpool>) -> Result<Option<Vec<u8>>, LinkError> {
        let window = self.windows.entry(run.run().clone()).or_default();
        let RunId { job, epoch } = run.run().clone();
        let Some(piece) = read_or_repair(run, window) else { return Ok(None) };
        match piece {
            Read::Events { first, batch } => {
                if batch.len() == 0 {
                    return Ok(None);
                }
                window.sent_events(batch.len(), batch.bytes().len());
                let frame = wire::encode_events(&job, epoch, first, batch.len(), batch.bytes());
                frame.map(Some).map_err(encode_error)
            }
            Read::Output { offset, bytes } => {
                if bytes.is_empty() {
                    return Ok(None);
                }
                window.sent_output(bytes.len());
                let frame = AgentFrame::Output { job, epoch, offset, bytes };
                wire::encode(&frame).map(Some).map_err(encode_error)
            }
        }
    }
}

/// Data that was read of a run.
enum Read {
    Events { first: u64, batch: Batch },
    Output { offset: u64, bytes: Vec<u8> },
}

/// Reads the data to be sent next. If that fails, the run is repaired and read once more.
fn read_or_repair(run: &JobSpool, window: &SendWindow) -> Option<Read> {
    let error = match read(run, window) {
        Ok(piece) => return piece,
        Err(_) if run.was_just_repaired() => return None,
        Err(error) => error,
    };
    let (seq, output) = window.sent();
    run.repair(seq, output, &error);
    read(run, window).unwrap_or_default()
}

fn read(run: &JobSpool, window: &SendWindow) -> io::Result<Option<Read>> {
    let extent = Extent { last_seq: run.last_seq(), output: run.output_end(), finished: run.is_finished() };
    Ok(match window.next_data(extent) {
        None => None,
        Some(NextData::Events { first, last }) => {
            let most = usize::try_from(last - first + 1).unwrap_or(MAX_BATCH).min(MAX_BATCH);
            Some(Read::Events { first, batch: run.read_stored(first, most, BATCH_BYTES)? })
        }
        Some(NextData::Output { offset, most }) => {
            Some(Read::Output { offset, bytes: run.read_output(offset, most)? })
        }
    })
}

/// Returns the error for a frame that can't be encoded; one that is within its bounds always can.
fn encode_error(error: CodecError) -> LinkError {
    LinkError::Spool(io::Error::other(error))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
