//! Tests of extended limits, one scenario each.

use std::time::Duration;

use common::event::Event;
use common::event_line::Source;

use super::*;

fn request(step: bool) -> LimitRequest {
    LimitRequest {
        path: "1.json".into(),
        job: "a#1".parse().unwrap(),
        step,
        by_ms: 1000,
        after_event_id: 10,
        target_ms: None,
    }
}

fn running(connection: Option<ConnectionNumber>) -> JobStatus {
    JobStatus {
        assignment: Some(Assignment::Running("x".into())),
        connection,
        caught_up: true,
        spec_ms: Some(5000),
    }
}

/// The event log of the job with one `extended` event.
fn log_with(id: u64, n: Option<u32>) -> Vec<EventLine> {
    let body = EventBody::Extended { n, limit_ms: 6000 };
    let event = Some(Event { at: jiff::Timestamp::UNIX_EPOCH, body });
    vec![EventLine { id, job: "a#1".parse().unwrap(), epoch: 1, seq: 1, source: Source::Agent, event }]
}

fn next(
    all: &mut Extensions,
    request: &LimitRequest,
    status: &JobStatus,
    lines: &[EventLine],
    now: Instant,
) -> NextAction {
    all.next_action(request, status, LogFollower::new(), lines, now)
}

#[test]
fn a_running_job_s_agent_is_told_once_and_its_answer_ends_the_request() {
    let (request, now) = (request(true), Instant::now());
    let mut all = Extensions::default();
    assert_eq!(next(&mut all, &request, &running(Some(1)), &[], now), NextAction::SendRequest);
    all.set_sent(&request.path, 1, now);
    assert_eq!(next(&mut all, &request, &running(Some(1)), &[], now), NextAction::Wait);
    // An older event and one of the job's own limit are not the answer.
    assert_eq!(next(&mut all, &request, &running(Some(1)), &log_with(10, Some(3)), now), NextAction::Wait);
    let mut all = Extensions::default();
    assert_eq!(next(&mut all, &request, &running(None), &log_with(11, None), now), NextAction::Wait);
    let mut all = Extensions::default();
    assert_eq!(
        next(&mut all, &request, &running(None), &log_with(11, Some(3)), now),
        NextAction::Done(Some(11))
    );
}

#[test]
fn a_request_lost_with_its_connection_is_sent_again_only_if_no_event_answers_it() {
    let (request, now) = (request(false), Instant::now());
    let mut all = Extensions::default();
    assert_eq!(next(&mut all, &request, &running(None), &[], now), NextAction::Wait);
    assert_eq!(next(&mut all, &request, &running(Some(1)), &[], now), NextAction::SendRequest);
    all.set_sent(&request.path, 1, now);
    assert_eq!(next(&mut all, &request, &running(None), &[], now), NextAction::Wait);
    let behind = JobStatus { caught_up: false, ..running(Some(2)) };
    assert_eq!(next(&mut all, &request, &behind, &[], now), NextAction::Wait);
    assert_eq!(next(&mut all, &request, &running(Some(2)), &[], now), NextAction::SendRequest);
}

#[test]
fn an_agent_that_had_nothing_to_move_is_not_asked_for_ever() {
    let (request, now) = (request(true), Instant::now());
    let mut all = Extensions::default();
    next(&mut all, &request, &running(Some(1)), &[], now);
    all.set_sent(&request.path, 1, now);
    let later = now + DEAD_AFTER;
    let before = later.checked_sub(Duration::from_millis(1)).unwrap();
    assert_eq!(next(&mut all, &request, &running(Some(1)), &[], before), NextAction::Wait);
    assert_eq!(next(&mut all, &request, &running(Some(1)), &[], later), NextAction::Done(None));
}

#[test]
fn a_queued_job_s_spec_gets_the_limit_that_was_stored_in_the_request_first() {
    let (mut request, now) = (request(false), Instant::now());
    let mut all = Extensions::default();
    let waiting = JobStatus { assignment: Some(Assignment::Queued), ..running(None) };
    assert_eq!(next(&mut all, &request, &waiting, &[], now), NextAction::StoreTargetLimit(6000));
    request.target_ms = Some(6000);
    assert_eq!(next(&mut all, &request, &waiting, &[], now), NextAction::WriteSpecLimit(6000));
    // After a crash in between, the limit does not move again, whatever the job's place is by then.
    let moved = JobStatus { spec_ms: Some(6000), ..running(Some(1)) };
    assert_eq!(next(&mut all, &request, &moved, &[], now), NextAction::Done(None));
    let ended = JobStatus { assignment: None, ..waiting };
    assert_eq!(next(&mut all, &request, &ended, &[], now), NextAction::Done(None));
    let offered = JobStatus { assignment: Some(Assignment::Offered("x".into())), ..waiting };
    assert_eq!(next(&mut all, &request, &offered, &[], now), NextAction::Wait);
}

#[test]
fn the_requests_of_a_job_take_turns() {
    let mut all = Extensions::default();
    let first = request(false);
    let second = LimitRequest { path: "2.json".into(), step: true, ..request(true) };
    let other = LimitRequest { path: "3.json".into(), job: "b#1".parse().unwrap(), ..request(true) };
    let requests = [first.clone(), second.clone(), other.clone()];
    assert_eq!(all.active_requests(&requests), [first, other.clone()]);
    assert_eq!(all.active_requests(&[second.clone(), other.clone()]), [second, other]);
}
