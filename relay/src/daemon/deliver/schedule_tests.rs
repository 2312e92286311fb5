//! Tests of the schedule, on a clock that only the test advances.

use std::time::Duration;

use common::origin::Session;

use super::*;
use crate::registry::outbox::SCHEMA;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_767_323_045_000 + ms).unwrap()
}

fn entry(job: &str, kinds: &[ChannelKind]) -> Entry {
    let way = Channel { state: ChannelState::Pending, attempts: 0, next_at: Some(at(0)), last_error: None };
    Entry {
        schema: SCHEMA,
        job: job.parse().unwrap(),
        ended_at: at(0),
        session: Some(Session { agent: "codex".into(), id: "t-1".into(), home: None }),
        ways: kinds.iter().map(|kind| (kind.as_str().to_owned(), way.clone())).collect(),
    }
}

fn unseen(_: &Entry) -> DeliveryContext {
    DeliveryContext::default()
}

fn runs(acts: &[Action]) -> Vec<String> {
    let run = |act: &Action| match act {
        Action::Run(job, kind) => Some(format!("{job} {kind}")),
        Action::Save(_) | Action::Close(_) => None,
    };
    acts.iter().filter_map(run).collect()
}

/// Returns the state, attempts and error of a channel in the last saved entry.
fn saved(acts: &[Action], kind: ChannelKind) -> (ChannelState, u32, Option<String>) {
    let mut entries = acts.iter().filter_map(|act| match act {
        Action::Save(entry) => Some(entry),
        Action::Run(..) | Action::Close(_) => None,
    });
    let way = entries.next_back().unwrap().ways[kind.as_str()].clone();
    (way.state, way.attempts, way.last_error)
}

fn due(book: &mut Schedule, now: Timestamp) -> Vec<Action> {
    book.due(now, |_| true, unseen)
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed(reason.to_owned())
}

#[test]
fn an_end_goes_out_by_each_way_once() {
    let mut book = Schedule::default();
    let job = "a#1".parse().unwrap();
    let new = entry("a#1", &[ChannelKind::Codex, ChannelKind::Webhook]);
    assert_eq!(book.add(new.clone(), false), [Action::Save(new.clone())]);
    assert_eq!(book.add(new, false), [], "told twice, it is one end");
    assert_eq!(runs(&due(&mut book, at(0))), ["a#1 codex", "a#1 webhook"]);
    assert_eq!(due(&mut book, at(1)), [], "what runs is not started again");
    let acts = book.done(&job, ChannelKind::Codex, Outcome::Taken, at(2), 1.0);
    assert_eq!(saved(&acts, ChannelKind::Codex), (ChannelState::Taken, 1, None));
    let acts = book.done(&job, ChannelKind::Webhook, Outcome::Taken, at(3), 1.0);
    assert_eq!(acts.last(), Some(&Action::Close(job)));
    assert_eq!((due(&mut book, at(999_999)), book.next(at(4))), (Vec::new(), None));
}

#[test]
fn a_way_that_fails_is_tried_again_after_growing_pauses_and_given_up_after_a_day() {
    let mut book = Schedule::default();
    let job: JobId = "a#1".parse().unwrap();
    book.add(entry("a#1", &[ChannelKind::Webhook]), false);
    let mut now = at(0);
    let mut pauses = Vec::new();
    let last = loop {
        let acts = due(&mut book, now);
        if runs(&acts).is_empty() {
            break acts;
        }
        book.done(&job, ChannelKind::Webhook, failed("connection refused"), now, 1.0);
        let next = book.next(now).unwrap();
        pauses.push(next.duration_since(now).as_secs());
        now = next;
    };
    assert_eq!(pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    assert_eq!(pauses.len(), 296);
    let (state, attempts, error) = saved(&last, ChannelKind::Webhook);
    assert_eq!((state, attempts, error.as_deref()), (ChannelState::GivenUp, 296, Some("connection refused")));
    assert_eq!(last.last(), Some(&Action::Close(job)));
}

#[test]
fn a_receiver_that_refuses_and_a_desktop_that_is_not_there_are_left_alone() {
    let mut book = Schedule::default();
    let job: JobId = "a#1".parse().unwrap();
    book.add(entry("a#1", &[ChannelKind::Desktop, ChannelKind::Webhook]), false);
    due(&mut book, at(0));
    let acts = book.done(&job, ChannelKind::Webhook, Outcome::Refused("410".into()), at(1), 1.0);
    assert_eq!(saved(&acts, ChannelKind::Webhook), (ChannelState::GivenUp, 1, Some("410".to_owned())));
    for (n, now) in [(1, 1), (2, 10_000), (3, 20_000)] {
        let acts = book.done(&job, ChannelKind::Desktop, failed("no bus"), at(now), 1.0);
        let state = if n == 3 { ChannelState::GivenUp } else { ChannelState::Pending };
        assert_eq!(saved(&acts, ChannelKind::Desktop), (state, n, Some("no bus".to_owned())));
        due(&mut book, at(now + 9000));
    }
    assert_eq!(book.next(at(30_000)), None);
}

#[test]
fn a_receiver_that_is_back_gets_all_that_waits_for_it_at_once() {
    let mut book = Schedule::default();
    for n in 1..=5 {
        book.add(entry(&format!("a#{n}"), &[ChannelKind::Webhook]), false);
    }
    let mut now = at(0);
    for _ in 0..8 {
        for n in 0..5 {
            let acts = due(&mut book, now);
            assert!(n > 0 || runs(&acts).len() == 3, "{acts:?}");
            for act in acts {
                if let Action::Run(job, kind) = act {
                    book.done(&job, kind, failed("down"), now, 1.0);
                }
            }
        }
        now = book.next(now).unwrap();
    }
    let first = due(&mut book, now);
    let Some(Action::Run(job, kind)) = first.first() else { panic!("{first:?}") };
    book.done(job, *kind, Outcome::Taken, now, 1.0);
    for act in first.iter().skip(1) {
        if let Action::Run(job, kind) = act {
            book.done(job, *kind, Outcome::Taken, now, 1.0);
        }
    }
    assert_eq!(runs(&due(&mut book, now)).len(), 2, "the two that found no slot before");
}

#[test]
fn receivers_that_hang_leave_a_slot_for_a_session() {
    let mut book = Schedule::default();
    for n in 1..=9 {
        book.add(entry(&format!("a#{n}"), &[ChannelKind::Command, ChannelKind::Webhook]), false);
    }
    assert_eq!(runs(&due(&mut book, at(0))), ["a#1 command", "a#1 webhook", "a#2 command"]);
    assert_eq!(book.next(at(1)), None, "nothing is to be done before a slot is free");
    for n in 1..=2 {
        book.add(entry(&format!("b#{n}"), &[ChannelKind::Codex]), false);
    }
    assert_eq!(runs(&due(&mut book, at(1))), ["b#1 codex"]);
}

#[test]
fn a_session_that_was_shown_the_end_gets_no_message() {
    let mut book = Schedule::default();
    book.add(entry("a#1", &[ChannelKind::Codex]), false);
    let acts =
        book.due(at(0), |_| true, |_| DeliveryContext { shown: true, shown_there: true, busy_until: None });
    assert_eq!(saved(&acts, ChannelKind::Codex), (ChannelState::Taken, 0, None));
    assert_eq!(acts.last(), Some(&Action::Close("a#1".parse().unwrap())));
}

#[test]
fn a_session_in_a_turn_is_left_to_its_hooks_for_a_while() {
    let mut book = Schedule::default();
    book.add(entry("a#1", &[ChannelKind::Codex]), false);
    let busy = |_: &Entry| DeliveryContext { busy_until: Some(at(60_000)), ..DeliveryContext::default() };
    assert_eq!(book.due(at(0), |_| true, busy), []);
    assert_eq!(book.next(at(0)), Some(at(250)));
    assert_eq!(runs(&book.due(at(250), |_| true, unseen)), ["a#1 codex"], "its turn is over");

    let mut book = Schedule::default();
    book.add(entry("a#1", &[ChannelKind::Codex]), false);
    assert_eq!(book.due(at(59_999), |_| true, busy), []);
    assert_eq!(runs(&book.due(at(60_300), |_| true, busy)), ["a#1 codex"], "its hooks are silent");
}

#[test]
fn whoever_stays_with_a_job_may_say_so_for_ten_seconds() {
    let shown = |_: &Entry| DeliveryContext { shown: true, ..DeliveryContext::default() };
    let mut book = Schedule::default();
    assert_eq!(book.add(entry("a#1", &[ChannelKind::Webhook]), true), []);
    assert_eq!((due(&mut book, at(9999)), book.next(at(9999))), (Vec::new(), Some(at(10_000))));
    assert_eq!(book.due(at(10_000), |_| true, shown), []);
    assert_eq!(book.next(at(10_000)), None);

    book.add(entry("a#2", &[ChannelKind::Webhook]), true);
    let acts = due(&mut book, at(10_000));
    assert_eq!(saved(&acts, ChannelKind::Webhook), (ChannelState::Pending, 0, None));
    assert_eq!(runs(&acts), ["a#2 webhook"]);

    book.add(entry("a#3", &[]), true);
    assert_eq!(due(&mut book, at(10_000)).last(), Some(&Action::Close("a#3".parse().unwrap())));
}

#[test]
fn what_is_no_longer_configured_is_given_up() {
    let mut book = Schedule::default();
    book.resume(entry("a#1", &[ChannelKind::Command]));
    let acts = book.due(at(0), |_| false, unseen);
    let expected = (ChannelState::GivenUp, 0, Some("it is no longer configured".to_owned()));
    assert_eq!(saved(&acts, ChannelKind::Command), expected);
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_waiting() {
    let mut book = Schedule::default();
    let mut late = entry("a#1", &[ChannelKind::Webhook]);
    late.ways.get_mut("webhook").unwrap().next_at = Some(at(0) + Duration::from_secs(3600));
    book.resume(late);
    assert_eq!(runs(&due(&mut book, at(0))), ["a#1 webhook"]);
}

#[test]
fn ten_thousand_ends_that_wait_for_a_slot_are_neither_looked_at_nor_counted_again_and_again() {
    let mut book = Schedule::default();
    for n in 1..=10_000 {
        book.add(entry(&format!("a#{n}"), &[ChannelKind::Codex]), false);
    }
    let begun = std::time::Instant::now();
    for _ in 0..3 {
        let mut looks = 0;
        let acts = book.due(
            at(1),
            |_| true,
            |_| {
                looks += 1;
                DeliveryContext::default()
            },
        );
        assert!(looks <= MAX_RUNNING && runs(&acts).len() <= MAX_RUNNING, "{looks}");
    }
    // An unoptimised build takes some 10 ms for each round.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
