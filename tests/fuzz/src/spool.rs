//! A segment of the agent's spool: good records, jumps and garbage in any order. Records that are read lie before any
//! damage and are the same when the rest is cut off; the spool opens the segment and continues after it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::event::{Event, EventBody};
use jiff::Timestamp;
use worker_agent::internals::test_support::{FIRST, Piece, build_segment, event_bytes, events, scan_segment};
use worker_agent::internals::{ClockSource, RunId, SimulatedClocks, Spool};

use super::folder;

/// Splits the input into pieces: a kind, a length, and as many bytes.
fn pieces(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut pieces = Vec::new();
    while let [kind, length, rest @ ..] = bytes {
        let (piece, behind) = rest.split_at(usize::from(*length).min(rest.len()));
        pieces.push((*kind, piece));
        bytes = behind;
    }
    pieces
}

fn event(text: &[u8]) -> Vec<u8> {
    let body = EventBody::Message { text: String::from_utf8_lossy(text).into_owned() };
    event_bytes(&Event { at: Timestamp::UNIX_EPOCH, body })
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn open(state: &Path) -> Spool {
    let clocks = SimulatedClocks { monotonic: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
    Spool::open_with_clocks(state, ClockSource::Simulated(Arc::new(Mutex::new(clocks)))).expect("a spool")
}

fn goes_on(bytes: &[u8]) {
    let id = RunId { job: "a#1".parse().expect("a job"), epoch: 1 };
    let (state, spool) = (folder(), Spool::folder_path(folder()));
    let run = spool.join("a.1.1");
    let _ = std::fs::remove_dir_all(&spool);
    std::fs::create_dir_all(&run).expect("a folder");
    std::fs::write(run.join("spec.json"), "{}").expect("a file");
    std::fs::write(run.join(FIRST), bytes).expect("a file");
    let Some(run) = open(state).get_run(&id).filter(|run| !run.is_finished()) else { return };
    let Ok(held) = events(&run) else { return };
    run.append(EventBody::Warning { message: "next".to_owned() });
    drop(run);
    let run = open(state).get_run(&id).expect("a run that was there");
    let again = events(&run).expect("events that were there");
    assert_eq!(again[..held.len()], held);
    assert_eq!(again.len(), held.len() + 1);
}

/// Panics if a record is lost, invented or read behind damage.
pub fn check(input: &[u8]) {
    let pieces = pieces(input);
    let events: Vec<Vec<u8>> = pieces.iter().map(|(_, bytes)| event(bytes)).collect();
    let mut next = 1_u64;
    let pieces: Vec<Piece> = pieces
        .iter()
        .zip(&events)
        .map(|((kind, bytes), event)| match kind % 8 {
            0..4 => {
                let seq = next;
                next = seq.saturating_add(1);
                Piece::Record(seq, event)
            }
            4 => Piece::Record(number(bytes), event),
            5 => Piece::Record(next, bytes),
            6 => {
                next = number(bytes).saturating_add(1);
                Piece::Jump(number(bytes))
            }
            _ => Piece::Junk(bytes),
        })
        .collect();
    let bytes = build_segment(1, 7, &pieces);
    let found = scan_segment(&bytes).expect("its header is good");
    assert!(found.end <= bytes.len() && found.first <= found.next);
    assert_eq!(found.torn || found.damaged, found.end < bytes.len());
    let cut = scan_segment(&bytes[..found.end]).expect("its header is good");
    assert_eq!((cut.next, cut.end, cut.torn, cut.damaged), (found.next, found.end, false, false));
    goes_on(&bytes);
    if scan_segment(input).is_some() {
        goes_on(input);
    }
}
