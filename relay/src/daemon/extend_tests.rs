//! Tests of moved limits, one scenario each.

use std::path::Path;
use std::time::Duration;

use common::event::Event;
use common::event_line::Source;

use super::*;

fn ask(step: bool) -> LimitRequest {
    LimitRequest {
        path: "1.json".into(),
        job: "a#1".parse().unwrap(),
        step,
        by_ms: 1000,
        after: 10,
        to_ms: None,
    }
}

fn running(session: Option<ConnectionNumber>) -> JobStatus {
    JobStatus { place: Some(Assignment::Running("x".into())), session, caught_up: true, spec_ms: Some(5000) }
}

/// The event log of the job with one `extended` event.
fn log_with(id: u64, n: Option<u32>) -> tempfile::NamedTempFile {
    let body = EventBody::Extended { n, limit_ms: 6000 };
    let event = Some(Event { at: jiff::Timestamp::UNIX_EPOCH, body });
    let job = "a#1".parse().unwrap();
    let line = EventLine { id, job, epoch: 1, seq: 1, source: Source::Agent, event };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), line.to_bytes().unwrap()).unwrap();
    file
}

#[test]
fn a_running_job_s_agent_is_told_once_and_its_answer_ends_the_request() {
    let (ask, now, nothing) = (ask(true), Instant::now(), &FileRef::given(Path::new("/nowhere/log")));
    let mut all = Extensions::default();
    assert_eq!(all.next(&ask, &running(Some(1)), nothing, now), Next::Send);
    all.sent(&ask, 1, now);
    assert_eq!(all.next(&ask, &running(Some(1)), nothing, now), Next::Wait);
    // An older event and one of the job's own limit are not the answer.
    assert_eq!(
        all.next(&ask, &running(Some(1)), &FileRef::given(log_with(10, Some(3)).path()), now),
        Next::Wait
    );
    let mut all = Extensions::default();
    assert_eq!(all.next(&ask, &running(None), &FileRef::given(log_with(11, None).path()), now), Next::Wait);
    let mut all = Extensions::default();
    assert_eq!(
        all.next(&ask, &running(None), &FileRef::given(log_with(11, Some(3)).path()), now),
        Next::Done(Some(11))
    );
}

#[test]
fn what_a_lost_connection_may_have_swallowed_is_told_again_only_when_the_agent_s_news_don_t_tell_it() {
    let (ask, now, nothing) = (ask(false), Instant::now(), &FileRef::given(Path::new("/nowhere/log")));
    let mut all = Extensions::default();
    assert_eq!(all.next(&ask, &running(None), nothing, now), Next::Wait);
    assert_eq!(all.next(&ask, &running(Some(1)), nothing, now), Next::Send);
    all.sent(&ask, 1, now);
    assert_eq!(all.next(&ask, &running(None), nothing, now), Next::Wait);
    let behind = JobStatus { caught_up: false, ..running(Some(2)) };
    assert_eq!(all.next(&ask, &behind, nothing, now), Next::Wait);
    assert_eq!(all.next(&ask, &running(Some(2)), nothing, now), Next::Send);
}

#[test]
fn an_agent_that_had_nothing_to_move_is_not_asked_for_ever() {
    let (ask, now, nothing) = (ask(true), Instant::now(), &FileRef::given(Path::new("/nowhere/log")));
    let mut all = Extensions::default();
    all.next(&ask, &running(Some(1)), nothing, now);
    all.sent(&ask, 1, now);
    let later = now + DEAD_AFTER;
    let before = later.checked_sub(Duration::from_millis(1)).unwrap();
    assert_eq!(all.next(&ask, &running(Some(1)), nothing, before), Next::Wait);
    assert_eq!(all.next(&ask, &running(Some(1)), nothing, later), Next::Done(None));
}

#[test]
fn a_waiting_job_s_spec_is_moved_to_a_limit_that_was_promised_first() {
    let (mut ask, now, nothing) = (ask(false), Instant::now(), &FileRef::given(Path::new("/nowhere/log")));
    let mut all = Extensions::default();
    let waiting = JobStatus { place: Some(Assignment::Queued), ..running(None) };
    assert_eq!(all.next(&ask, &waiting, nothing, now), Next::Promise(6000));
    ask.to_ms = Some(6000);
    assert_eq!(all.next(&ask, &waiting, nothing, now), Next::Move(6000));
    // After a crash in between, the limit does not move again, whatever the job's place is by then.
    let moved = JobStatus { spec_ms: Some(6000), ..running(Some(1)) };
    assert_eq!(all.next(&ask, &moved, nothing, now), Next::Done(None));
    let ended = JobStatus { place: None, ..waiting };
    assert_eq!(all.next(&ask, &ended, nothing, now), Next::Done(None));
    let offered = JobStatus { place: Some(Assignment::Offered("x".into())), ..waiting };
    assert_eq!(all.next(&ask, &offered, nothing, now), Next::Wait);
}

#[test]
fn the_requests_of_a_job_take_turns() {
    let mut all = Extensions::default();
    let first = ask(false);
    let second = LimitRequest { path: "2.json".into(), step: true, ..ask(true) };
    let other = LimitRequest { path: "3.json".into(), job: "b#1".parse().unwrap(), ..ask(true) };
    let asks = [first.clone(), second.clone(), other.clone()];
    assert_eq!(all.turns(&asks), [first, other.clone()]);
    assert_eq!(all.turns(&[second.clone(), other.clone()]), [second, other]);
}
