//! Frames of agents: where each one goes, and what answers it. Pure.

use std::collections::BTreeSet;

use common::ids::JobId;
use common::wire::{self, AgentFrame, Durable, Hello, RelayFrame};

use super::core::{ConnectionId, Input};
use super::writer::{Command, Receipt, Receipts};

/// Destination of a frame.
pub(super) enum Route {
    /// The writer takes it; `what` names the content for people.
    Writer { what: &'static str, command: Command },
    /// The core takes it.
    Core(Input),
    /// Only shows that the agent is alive.
    Nothing,
}

/// Finds the destination of a frame of a welcomed agent.
///
/// # Errors
/// The reason, if an agent may not send this frame: the connection ends.
pub(super) fn route(
    frame: AgentFrame,
    connection_id: &ConnectionId,
    receipts: &Receipts,
) -> Result<Route, String> {
    let (connection_id, receipts) = (connection_id.clone(), receipts.clone());
    Ok(match frame {
        AgentFrame::Hello(_) => return Err("a second hello".to_owned()),
        AgentFrame::Events { job, epoch, first_seq, batch } => {
            if batch.len() > wire::MAX_BATCH || first_seq == 0 {
                return Err(format!("a batch of {} events from {first_seq}", batch.len()));
            }
            let command = Command::Events { connection_id, job, epoch, first_seq, batch, receipts };
            Route::Writer { what: "take events", command }
        }
        AgentFrame::Output { job, epoch, offset, bytes } => {
            let command = Command::Output { connection_id, job, epoch, offset, bytes, receipts };
            Route::Writer { what: "take output", command }
        }
        AgentFrame::Accepted { job, epoch } => Route::Core(Input::Accepted { connection_id, job, epoch }),
        AgentFrame::Refused { job, epoch: _, reason, busy } => {
            let reason = common::text::one_line(&reason, common::event::MAX_TEXT);
            Route::Core(Input::Refused { connection_id, job, reason, busy })
        }
        AgentFrame::Vitals(vitals) => Route::Core(Input::Vitals { connection_id, vitals }),
        AgentFrame::Pong { .. } => Route::Nothing,
    })
}

/// Returns the frames that acknowledge what is durable of a job.
///
/// # Errors
/// The reason, if the connection can't go on.
pub(super) fn acknowledgement(job: JobId, receipt: Receipt) -> Result<[RelayFrame; 2], String> {
    if let Some(problem) = receipt.problem {
        return Err(format!("{job}: {problem}"));
    }
    let epoch = receipt.epoch;
    let ack = RelayFrame::Ack { job: job.clone(), epoch, seq: receipt.seq };
    Ok([ack, RelayFrame::OutputAck { job, epoch, offset: receipt.output }])
}

/// Keeps in a hello the jobs that the registry needs more of. A job missing from what is durable still belongs to the
/// agent: its files can't be read at the moment.
pub(super) fn retain_open(hello: &mut Hello, durable: &[Durable]) {
    let closed: BTreeSet<_> =
        durable.iter().filter(|held| held.closed).map(|held| (&held.job, held.epoch)).collect();
    hello.jobs.retain(|held| !closed.contains(&(&held.job, held.epoch)));
}
