//! Tests of requests to extend limits, one scenario each.

use std::time::Duration;

use common::event::Event;
use common::event_line::Source;

use super::*;

fn request(is_for_step: bool) -> LimitRequest {
    LimitRequest {
        path: "1.json".into(),
        job: "a#1".parse().unwrap(),
        is_for_step,
        by_ms: 1000,
        after_event_id: 10,
        target_ms: None,
    }
}

fn running_status(connection: Option<ConnectionNumber>) -> JobStatus {
    JobStatus {
        assignment: Some(Assignment::Running("x".into())),
        connection,
        has_caught_up: true,
        spec_ms: Some(5000),
    }
}

/// Lines of the job's log: one `extended` event.
fn extended_event(id: u64, n: Option<u32>) -> Vec<EventLine> {
    let body = EventBody::Extended { n, limit_ms: 6000 };
    let event = Some(Event { at: jiff::Timestamp::UNIX_EPOCH, body });
    vec![EventLine { id, job: "a#1".parse().unwrap(), epoch: 1, seq: 1, source: Source::Agent, event }]
}

fn next_action(
    extensions: &mut Extensions,
    request: &LimitRequest,
    status: &JobStatus,
    lines: &[EventLine],
    now: Instant,
) -> NextAction {
    extensions.next_action(request, status, LogFollower::new(), lines, now)
}

#[test]
fn a_request_is_sent_to_the_agent_once_and_its_answer_ends_the_request() {
    let (request, now) = (request(true), Instant::now());
    let mut extensions = Extensions::default();
    assert_eq!(
        next_action(&mut extensions, &request, &running_status(Some(1)), &[], now),
        NextAction::SendRequest
    );
    extensions.set_sent(&request.path, 1, now);
    assert_eq!(next_action(&mut extensions, &request, &running_status(Some(1)), &[], now), NextAction::Wait);
    // An older event, and an event about the limit of the whole job, are not the answer.
    assert_eq!(
        next_action(&mut extensions, &request, &running_status(Some(1)), &extended_event(10, Some(3)), now),
        NextAction::Wait
    );
    let mut extensions = Extensions::default();
    assert_eq!(
        next_action(&mut extensions, &request, &running_status(None), &extended_event(11, None), now),
        NextAction::Wait
    );
    let mut extensions = Extensions::default();
    assert_eq!(
        next_action(&mut extensions, &request, &running_status(None), &extended_event(11, Some(3)), now),
        NextAction::Done(Some(11))
    );
}

#[test]
fn a_request_lost_with_its_connection_is_sent_again_only_if_no_event_answers_it() {
    let (request, now) = (request(false), Instant::now());
    let mut extensions = Extensions::default();
    assert_eq!(next_action(&mut extensions, &request, &running_status(None), &[], now), NextAction::Wait);
    assert_eq!(
        next_action(&mut extensions, &request, &running_status(Some(1)), &[], now),
        NextAction::SendRequest
    );
    extensions.set_sent(&request.path, 1, now);
    assert_eq!(next_action(&mut extensions, &request, &running_status(None), &[], now), NextAction::Wait);
    let lagging = JobStatus { has_caught_up: false, ..running_status(Some(2)) };
    assert_eq!(next_action(&mut extensions, &request, &lagging, &[], now), NextAction::Wait);
    assert_eq!(
        next_action(&mut extensions, &request, &running_status(Some(2)), &[], now),
        NextAction::SendRequest
    );
}

#[test]
fn a_request_without_an_answer_ends_after_a_while() {
    let (request, now) = (request(true), Instant::now());
    let mut extensions = Extensions::default();
    next_action(&mut extensions, &request, &running_status(Some(1)), &[], now);
    extensions.set_sent(&request.path, 1, now);
    let later = now + DEAD_AFTER;
    let before = later.checked_sub(Duration::from_millis(1)).unwrap();
    assert_eq!(
        next_action(&mut extensions, &request, &running_status(Some(1)), &[], before),
        NextAction::Wait
    );
    assert_eq!(
        next_action(&mut extensions, &request, &running_status(Some(1)), &[], later),
        NextAction::Done(None)
    );
}

#[test]
fn a_queued_job_s_spec_gets_the_limit_that_was_stored_in_the_request_first() {
    let (mut request, now) = (request(false), Instant::now());
    let mut extensions = Extensions::default();
    let waiting = JobStatus { assignment: Some(Assignment::Queued), ..running_status(None) };
    assert_eq!(
        next_action(&mut extensions, &request, &waiting, &[], now),
        NextAction::StoreTargetLimit(6000)
    );
    request.target_ms = Some(6000);
    assert_eq!(next_action(&mut extensions, &request, &waiting, &[], now), NextAction::WriteSpecLimit(6000));
    // After a crash in between, the limit is not extended again, even if the job is running by then.
    let applied = JobStatus { spec_ms: Some(6000), ..running_status(Some(1)) };
    assert_eq!(next_action(&mut extensions, &request, &applied, &[], now), NextAction::Done(None));
    let ended = JobStatus { assignment: None, ..waiting };
    assert_eq!(next_action(&mut extensions, &request, &ended, &[], now), NextAction::Done(None));
    let offered = JobStatus { assignment: Some(Assignment::Offered("x".into())), ..waiting };
    assert_eq!(next_action(&mut extensions, &request, &offered, &[], now), NextAction::Wait);
}

#[test]
fn only_the_oldest_request_of_each_job_is_active() {
    let mut extensions = Extensions::default();
    let first = request(false);
    let second = LimitRequest { path: "2.json".into(), is_for_step: true, ..request(true) };
    let other = LimitRequest { path: "3.json".into(), job: "b#1".parse().unwrap(), ..request(true) };
    let requests = [first.clone(), second.clone(), other.clone()];
    assert_eq!(extensions.active_requests(&requests), [first, other.clone()]);
    assert_eq!(extensions.active_requests(&[second.clone(), other.clone()]), [second, other]);
}
