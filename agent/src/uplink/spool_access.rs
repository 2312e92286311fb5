//! Access of the state machine to the spool. Synchronous: the agent and the simulation both use it.

#![cfg_attr(
    not(feature = "internals"),
    expect(unreachable_pub, reason = "the simulation uses these functions, too")
)]

use std::io;
use std::sync::Arc;

use common::wire::{BATCH_BYTES, Hello, JobProgress, MAX_BATCH, Platform};

use super::LinkError;
use super::action::SpoolAction;
use super::connection_state::{ConnectionState, RunData};
use super::link::{Input, Link};
use super::send_window::{NextData, RunExtent};
use crate::spool::{JobSpool, Spool};

/// Returns the first frame of a connection, with the progress of every run in the spool.
pub fn build_hello(spool: &Spool, agent_id: &str, max_jobs: u32, platform: Platform) -> Hello {
    let progress = |run: &Arc<JobSpool>| JobProgress {
        job: run.run_id().job.clone(),
        epoch: run.run_id().epoch,
        last_seq: run.last_seq(),
    };
    Hello::new(agent_id, max_jobs, platform, spool.all_runs().iter().map(progress).collect())
}

/// Changes the spool. A run that is completely delivered is removed. A missing run is not an error, because an
/// acknowledgement can arrive late.
pub fn apply_action(spool: &Spool, action: &SpoolAction) -> Option<Input> {
    let (SpoolAction::Resume { run: id, .. }
    | SpoolAction::Ack { run: id, .. }
    | SpoolAction::AckOutput { run: id, .. }) = action;
    let run = spool.get_run(id)?;
    match action {
        SpoolAction::Resume { seq, output_offset: output, .. } => {
            run.continue_after(*seq);
            run.continue_output_after(*output);
            return None;
        }
        SpoolAction::Ack { seq, .. } => run.ack(*seq),
        SpoolAction::AckOutput { offset, .. } => run.ack_output(*offset),
    }
    run.is_delivered().then(|| {
        spool.remove_run(run.run_id());
        Input::Delivered(run.run_id().clone())
    })
}

/// Returns the bytes of the next frame to send: the hello, then replies, then data of the runs in turn. A run whose
/// files can't be read is repaired. If it was repaired a moment ago, it is skipped until the next repair is due.
pub fn next_frame(link: &mut Link, spool: &Spool) -> Option<Vec<u8>> {
    match find_next_frame(link, spool) {
        Ok(Some(frame)) => return Some(frame),
        Ok(None) => link.set_idle(),
        Err(error) => link.fail(error),
    }
    None
}

fn find_next_frame(link: &mut Link, spool: &Spool) -> Result<Option<Vec<u8>>, LinkError> {
    if let Some(reply) = link.next_reply()? {
        return Ok(Some(reply));
    }
    let Some(connection) = link.connection() else { return Ok(None) };
    let runs = spool.all_runs();
    let start_index =
        connection.last_sent_run().map_or(0, |last| runs.partition_point(|run| run.run_id() <= last));
    for run in runs[start_index..].iter().chain(&runs[..start_index]) {
        if let Some(data) = read_or_repair(connection, run)
            && let Some(frame) = connection.encode_data(run.run_id(), data)?
        {
            return Ok(Some(frame));
        }
    }
    Ok(None)
}

/// Reads the data of a run to send next. If that fails, the run is repaired and read once more.
fn read_or_repair(connection: &mut ConnectionState, run: &JobSpool) -> Option<RunData> {
    let error = match read_data(connection, run) {
        Ok(data) => return data,
        Err(_) if run.was_repaired_recently() => return None,
        Err(error) => error,
    };
    let (seq, output) = connection.sent_positions(run.run_id());
    run.repair(seq, output, &error);
    read_data(connection, run).unwrap_or_default()
}

fn read_data(connection: &mut ConnectionState, run: &JobSpool) -> io::Result<Option<RunData>> {
    let extent =
        RunExtent { last_seq: run.last_seq(), output_end: run.output_end(), is_finished: run.is_finished() };
    Ok(match connection.next_data(run.run_id(), extent) {
        None => None,
        Some(NextData::Events { first_seq, last_seq }) => {
            let max_events = usize::try_from(last_seq - first_seq + 1).unwrap_or(MAX_BATCH).min(MAX_BATCH);
            Some(RunData::Events { first_seq, events: run.read_stored(first_seq, max_events, BATCH_BYTES)? })
        }
        Some(NextData::Output { offset, max_bytes }) => {
            Some(RunData::Output { offset, bytes: run.read_output(offset, max_bytes)? })
        }
    })
}

#[cfg(test)]
#[path = "spool_access_tests.rs"]
mod tests;
