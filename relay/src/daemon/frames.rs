//! Chooses the receiver of each frame of an agent, and builds acknowledgements. Pure.

use std::collections::BTreeSet;

use common::ids::JobId;
use common::stream::{STREAM_CHUNK, StreamPart};
use common::wire::{self, AgentFrame, Durable, Hello, RelayFrame};

use super::agent_streams::OpenRequest;
use super::core::{ConnectionId, Input};
use super::writer::{Receipt, Receipts, WriterCommand};

/// Receiver of a frame, with the content in the receiver's form.
pub(super) enum FrameRoute {
    /// The writer handles the frame; `action` completes the message "relay did not …".
    Writer { action: &'static str, command: WriterCommand },
    /// The core handles the frame.
    Core(Input),
    /// The frame opens a stream of git.
    OpenStream(OpenRequest),
    /// The frame is a part of a stream.
    StreamPart { stream: u32, part: StreamPart },
    /// The frame only shows that the agent is alive.
    Ignored,
}

/// Finds the receiver of a frame of a welcomed agent.
///
/// # Errors
/// The reason, if an agent may not send this frame: the connection ends.
pub(super) fn route_frame(
    frame: AgentFrame,
    connection_id: &ConnectionId,
    receipts: &Receipts,
) -> Result<FrameRoute, String> {
    let (connection_id, receipts) = (connection_id.clone(), receipts.clone());
    Ok(match frame {
        AgentFrame::Hello(_) => return Err("a second hello".to_owned()),
        AgentFrame::Events { job, epoch, first_seq, batch } => {
            if batch.len() > wire::MAX_BATCH || first_seq == 0 {
                return Err(format!("a batch of {} events from {first_seq}", batch.len()));
            }
            let command = WriterCommand::Events { connection_id, job, epoch, first_seq, batch, receipts };
            FrameRoute::Writer { action: "take events", command }
        }
        AgentFrame::Output { job, epoch, offset, bytes } => {
            let command = WriterCommand::Output { connection_id, job, epoch, offset, bytes, receipts };
            FrameRoute::Writer { action: "take output", command }
        }
        AgentFrame::Accepted { job, epoch } => {
            FrameRoute::Core(Input::Accepted { connection_id, job, epoch })
        }
        AgentFrame::Refused { job, epoch: _, reason, is_busy } => {
            let reason = common::text_format::one_line(&reason, common::event::MAX_TEXT);
            FrameRoute::Core(Input::Refused { connection_id, job, reason, is_full: is_busy })
        }
        AgentFrame::Vitals(vitals) => FrameRoute::Core(Input::Vitals { connection_id, vitals }),
        AgentFrame::StreamOpen { stream, job, epoch, service } => {
            FrameRoute::OpenStream(OpenRequest { stream, job, epoch, service })
        }
        AgentFrame::Stream { part: StreamPart::Data(bytes), .. } if bytes.len() > STREAM_CHUNK => {
            return Err(format!("{} bytes in one part of a stream", bytes.len()));
        }
        AgentFrame::Stream { stream, part } => FrameRoute::StreamPart { stream, part },
        AgentFrame::Pong { .. } => FrameRoute::Ignored,
    })
}

/// Returns the frames that acknowledge the durable data of a job.
///
/// # Errors
/// The reason why the connection has to be closed.
pub(super) fn acknowledgement(job: JobId, receipt: Receipt) -> Result<[RelayFrame; 2], String> {
    if let Some(problem) = receipt.reconnect_reason {
        return Err(format!("{job}: {problem}"));
    }
    let epoch = receipt.epoch;
    let ack = RelayFrame::Ack { job: job.clone(), epoch, seq: receipt.seq };
    Ok([ack, RelayFrame::OutputAck { job, epoch, offset: receipt.output_offset }])
}

/// Removes the jobs from a hello that are closed in the registry. A job that is missing in `durable` stays: the job's
/// files can't be read at the moment, so the relay does not know whether the job is closed.
pub(super) fn remove_closed_jobs(hello: &mut Hello, durable: &[Durable]) {
    let closed: BTreeSet<_> =
        durable.iter().filter(|run| run.closed).map(|run| (&run.job, run.epoch)).collect();
    hello.jobs.retain(|run| !closed.contains(&(&run.job, run.epoch)));
}
