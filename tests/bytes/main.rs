//! Limit of the memory that decoding a frame takes, whatever lengths the frame claims: a separate program, because it
//! counts every allocation.

#![expect(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

use common::event::{Event, EventBody, Isolation, MAX_LIST, PlanItem};
use common::ids::JobId;
use common::wire::{
    self, AgentFrame, CodecError, Durable, Hello, JobProgress, MAX_MESSAGE, Platform, RelayFrame,
};
use jiff::Timestamp;
use peak_alloc::PeakAlloc;
use relay_tests::harness::figures::figure;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Peak of the memory that decoding these bytes takes; also returns true if they decode as a frame.
fn decoded(bytes: &[u8]) -> (usize, bool) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let agent = wire::decode::<AgentFrame>(bytes).is_ok();
    let relay = wire::decode::<RelayFrame>(bytes).is_ok();
    (MEMORY.peak_usage().saturating_sub(before), agent || relay)
}

/// Encodes a length as the wire does: in one byte, or in two, four or eight after a marker byte.
fn length(value: u64) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    match value {
        0..251 => bytes[..1].to_vec(),
        251..65_536 => [&[251], &bytes[..2]].concat(),
        65_536..4_294_967_296 => [&[252], &bytes[..4]].concat(),
        _ => [&[253], &bytes[..]].concat(),
    }
}

#[test]
fn c02_a_length_bomb_in_twelve_bytes_is_refused_and_takes_at_most_two_frames() {
    let (mut peak, mut cases) = (0, 0);
    for kind in 0..=255 {
        for claimed in [1 << 16, 1 << 20, 1 << 24, 1 << 31, 1 << 40, u64::MAX] {
            for before in 0..=3 {
                let mut bomb = [vec![kind], vec![3; before], length(claimed)].concat();
                bomb.truncate(12);
                peak = decoded(&bomb).0.max(peak);
                cases += 1;
            }
            // After a valid job: the lists inside a frame.
            let mut bomb = [&[kind, 3, b'a', b'#', b'1', 1, 0], length(claimed).as_slice()].concat();
            bomb.truncate(12);
            let (taken, frame) = decoded(&bomb);
            assert!(!frame || bomb.len() < 12, "{bomb:?} is a frame");
            peak = taken.max(peak);
            cases += 1;
        }
    }
    figure(&format!(
        "{cases} length bombs in 12 bytes (fault C02): peak {peak} bytes, bound {}",
        2 * MAX_MESSAGE
    ));
    assert!(peak <= 2 * MAX_MESSAGE, "{peak} bytes");
}

/// Frames that take the most memory for their size: every list is full of the smallest items.
fn full_lists() -> [Vec<u8>; 3] {
    let job: JobId = "a#1".parse().unwrap();
    let item = PlanItem { text: String::new(), completed: false };
    let plan = EventBody::Plan { items: vec![item; MAX_LIST] };
    let batch = vec![Event { at: Timestamp::UNIX_EPOCH, body: plan }; wire::MAX_BATCH];
    let events = AgentFrame::Events { job: job.clone(), epoch: 1, first_seq: 1, batch };
    let platform =
        Platform { system: String::new(), isolation: Isolation::None, codex: None, codex_problem: None };
    let hello = AgentFrame::Hello(Box::new(Hello {
        protocol_min: 1,
        protocol_max: 1,
        agent: String::new(),
        version: String::new(),
        max_jobs: 1,
        platform,
        jobs: vec![JobProgress { job: job.clone(), epoch: 1, last_seq: 1 }; wire::MAX_RUNS],
        vitals: None,
    }));
    let durable = vec![Durable { job, epoch: 1, seq: 1, output: 1, closed: false }; wire::MAX_RUNS];
    let welcome =
        RelayFrame::Welcome { protocol: 1, durable, exit_cause: None, now: jiff::Timestamp::UNIX_EPOCH };
    [wire::encode(&events), wire::encode(&hello), wire::encode(&welcome)].map(Result::unwrap)
}

#[test]
fn c02_the_fullest_frames_take_no_more_than_two_frames_of_memory() {
    let mut worst = 0;
    for bytes in full_lists() {
        let (peak, frame) = decoded(&bytes);
        assert!(frame, "a frame of {} bytes at its bounds is refused", bytes.len());
        worst = peak.max(worst);
    }
    // Millions of items, more than any list may have.
    for kind in 0..=255 {
        let head = [3, 3, b'a', b'#', b'1', 1, 1, 1, 20];
        let claimed = length((MAX_MESSAGE / 2 - 100) as u64);
        let mut bytes = [&head[..], b"2026-01-02T03:04:05Z", &[kind], &claimed].concat();
        bytes.resize(MAX_MESSAGE, 0);
        worst = decoded(&bytes).0.max(worst);
    }
    figure(&format!(
        "the fullest frames (fault C02): at most {worst} bytes of memory, bound {}",
        2 * MAX_MESSAGE
    ));
    assert!(worst <= 2 * MAX_MESSAGE, "{worst} bytes");
}

#[test]
fn c03_bytes_behind_a_frame_are_refused_however_many_and_whatever_they_are() {
    let frame = wire::encode(&RelayFrame::Ping { nonce: 7 }).unwrap();
    let mut refused = 0;
    for byte in 0..=255 {
        for count in [1, 2, 11, 4096] {
            let bytes = [frame.as_slice(), &vec![byte; count]].concat();
            assert!(
                matches!(wire::decode::<RelayFrame>(&bytes), Err(CodecError::TrailingBytes(n)) if n == count)
            );
            refused += 1;
        }
    }
    figure(&format!("{refused} frames with bytes after them (fault C03): {refused} refused"));
}
