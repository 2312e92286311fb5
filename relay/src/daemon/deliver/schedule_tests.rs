//! Tests of the schedule, on a clock that only the test advances.

use std::time::Duration;

use common::origin::Session;

use super::*;
use crate::registry::outbox::SCHEMA_VERSION;

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_767_323_045_000 + ms).unwrap()
}

fn entry(job: &str, kinds: &[ChannelKind]) -> OutboxEntry {
    let channel = ChannelDelivery {
        state: ChannelState::Pending,
        attempts: 0,
        next_at: Some(time(0)),
        last_error: None,
    };
    OutboxEntry {
        schema: SCHEMA_VERSION,
        job: job.parse().unwrap(),
        ended_at: time(0),
        session: Some(Session { agent: "codex".into(), id: "t-1".into(), home: None }),
        channels: kinds.iter().map(|kind| (kind.as_str().to_owned(), channel.clone())).collect(),
    }
}

fn unshown_context(_: &OutboxEntry) -> DeliveryContext {
    DeliveryContext::default()
}

fn started_deliveries(actions: &[DeliveryAction]) -> Vec<String> {
    let started = |action: &DeliveryAction| match action {
        DeliveryAction::StartDelivery(job, kind) => Some(format!("{job} {kind}")),
        DeliveryAction::SaveEntry(_) | DeliveryAction::CloseEntry(_) => None,
    };
    actions.iter().filter_map(started).collect()
}

/// Returns the state, attempts and error of a channel in the last saved entry.
fn saved_channel(actions: &[DeliveryAction], kind: ChannelKind) -> (ChannelState, u32, Option<String>) {
    let mut entries = actions.iter().filter_map(|action| match action {
        DeliveryAction::SaveEntry(entry) => Some(entry),
        DeliveryAction::StartDelivery(..) | DeliveryAction::CloseEntry(_) => None,
    });
    let channel = entries.next_back().unwrap().channels[kind.as_str()].clone();
    (channel.state, channel.attempts, channel.last_error)
}

fn due_actions(schedule: &mut Schedule, now: Timestamp) -> Vec<DeliveryAction> {
    schedule.due_actions(now, |_| true, unshown_context)
}

fn failure(reason: &str) -> DeliveryOutcome {
    DeliveryOutcome::Failed(reason.to_owned())
}

#[test]
fn a_notification_is_delivered_through_each_channel_once() {
    let mut schedule = Schedule::default();
    let job = "a#1".parse().unwrap();
    let new_entry = entry("a#1", &[ChannelKind::Codex, ChannelKind::Webhook]);
    assert_eq!(schedule.add_entry(new_entry.clone(), false), [DeliveryAction::SaveEntry(new_entry.clone())]);
    assert_eq!(schedule.add_entry(new_entry, false), [], "a second entry of the same job is ignored");
    assert_eq!(started_deliveries(&due_actions(&mut schedule, time(0))), ["a#1 codex", "a#1 webhook"]);
    assert_eq!(due_actions(&mut schedule, time(1)), [], "a running delivery is not started again");
    let actions = schedule.on_outcome(&job, ChannelKind::Codex, DeliveryOutcome::Accepted, time(2), 1.0);
    assert_eq!(saved_channel(&actions, ChannelKind::Codex), (ChannelState::Accepted, 1, None));
    let actions = schedule.on_outcome(&job, ChannelKind::Webhook, DeliveryOutcome::Accepted, time(3), 1.0);
    assert_eq!(actions.last(), Some(&DeliveryAction::CloseEntry(job)));
    assert_eq!(
        (due_actions(&mut schedule, time(999_999)), schedule.next_due_time(time(4))),
        (Vec::new(), None)
    );
}

#[test]
fn a_failing_channel_is_retried_after_growing_pauses_and_given_up_after_a_day() {
    let mut schedule = Schedule::default();
    let job: JobId = "a#1".parse().unwrap();
    schedule.add_entry(entry("a#1", &[ChannelKind::Webhook]), false);
    let mut now = time(0);
    let mut pauses = Vec::new();
    let last = loop {
        let actions = due_actions(&mut schedule, now);
        if started_deliveries(&actions).is_empty() {
            break actions;
        }
        schedule.on_outcome(&job, ChannelKind::Webhook, failure("connection refused"), now, 1.0);
        let next = schedule.next_due_time(now).unwrap();
        pauses.push(next.duration_since(now).as_secs());
        now = next;
    };
    assert_eq!(pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    assert_eq!(pauses.len(), 296);
    let (state, attempts, error) = saved_channel(&last, ChannelKind::Webhook);
    assert_eq!((state, attempts, error.as_deref()), (ChannelState::GivenUp, 296, Some("connection refused")));
    assert_eq!(last.last(), Some(&DeliveryAction::CloseEntry(job)));
}

#[test]
fn a_refusing_receiver_and_a_desktop_that_is_missing_are_given_up() {
    let mut schedule = Schedule::default();
    let job: JobId = "a#1".parse().unwrap();
    schedule.add_entry(entry("a#1", &[ChannelKind::Desktop, ChannelKind::Webhook]), false);
    due_actions(&mut schedule, time(0));
    let actions =
        schedule.on_outcome(&job, ChannelKind::Webhook, DeliveryOutcome::Refused("410".into()), time(1), 1.0);
    assert_eq!(
        saved_channel(&actions, ChannelKind::Webhook),
        (ChannelState::GivenUp, 1, Some("410".to_owned()))
    );
    for (n, now) in [(1, 1), (2, 10_000), (3, 20_000)] {
        let actions = schedule.on_outcome(&job, ChannelKind::Desktop, failure("no bus"), time(now), 1.0);
        let state = if n == 3 { ChannelState::GivenUp } else { ChannelState::Pending };
        assert_eq!(saved_channel(&actions, ChannelKind::Desktop), (state, n, Some("no bus".to_owned())));
        due_actions(&mut schedule, time(now + 9000));
    }
    assert_eq!(schedule.next_due_time(time(30_000)), None);
}

#[test]
fn a_receiver_that_accepts_again_gets_all_waiting_notifications_at_once() {
    let mut schedule = Schedule::default();
    for n in 1..=5 {
        schedule.add_entry(entry(&format!("a#{n}"), &[ChannelKind::Webhook]), false);
    }
    let mut now = time(0);
    for _ in 0..8 {
        for n in 0..5 {
            let actions = due_actions(&mut schedule, now);
            assert!(n > 0 || started_deliveries(&actions).len() == 3, "{actions:?}");
            for action in actions {
                if let DeliveryAction::StartDelivery(job, kind) = action {
                    schedule.on_outcome(&job, kind, failure("down"), now, 1.0);
                }
            }
        }
        now = schedule.next_due_time(now).unwrap();
    }
    let first = due_actions(&mut schedule, now);
    let Some(DeliveryAction::StartDelivery(job, kind)) = first.first() else { panic!("{first:?}") };
    schedule.on_outcome(job, *kind, DeliveryOutcome::Accepted, now, 1.0);
    for action in first.iter().skip(1) {
        if let DeliveryAction::StartDelivery(job, kind) = action {
            schedule.on_outcome(job, *kind, DeliveryOutcome::Accepted, now, 1.0);
        }
    }
    assert_eq!(
        started_deliveries(&due_actions(&mut schedule, now)).len(),
        2,
        "the two that had no slot before"
    );
}

#[test]
fn hanging_receivers_leave_a_slot_for_a_session() {
    let mut schedule = Schedule::default();
    for n in 1..=9 {
        schedule.add_entry(entry(&format!("a#{n}"), &[ChannelKind::Command, ChannelKind::Webhook]), false);
    }
    assert_eq!(
        started_deliveries(&due_actions(&mut schedule, time(0))),
        ["a#1 command", "a#1 webhook", "a#2 command"]
    );
    assert_eq!(schedule.next_due_time(time(1)), None, "nothing is due before a slot is free");
    for n in 1..=2 {
        schedule.add_entry(entry(&format!("b#{n}"), &[ChannelKind::Codex]), false);
    }
    assert_eq!(started_deliveries(&due_actions(&mut schedule, time(1))), ["b#1 codex"]);
}

#[test]
fn a_session_that_was_shown_the_notification_gets_no_message() {
    let mut schedule = Schedule::default();
    schedule.add_entry(entry("a#1", &[ChannelKind::Codex]), false);
    let actions = schedule.due_actions(
        time(0),
        |_| true,
        |_| DeliveryContext { was_shown: true, was_shown_in_session: true, hooks_may_show_until: None },
    );
    assert_eq!(saved_channel(&actions, ChannelKind::Codex), (ChannelState::Accepted, 0, None));
    assert_eq!(actions.last(), Some(&DeliveryAction::CloseEntry("a#1".parse().unwrap())));
}

#[test]
fn a_session_in_a_turn_gets_no_message_for_a_minute() {
    let mut schedule = Schedule::default();
    schedule.add_entry(entry("a#1", &[ChannelKind::Codex]), false);
    let context_in_turn = |_: &OutboxEntry| DeliveryContext {
        hooks_may_show_until: Some(time(60_000)),
        ..DeliveryContext::default()
    };
    assert_eq!(schedule.due_actions(time(0), |_| true, context_in_turn), []);
    assert_eq!(schedule.next_due_time(time(0)), Some(time(250)));
    assert_eq!(
        started_deliveries(&schedule.due_actions(time(250), |_| true, unshown_context)),
        ["a#1 codex"],
        "the session's turn is over"
    );

    let mut schedule = Schedule::default();
    schedule.add_entry(entry("a#1", &[ChannelKind::Codex]), false);
    assert_eq!(schedule.due_actions(time(59_999), |_| true, context_in_turn), []);
    assert_eq!(
        started_deliveries(&schedule.due_actions(time(60_300), |_| true, context_in_turn)),
        ["a#1 codex"],
        "the session's hooks are silent"
    );
}

#[test]
fn an_attached_client_has_ten_seconds_to_claim_the_notice() {
    let shown = |_: &OutboxEntry| DeliveryContext { was_shown: true, ..DeliveryContext::default() };
    let mut schedule = Schedule::default();
    assert_eq!(schedule.add_entry(entry("a#1", &[ChannelKind::Webhook]), true), []);
    assert_eq!(
        (due_actions(&mut schedule, time(9999)), schedule.next_due_time(time(9999))),
        (Vec::new(), Some(time(10_000)))
    );
    assert_eq!(schedule.due_actions(time(10_000), |_| true, shown), []);
    assert_eq!(schedule.next_due_time(time(10_000)), None);

    schedule.add_entry(entry("a#2", &[ChannelKind::Webhook]), true);
    let actions = due_actions(&mut schedule, time(10_000));
    assert_eq!(saved_channel(&actions, ChannelKind::Webhook), (ChannelState::Pending, 0, None));
    assert_eq!(started_deliveries(&actions), ["a#2 webhook"]);

    schedule.add_entry(entry("a#3", &[]), true);
    assert_eq!(
        due_actions(&mut schedule, time(10_000)).last(),
        Some(&DeliveryAction::CloseEntry("a#3".parse().unwrap()))
    );
}

#[test]
fn a_channel_that_is_no_longer_configured_is_given_up() {
    let mut schedule = Schedule::default();
    schedule.resume_entry(entry("a#1", &[ChannelKind::Command]));
    let actions = schedule.due_actions(time(0), |_| false, unshown_context);
    let expected = (ChannelState::GivenUp, 0, Some("it is no longer configured".to_owned()));
    assert_eq!(saved_channel(&actions, ChannelKind::Command), expected);
}

#[test]
fn a_clock_that_was_set_back_delays_no_delivery() {
    let mut schedule = Schedule::default();
    let mut far_entry = entry("a#1", &[ChannelKind::Webhook]);
    far_entry.channels.get_mut("webhook").unwrap().next_at = Some(time(0) + Duration::from_secs(3600));
    schedule.resume_entry(far_entry);
    assert_eq!(started_deliveries(&due_actions(&mut schedule, time(0))), ["a#1 webhook"]);
}

#[test]
fn ten_thousand_notices_are_only_checked_when_a_slot_is_free() {
    let mut schedule = Schedule::default();
    for n in 1..=10_000 {
        schedule.add_entry(entry(&format!("a#{n}"), &[ChannelKind::Codex]), false);
    }
    let start = std::time::Instant::now();
    for _ in 0..3 {
        let mut checks = 0;
        let actions = schedule.due_actions(
            time(1),
            |_| true,
            |_| {
                checks += 1;
                DeliveryContext::default()
            },
        );
        assert!(checks <= MAX_RUNNING && started_deliveries(&actions).len() <= MAX_RUNNING, "{checks}");
    }
    // An unoptimised build takes some 10 ms for each round.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_pause_doubles_up_to_five_minutes_and_is_randomized() {
    let ms = |attempts, chance| pause_after(attempts, chance).as_millis();
    assert_eq!([1, 2, 3, 9, 10, u32::MAX].map(|n| ms(n, 1.0)), [1000, 2000, 4000, 256_000, 300_000, 300_000]);
    assert_eq!([1, 3, 99].map(|n| ms(n, 0.0)), [500, 2000, 150_000]);
}
