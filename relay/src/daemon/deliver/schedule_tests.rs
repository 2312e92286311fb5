//! Tests of the schedule, on a clock that only the test advances.

use std::time::Duration;

use common::origin::Session;

use super::*;
use crate::registry::outbox::SCHEMA;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_767_323_045_000 + ms).unwrap()
}

fn entry(job: &str, kinds: &[ChannelKind]) -> OutboxEntry {
    let channel =
        ChannelDelivery { state: ChannelState::Pending, attempts: 0, next_at: Some(at(0)), last_error: None };
    OutboxEntry {
        schema: SCHEMA,
        job: job.parse().unwrap(),
        ended_at: at(0),
        session: Some(Session { agent: "codex".into(), id: "t-1".into(), home: None }),
        channels: kinds.iter().map(|kind| (kind.as_str().to_owned(), channel.clone())).collect(),
    }
}

fn unseen(_: &OutboxEntry) -> DeliveryContext {
    DeliveryContext::default()
}

fn runs(actions: &[DeliveryAction]) -> Vec<String> {
    let run = |act: &DeliveryAction| match act {
        DeliveryAction::StartDelivery(job, kind) => Some(format!("{job} {kind}")),
        DeliveryAction::SaveEntry(_) | DeliveryAction::CloseEntry(_) => None,
    };
    actions.iter().filter_map(run).collect()
}

/// Returns the state, attempts and error of a channel in the last saved entry.
fn saved(actions: &[DeliveryAction], kind: ChannelKind) -> (ChannelState, u32, Option<String>) {
    let mut entries = actions.iter().filter_map(|act| match act {
        DeliveryAction::SaveEntry(entry) => Some(entry),
        DeliveryAction::StartDelivery(..) | DeliveryAction::CloseEntry(_) => None,
    });
    let channel = entries.next_back().unwrap().channels[kind.as_str()].clone();
    (channel.state, channel.attempts, channel.last_error)
}

fn due(schedule: &mut Schedule, now: Timestamp) -> Vec<DeliveryAction> {
    schedule.due_actions(now, |_| true, unseen)
}

fn failed(reason: &str) -> DeliveryOutcome {
    DeliveryOutcome::Failed(reason.to_owned())
}

#[test]
fn an_end_goes_out_by_each_way_once() {
    let mut schedule = Schedule::default();
    let job = "a#1".parse().unwrap();
    let new = entry("a#1", &[ChannelKind::Codex, ChannelKind::Webhook]);
    assert_eq!(schedule.add_entry(new.clone(), false), [DeliveryAction::SaveEntry(new.clone())]);
    assert_eq!(schedule.add_entry(new, false), [], "told twice, it is one end");
    assert_eq!(runs(&due(&mut schedule, at(0))), ["a#1 codex", "a#1 webhook"]);
    assert_eq!(due(&mut schedule, at(1)), [], "what runs is not started again");
    let actions = schedule.on_outcome(&job, ChannelKind::Codex, DeliveryOutcome::Accepted, at(2), 1.0);
    assert_eq!(saved(&actions, ChannelKind::Codex), (ChannelState::Accepted, 1, None));
    let actions = schedule.on_outcome(&job, ChannelKind::Webhook, DeliveryOutcome::Accepted, at(3), 1.0);
    assert_eq!(actions.last(), Some(&DeliveryAction::CloseEntry(job)));
    assert_eq!((due(&mut schedule, at(999_999)), schedule.next_due_time(at(4))), (Vec::new(), None));
}

#[test]
fn a_way_that_fails_is_tried_again_after_growing_pauses_and_given_up_after_a_day() {
    let mut schedule = Schedule::default();
    let job: JobId = "a#1".parse().unwrap();
    schedule.add_entry(entry("a#1", &[ChannelKind::Webhook]), false);
    let mut now = at(0);
    let mut pauses = Vec::new();
    let last = loop {
        let actions = due(&mut schedule, now);
        if runs(&actions).is_empty() {
            break actions;
        }
        schedule.on_outcome(&job, ChannelKind::Webhook, failed("connection refused"), now, 1.0);
        let next = schedule.next_due_time(now).unwrap();
        pauses.push(next.duration_since(now).as_secs());
        now = next;
    };
    assert_eq!(pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    assert_eq!(pauses.len(), 296);
    let (state, attempts, error) = saved(&last, ChannelKind::Webhook);
    assert_eq!((state, attempts, error.as_deref()), (ChannelState::GivenUp, 296, Some("connection refused")));
    assert_eq!(last.last(), Some(&DeliveryAction::CloseEntry(job)));
}

#[test]
fn a_receiver_that_refuses_and_a_desktop_that_is_not_there_are_left_alone() {
    let mut schedule = Schedule::default();
    let job: JobId = "a#1".parse().unwrap();
    schedule.add_entry(entry("a#1", &[ChannelKind::Desktop, ChannelKind::Webhook]), false);
    due(&mut schedule, at(0));
    let actions =
        schedule.on_outcome(&job, ChannelKind::Webhook, DeliveryOutcome::Refused("410".into()), at(1), 1.0);
    assert_eq!(saved(&actions, ChannelKind::Webhook), (ChannelState::GivenUp, 1, Some("410".to_owned())));
    for (n, now) in [(1, 1), (2, 10_000), (3, 20_000)] {
        let actions = schedule.on_outcome(&job, ChannelKind::Desktop, failed("no bus"), at(now), 1.0);
        let state = if n == 3 { ChannelState::GivenUp } else { ChannelState::Pending };
        assert_eq!(saved(&actions, ChannelKind::Desktop), (state, n, Some("no bus".to_owned())));
        due(&mut schedule, at(now + 9000));
    }
    assert_eq!(schedule.next_due_time(at(30_000)), None);
}

#[test]
fn a_receiver_that_is_back_gets_all_that_waits_for_it_at_once() {
    let mut schedule = Schedule::default();
    for n in 1..=5 {
        schedule.add_entry(entry(&format!("a#{n}"), &[ChannelKind::Webhook]), false);
    }
    let mut now = at(0);
    for _ in 0..8 {
        for n in 0..5 {
            let actions = due(&mut schedule, now);
            assert!(n > 0 || runs(&actions).len() == 3, "{actions:?}");
            for act in actions {
                if let DeliveryAction::StartDelivery(job, kind) = act {
                    schedule.on_outcome(&job, kind, failed("down"), now, 1.0);
                }
            }
        }
        now = schedule.next_due_time(now).unwrap();
    }
    let first = due(&mut schedule, now);
    let Some(DeliveryAction::StartDelivery(job, kind)) = first.first() else { panic!("{first:?}") };
    schedule.on_outcome(job, *kind, DeliveryOutcome::Accepted, now, 1.0);
    for act in first.iter().skip(1) {
        if let DeliveryAction::StartDelivery(job, kind) = act {
            schedule.on_outcome(job, *kind, DeliveryOutcome::Accepted, now, 1.0);
        }
    }
    assert_eq!(runs(&due(&mut schedule, now)).len(), 2, "the two that found no slot before");
}

#[test]
fn receivers_that_hang_leave_a_slot_for_a_session() {
    let mut schedule = Schedule::default();
    for n in 1..=9 {
        schedule.add_entry(entry(&format!("a#{n}"), &[ChannelKind::Command, ChannelKind::Webhook]), false);
    }
    assert_eq!(runs(&due(&mut schedule, at(0))), ["a#1 command", "a#1 webhook", "a#2 command"]);
    assert_eq!(schedule.next_due_time(at(1)), None, "nothing is to be done before a slot is free");
    for n in 1..=2 {
        schedule.add_entry(entry(&format!("b#{n}"), &[ChannelKind::Codex]), false);
    }
    assert_eq!(runs(&due(&mut schedule, at(1))), ["b#1 codex"]);
}

#[test]
fn a_session_that_was_shown_the_end_gets_no_message() {
    let mut schedule = Schedule::default();
    schedule.add_entry(entry("a#1", &[ChannelKind::Codex]), false);
    let actions = schedule.due_actions(
        at(0),
        |_| true,
        |_| DeliveryContext { was_shown: true, was_shown_in_session: true, hooks_may_show_until: None },
    );
    assert_eq!(saved(&actions, ChannelKind::Codex), (ChannelState::Accepted, 0, None));
    assert_eq!(actions.last(), Some(&DeliveryAction::CloseEntry("a#1".parse().unwrap())));
}

#[test]
fn a_session_in_a_turn_is_left_to_its_hooks_for_a_while() {
    let mut schedule = Schedule::default();
    schedule.add_entry(entry("a#1", &[ChannelKind::Codex]), false);
    let busy = |_: &OutboxEntry| DeliveryContext {
        hooks_may_show_until: Some(at(60_000)),
        ..DeliveryContext::default()
    };
    assert_eq!(schedule.due_actions(at(0), |_| true, busy), []);
    assert_eq!(schedule.next_due_time(at(0)), Some(at(250)));
    assert_eq!(runs(&schedule.due_actions(at(250), |_| true, unseen)), ["a#1 codex"], "its turn is over");

    let mut schedule = Schedule::default();
    schedule.add_entry(entry("a#1", &[ChannelKind::Codex]), false);
    assert_eq!(schedule.due_actions(at(59_999), |_| true, busy), []);
    assert_eq!(
        runs(&schedule.due_actions(at(60_300), |_| true, busy)),
        ["a#1 codex"],
        "its hooks are silent"
    );
}

#[test]
fn whoever_stays_with_a_job_may_say_so_for_ten_seconds() {
    let shown = |_: &OutboxEntry| DeliveryContext { was_shown: true, ..DeliveryContext::default() };
    let mut schedule = Schedule::default();
    assert_eq!(schedule.add_entry(entry("a#1", &[ChannelKind::Webhook]), true), []);
    assert_eq!(
        (due(&mut schedule, at(9999)), schedule.next_due_time(at(9999))),
        (Vec::new(), Some(at(10_000)))
    );
    assert_eq!(schedule.due_actions(at(10_000), |_| true, shown), []);
    assert_eq!(schedule.next_due_time(at(10_000)), None);

    schedule.add_entry(entry("a#2", &[ChannelKind::Webhook]), true);
    let actions = due(&mut schedule, at(10_000));
    assert_eq!(saved(&actions, ChannelKind::Webhook), (ChannelState::Pending, 0, None));
    assert_eq!(runs(&actions), ["a#2 webhook"]);

    schedule.add_entry(entry("a#3", &[]), true);
    assert_eq!(
        due(&mut schedule, at(10_000)).last(),
        Some(&DeliveryAction::CloseEntry("a#3".parse().unwrap()))
    );
}

#[test]
fn what_is_no_longer_configured_is_given_up() {
    let mut schedule = Schedule::default();
    schedule.resume_entry(entry("a#1", &[ChannelKind::Command]));
    let actions = schedule.due_actions(at(0), |_| false, unseen);
    let expected = (ChannelState::GivenUp, 0, Some("it is no longer configured".to_owned()));
    assert_eq!(saved(&actions, ChannelKind::Command), expected);
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_waiting() {
    let mut schedule = Schedule::default();
    let mut late = entry("a#1", &[ChannelKind::Webhook]);
    late.channels.get_mut("webhook").unwrap().next_at = Some(at(0) + Duration::from_secs(3600));
    schedule.resume_entry(late);
    assert_eq!(runs(&due(&mut schedule, at(0))), ["a#1 webhook"]);
}

#[test]
fn ten_thousand_notices_that_wait_for_a_slot_are_not_checked_again_and_again() {
    let mut schedule = Schedule::default();
    for n in 1..=10_000 {
        schedule.add_entry(entry(&format!("a#{n}"), &[ChannelKind::Codex]), false);
    }
    let begun = std::time::Instant::now();
    for _ in 0..3 {
        let mut looks = 0;
        let actions = schedule.due_actions(
            at(1),
            |_| true,
            |_| {
                looks += 1;
                DeliveryContext::default()
            },
        );
        assert!(looks <= MAX_RUNNING && runs(&actions).len() <= MAX_RUNNING, "{looks}");
    }
    // An unoptimised build takes some 10 ms for each round.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn a_pause_doubles_up_to_five_minutes_and_is_spread() {
    let ms = |attempts, chance| pause_after(attempts, chance).as_millis();
    assert_eq!([1, 2, 3, 9, 10, u32::MAX].map(|n| ms(n, 1.0)), [1000, 2000, 4000, 256_000, 300_000, 300_000]);
    assert_eq!([1, 3, 99].map(|n| ms(n, 0.0)), [500, 2000, 150_000]);
}
