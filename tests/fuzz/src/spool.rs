//! Check of segments of the agent's spool: valid records, jumps of the sequence number, and garbage, in any order. The
//! records before the first damage are read, and the spool appends to the segment.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::event::{Event, EventBody};
use jiff::Timestamp;
use worker_agent::internals::test_support::{
    FIRST_SEGMENT_NAME, Piece, build_segment, event_bytes, events, scan_segment,
};
use worker_agent::internals::{ClockSource, RunId, SimulatedClocks, Spool};

use super::folder;

/// Splits the input into pieces. Each is a byte for its kind, a byte for its length, and as many bytes.
fn split_into_pieces(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut pieces = Vec::new();
    while let [kind, length, rest @ ..] = bytes {
        let (piece, remaining) = rest.split_at(usize::from(*length).min(rest.len()));
        pieces.push((*kind, piece));
        bytes = remaining;
    }
    pieces
}

fn message_event(text: &[u8]) -> Vec<u8> {
    let body = EventBody::Message { text: String::from_utf8_lossy(text).into_owned() };
    event_bytes(&Event { at: Timestamp::UNIX_EPOCH, body })
}

fn parse_number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn open_spool(state: &Path) -> Spool {
    let clocks = SimulatedClocks { monotonic: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
    Spool::open_with_clocks(state, ClockSource::Simulated(Arc::new(Mutex::new(clocks)))).expect("a spool")
}

/// Panics if a spool with this segment loses an event when it appends another and is opened again.
fn check_append(bytes: &[u8]) {
    let id = RunId { job: "a#1".parse().expect("a job"), epoch: 1 };
    let (state, spool) = (folder(), Spool::folder_path(folder()));
    let run = spool.join("a.1.1");
    let _ = std::fs::remove_dir_all(&spool);
    std::fs::create_dir_all(&run).expect("a folder");
    std::fs::write(run.join("spec.json"), "{}").expect("a file");
    std::fs::write(run.join(FIRST_SEGMENT_NAME), bytes).expect("a file");
    let Some(run) = open_spool(state).get_run(&id).filter(|run| !run.is_finished()) else { return };
    let Ok(events_before) = events(&run) else { return };
    run.append(EventBody::Warning { message: "next".to_owned() });
    drop(run);
    let run = open_spool(state).get_run(&id).expect("a run that was there");
    let events_after = events(&run).expect("events that were there");
    assert_eq!(events_after[..events_before.len()], events_before);
    assert_eq!(events_after.len(), events_before.len() + 1);
}

/// Panics if a record is lost, invented, or read after damage.
pub fn check(input: &[u8]) {
    let pieces = split_into_pieces(input);
    let events: Vec<Vec<u8>> = pieces.iter().map(|(_, bytes)| message_event(bytes)).collect();
    let mut next_seq = 1_u64;
    let pieces: Vec<Piece> = pieces
        .iter()
        .zip(&events)
        .map(|((kind, bytes), event)| match kind % 8 {
            0..4 => {
                let seq = next_seq;
                next_seq = seq.saturating_add(1);
                Piece::Record(seq, event)
            }
            4 => Piece::Record(parse_number(bytes), event),
            5 => Piece::Record(next_seq, bytes),
            6 => {
                next_seq = parse_number(bytes).saturating_add(1);
                Piece::Jump(parse_number(bytes))
            }
            _ => Piece::Junk(bytes),
        })
        .collect();
    let bytes = build_segment(1, 7, &pieces);
    let scan = scan_segment(&bytes).expect("a segment with a valid header");
    assert!(scan.valid_end <= bytes.len() && scan.first_seq <= scan.next_seq);
    assert_eq!(scan.is_torn || scan.is_damaged, scan.valid_end < bytes.len());
    let truncated = scan_segment(&bytes[..scan.valid_end]).expect("a segment with a valid header");
    let expected = (scan.next_seq, scan.valid_end, false, false);
    assert_eq!((truncated.next_seq, truncated.valid_end, truncated.is_torn, truncated.is_damaged), expected);
    check_append(&bytes);
    if scan_segment(input).is_some() {
        check_append(input);
    }
}
