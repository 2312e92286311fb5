use std::collections::BTreeMap;

use common::origin::Session;

use super::*;

fn call(event: HookEvent) -> HookCall {
    HookCall {
        event: Some(event),
        session: "own".into(),
        agent: "codex",
        cwd: "/w".into(),
        was_compacted: false,
        was_continued_by_hook: false,
        is_from_subagent: false,
    }
}

#[test]
fn each_event_decides_the_phase_of_the_session_and_the_answer() {
    let expected = [
        (HookEvent::SessionStart, SessionPhase::Idle, HookResponse::Context(HookEvent::SessionStart)),
        (HookEvent::UserPromptSubmit, SessionPhase::Busy, HookResponse::Context(HookEvent::UserPromptSubmit)),
        (HookEvent::PreToolUse, SessionPhase::Busy, HookResponse::Nothing),
        (HookEvent::PostToolUse, SessionPhase::Busy, HookResponse::Context(HookEvent::PostToolUse)),
        (HookEvent::Stop, SessionPhase::Idle, HookResponse::ContinueTurn),
        (HookEvent::Interrupt, SessionPhase::Idle, HookResponse::Nothing),
        (HookEvent::SessionEnd, SessionPhase::Over, HookResponse::Nothing),
    ];
    for (event, phase, response) in expected {
        assert_eq!(decide_hook(&call(event)), HookDecision { phase: Some(phase), response }, "{event:?}");
    }
}

#[test]
fn a_compacted_session_is_busy_and_a_turn_is_continued_only_once() {
    let compacted = HookCall { was_compacted: true, ..call(HookEvent::SessionStart) };
    assert_eq!(decide_hook(&compacted).phase, Some(SessionPhase::Busy));
    let continued = HookCall { was_continued_by_hook: true, ..call(HookEvent::Stop) };
    assert_eq!(
        decide_hook(&continued),
        HookDecision { phase: Some(SessionPhase::Idle), response: HookResponse::Nothing }
    );
}

#[test]
fn calls_of_subagents_and_unknown_events_change_and_deliver_nothing() {
    let nothing = HookDecision { phase: None, response: HookResponse::Nothing };
    for event in [HookEvent::PostToolUse, HookEvent::Stop] {
        assert_eq!(decide_hook(&HookCall { is_from_subagent: true, ..call(event) }), nothing);
    }
    assert_eq!(decide_hook(&HookCall { event: None, ..call(HookEvent::Stop) }), nothing);
}

#[test]
fn a_notice_belongs_to_its_session_until_the_session_ends_or_falls_silent() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let now = at(100_000);
    let entry = |session: Option<&str>, ended_at| OutboxEntry {
        schema: 1,
        job: "a#1".parse().unwrap(),
        ended_at,
        session: session.map(|id| Session { agent: "codex".into(), id: id.into(), home: None }),
        channels: BTreeMap::new(),
    };
    let state = |phase, last_call_at: i64| {
        move |id: &str| {
            Some(SessionState {
                schema: 1,
                agent: "codex".into(),
                id: id.into(),
                phase,
                at: at(last_call_at),
            })
        }
    };
    let hour = 3600;
    let old = at(100_000 - hour);
    assert_eq!(notice_owner(&entry(None, now), "own", |_| None, now), NoticeOwner::Unowned);
    assert_eq!(notice_owner(&entry(Some("own"), old), "own", |_| None, now), NoticeOwner::Caller);
    let other = |ended_at, state: &dyn Fn(&str) -> Option<SessionState>| {
        notice_owner(&entry(Some("other"), ended_at), "own", state, now)
    };
    assert_eq!(other(old, &state(SessionPhase::Idle, 99_999)), NoticeOwner::Other);
    assert_eq!(other(old, &state(SessionPhase::Busy, 100_000 - hour + 1)), NoticeOwner::Other);
    assert_eq!(other(old, &state(SessionPhase::Busy, 100_000 - hour)), NoticeOwner::Unowned);
    assert_eq!(other(now, &state(SessionPhase::Over, 99_999)), NoticeOwner::Unowned);
    // A session that never reported keeps its notices for an hour after the end of the job.
    assert_eq!(other(now, &|_| None), NoticeOwner::Other);
    assert_eq!(other(old, &|_| None), NoticeOwner::Unowned);
    // A session whose last call was long before the end of the job keeps its notices for that hour, too.
    assert_eq!(other(now, &state(SessionPhase::Idle, 0)), NoticeOwner::Other);
}

#[test]
fn a_notice_is_context_within_a_turn_and_a_reason_to_continue_at_its_end() {
    let context = response_json(HookResponse::Context(HookEvent::PostToolUse), "a#1 completed");
    let expected =
        r#"{"hookSpecificOutput":{"hookEventName":"PostToolUse","additionalContext":"a#1 completed"}}"#;
    assert_eq!(context.unwrap().to_string(), expected);
    let reason = response_json(HookResponse::ContinueTurn, "a#1 completed").unwrap();
    assert_eq!(reason["decision"], "block");
    assert_eq!(reason["reason"], format!("{CONTINUATION_HEADING}\n\na#1 completed"));
    assert_eq!(response_json(HookResponse::Nothing, "a#1 completed"), None);
}
