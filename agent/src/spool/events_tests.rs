use std::fs;
use std::os::unix::fs::FileExt;

use common::event::{EventBody, FinalState};
use common::wire;

use super::*;

/// Limits with segments of a few events each.
const SMALL: SpoolLimits = SpoolLimits {
    segment_bytes: 300,
    reserve_bytes: 4096,
    preallocate_step: 1024,
    end_reserve_bytes: 512,
    pending_bytes: 1024,
    unacked_bytes: 8192,
};

fn run() -> RunId {
    RunId { job: "demo#1".parse().unwrap(), epoch: 1 }
}

fn message_event(text: &str) -> Event {
    let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
    Event { at, body: EventBody::Message { text: text.to_owned() } }
}

fn event(n: usize) -> Event {
    message_event(&"x".repeat(n))
}

fn finished() -> Event {
    let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let body =
        EventBody::Finished { state: FinalState::Completed, error: None, exit_code: None, changes: None };
    Event { at, body }
}

/// Folder of a run, below a folder of all runs.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        // The folder is in memory, because the tests sync thousands of files.
        let site = Self(tempfile::tempdir_in("/dev/shm").unwrap());
        fs::create_dir(site.dir()).unwrap();
        site
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("demo.1.1")
    }

    fn create_log(&self, limits: SpoolLimits, events: &[Event]) -> EventLog {
        let mut log = EventLog::create(&self.dir(), &run(), limits).unwrap();
        for event in events {
            append(&mut log, event);
        }
        log
    }

    fn open(&self) -> (EventLog, RecoveredEvents) {
        EventLog::open(&self.dir(), &run(), SMALL).unwrap()
    }

    fn segments(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn set_aside_count(&self) -> usize {
        fs::read_dir(self.0.path()).unwrap().count() - 1
    }
}

fn append(log: &mut EventLog, event: &Event) {
    assert!(log.push(event, false).unwrap());
    assert!(matches!(log.flush(false).unwrap(), WriteResult::Written));
}

fn all_events(log: &mut EventLog) -> Vec<Event> {
    let (mut events, mut seq) = (Vec::new(), log.first_seq());
    while seq <= log.last_seq() {
        let batch = log.read(seq, 3, 9999).unwrap();
        assert!(batch.len() > 0, "nothing at {seq}");
        seq += batch.len() as u64;
        events.extend(batch.events().map(|event| wire::decode::<Event>(event).unwrap()));
    }
    events
}

fn numbered_events(count: usize) -> Vec<Event> {
    (1..=count).map(event).collect()
}

#[test]
fn a_read_exceeds_its_bounds_only_for_its_first_event_whatever_was_read_before() {
    let site = Site::new();
    let mut log =
        site.create_log(SpoolLimits::DEFAULT, &[event(1), event(2), event(3), event(400_000), event(5)]);
    let mut read = |first, max_events, max_bytes| {
        let batch = log.read(first, max_events, max_bytes).unwrap();
        batch.events().map(|event| wire::decode::<Event>(event).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(read(2, 2, 9999), [event(2), event(3)]);
    assert_eq!(read(3, 9, 100), [event(3)]);
    assert_eq!(read(4, 9, 1), [event(400_000)]);
    assert_eq!(read(1, 9, 9999), [event(1), event(2), event(3)]);
    assert_eq!(read(6, 9, 9999), []);
}

#[test]
fn pending_events_are_written_together_by_the_next_flush() {
    let site = Site::new();
    let mut log = site.create_log(SMALL, &[]);
    let before = fs::metadata(segment::segment_path(&site.dir(), 1)).unwrap().len();
    assert!(log.push(&event(1), false).unwrap() && log.push(&event(2), false).unwrap());
    assert_eq!(fs::metadata(segment::segment_path(&site.dir(), 1)).unwrap().len(), before);
    log.flush(false).unwrap();
    assert_eq!(all_events(&mut site.open().0), [event(1), event(2)]);
}

#[test]
fn a_long_run_takes_bounded_disk_space_and_survives_a_restart() {
    let site = Site::new();
    let mut log = site.create_log(SMALL, &[]);
    for n in 1..=200 {
        append(&mut log, &event(n % 50));
        if n > 10 {
            log.ack(n as u64 - 10);
        }
        assert!(site.segments().len() <= 8, "{:?}", site.segments());
    }
    assert!(log.first_seq() > 150);
    let events_read: Vec<Event> = all_events(&mut log);
    let (mut reopened, found) = site.open();
    assert_eq!((reopened.last_seq(), found.damage_report), (200, None));
    assert_eq!(all_events(&mut reopened), events_read);
    append(&mut reopened, &event(7));
    assert_eq!(site.open().0.last_seq(), 201);
}

#[test]
fn s03_every_truncation_of_the_newest_segment_recovers_the_complete_events() {
    let site = Site::new();
    let events = numbered_events(12);
    let log = site.create_log(SMALL, &events);
    let newest = segment::segment_path(&site.dir(), log.newest_segment.as_ref().unwrap().span.segment_number);
    let last_older_seq = log.newest_segment.as_ref().unwrap().span.first_seq - 1;
    drop(log);
    let whole = fs::read(&newest).unwrap();
    let mut seen = 0;
    for len in 0..=whole.len() {
        fs::write(&newest, &whole[..len]).unwrap();
        let (mut log, found) = site.open();
        assert_eq!((found.damage_report, site.set_aside_count()), (None, 0), "length {len}");
        assert!(log.last_seq() >= last_older_seq);
        let events_read = all_events(&mut log);
        assert_eq!(events_read, events[..events_read.len()], "length {len}");
        seen = seen.max(events_read.len());
        append(&mut log, &event(9));
        assert_eq!(all_events(&mut site.open().0).len(), events_read.len() + 1);
        for segment in site.segments().iter().filter(|name| site.dir().join(name) > newest) {
            fs::remove_file(site.dir().join(segment)).unwrap();
        }
    }
    assert_eq!(seen, events.len());
}

#[test]
fn s04_no_flipped_bit_of_a_segment_changes_or_skips_an_event() {
    let site = Site::new();
    let events = numbered_events(7);
    drop(site.create_log(SpoolLimits { segment_bytes: 150, ..SMALL }, &events));
    let kept: Vec<_> =
        site.segments().iter().map(|name| (name.clone(), fs::read(site.dir().join(name)).unwrap())).collect();
    let (mut flips, mut told, mut torn) = (0, 0, 0);
    for (n, (name, whole)) in kept.iter().enumerate() {
        for bit in 0..whole.len() * 8 {
            fs::remove_dir_all(site.0.path()).unwrap();
            fs::create_dir_all(site.dir()).unwrap();
            for (name, bytes) in &kept {
                fs::write(site.dir().join(name), bytes).unwrap();
            }
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(site.dir().join(name), bad).unwrap();
            let (mut log, found) = site.open();
            let events_read = all_events(&mut log);
            assert!(events_read.len() < events.len(), "segment {n}, bit {bit}");
            assert_eq!(events_read, events[..events_read.len()], "segment {n}, bit {bit}");
            assert_eq!(found.damage_report.is_some(), site.set_aside_count() > 0);
            // Damage without a good record after it can't be told from a torn write.
            assert!(
                found.damage_report.is_some() || events_read.len() == events.len() - 1,
                "segment {n}, bit {bit}"
            );
            (flips, told, torn) = (
                flips + 1,
                told + u32::from(found.damage_report.is_some()),
                torn + u32::from(found.damage_report.is_none()),
            );
        }
    }
    figure(&format!(
        "bits of a spool flipped (fault S04): {flips} bits, {told} reported as damage, {torn} cut as torn, 0 accepted"
    ));
}

fn figure(text: &str) {
    use std::io::Write;
    writeln!(std::io::stdout(), "figure: {text}").unwrap();
}

#[test]
fn a_missing_segment_keeps_the_events_before_it_and_the_final_event() {
    let site = Site::new();
    let mut events = numbered_events(12);
    events.push(finished());
    drop(site.create_log(SMALL, &events));
    fs::remove_file(site.dir().join(&site.segments()[1])).unwrap();
    let (mut log, found) = site.open();
    let events_read = all_events(&mut log);
    assert_eq!(events_read, events[..events_read.len()]);
    assert!(!events_read.is_empty() && events_read.len() < 10, "{}", events_read.len());
    let message = found.damage_report.unwrap();
    assert!(message.contains(&format!("after event {}", events_read.len())), "{message}");
    assert!(message.contains("demo.1.1.corrupt-1"), "{message}");
    assert_eq!(found.final_events, [finished()]);
    assert!(site.set_aside_count() >= 1);
    assert_eq!(site.open().1.damage_report, None);
}

#[test]
fn the_final_event_can_follow_events_that_only_the_relay_has() {
    let site = Site::new();
    let mut log = site.create_log(SMALL, &[event(1), finished()]);
    log.continue_after(50, true, None).unwrap();
    assert_eq!(log.last_seq(), 51);
    log.flush(true).unwrap();
    for mut log in [log, site.open().0] {
        assert_eq!((log.first_seq(), log.last_seq()), (51, 51));
        assert_eq!(all_events(&mut log), [finished()]);
    }
}

#[test]
fn events_added_before_the_relay_answers_are_renumbered_after_its_last() {
    // The file has 3 events. New events get sequence numbers from 4 on, although the relay may have events up to
    // `durable`.
    for (durable, first) in [(3, 1), (4, 5), (5, 6), (9, 10)] {
        let site = Site::new();
        drop(site.create_log(SMALL, &numbered_events(3)));
        let (mut log, _) = site.open();
        append(&mut log, &message_event("added by the restarted agent"));
        append(&mut log, &finished());
        log.continue_after(durable, true, None).unwrap();
        log.ack(durable);
        log.flush(true).unwrap();
        let last = durable.max(3) + 2;
        assert_eq!((log.first_seq(), log.last_seq()), (first, last), "{durable}");
        let end = [message_event("added by the restarted agent"), finished()];
        assert_eq!(all_events(&mut log)[log_len(durable)..], end, "{durable}");
        assert_eq!(site.open().0.last_seq(), last, "{durable}");
    }
}

fn log_len(durable: u64) -> usize {
    if durable == 3 { 3 } else { 0 }
}

#[test]
fn an_unfinished_run_continues_after_the_last_event_of_the_relay() {
    let site = Site::new();
    drop(site.create_log(SMALL, &numbered_events(3)));
    let (mut log, _) = site.open();
    log.continue_after(7, false, None).unwrap();
    append(&mut log, &finished());
    assert_eq!((log.last_seq(), all_events(&mut log)), (8, vec![finished()]));
    assert_eq!(site.open().0.last_seq(), 8);
}

#[test]
fn a_relay_that_lost_acknowledged_events_gets_a_warning_and_the_rest() {
    let site = Site::new();
    let mut log = site.create_log(SMALL, &numbered_events(30));
    log.ack(20);
    let (first, left) = (log.first_seq(), all_events(&mut log));
    assert_eq!(log.missing_count(5), first - 6);
    log.continue_after(5, false, Some(&message_event("lost"))).unwrap();
    log.flush(false).unwrap();
    for mut log in [log, site.open().0] {
        assert_eq!((log.first_seq(), log.last_seq()), (6, 6 + left.len() as u64));
        assert_eq!(all_events(&mut log), [vec![message_event("lost")], left.clone()].concat());
    }
}

#[test]
fn events_that_a_full_disk_kept_in_memory_can_be_acknowledged_there() {
    let site = Site::new();
    let mut log = site.create_log(SMALL, &numbered_events(3));
    assert!(log.push(&event(50), false).unwrap() && log.push(&event(51), false).unwrap());
    assert_eq!(all_events(&mut log).len(), 5);
    log.ack(4);
    log.flush(false).unwrap();
    append(&mut log, &event(52));
    for mut log in [log, site.open().0] {
        assert_eq!((log.first_seq(), all_events(&mut log)), (5, vec![event(51), event(52)]));
    }
}

#[test]
fn pending_events_are_bounded_and_the_final_event_has_extra_space() {
    let site = Site::new();
    let mut log = site.create_log(SMALL, &[]);
    let mut pushed_count = 0;
    while log.push(&event(100), false).unwrap() {
        pushed_count += 1;
    }
    assert!(
        log.is_congested() && log.pending.total_bytes() <= SMALL.max_pending_bytes(),
        "{}",
        log.pending.total_bytes()
    );
    assert!(log.push(&finished(), true).unwrap());
    // All pending bytes fit into the space that the segment has reserved.
    let metadata = fs::metadata(segment::segment_path(&site.dir(), 1)).unwrap();
    assert!(log.pending.total_bytes() as u64 <= SMALL.reserve_bytes && metadata.len() < 100);
    log.flush(true).unwrap();
    let (mut reopened, found) = site.open();
    assert_eq!((reopened.last_seq(), found.last_event), (pushed_count + 1, Some(finished())));
    assert_eq!(all_events(&mut reopened).len() as u64, pushed_count + 1);
}

#[test]
fn an_unwritable_file_is_replaced_by_a_new_one_with_everything_unacknowledged() {
    let site = Site::new();
    let mut log = site.create_log(SpoolLimits::DEFAULT, &numbered_events(5));
    log.ack(2);
    let newest = log.newest_segment.as_mut().unwrap();
    // A descriptor that can't be written simulates a disk that can't be written.
    newest.file = File::open(segment::segment_path(&site.dir(), 1)).unwrap();
    assert!(log.push(&event(6), false).unwrap());
    assert!(matches!(log.flush(false).unwrap(), WriteResult::Rewritten(_)));
    assert_eq!(site.segments(), ["events.000002"]);
    for mut log in [log, site.open().0] {
        assert_eq!((log.first_seq(), all_events(&mut log)), (3, numbered_events(6)[2..].to_vec()));
    }
}

#[test]
fn an_event_that_changed_on_the_disk_is_a_read_error() {
    let site = Site::new();
    let mut log = site.create_log(SMALL, &numbered_events(3));
    let file = File::options().write(true).open(segment::segment_path(&site.dir(), 1)).unwrap();
    let span = &log.newest_segment.as_ref().unwrap().span;
    file.write_all_at(b"?", span.end_offset - 1).unwrap();
    assert_eq!(log.read(1, 2, 9999).unwrap().len(), 2);
    assert_eq!(log.read(3, 9, 9999).unwrap_err().kind(), io::ErrorKind::InvalidData);
}
