use std::collections::BTreeMap;

use common::origin::Session;

use super::*;

fn call(event: Event) -> Call {
    Call {
        event: Some(event),
        session: "own".into(),
        agent: "codex",
        cwd: "/w".into(),
        compacted: false,
        held: false,
        subagent: false,
    }
}

#[test]
fn each_event_tells_what_the_session_does_and_what_it_may_be_given() {
    let expected = [
        (Event::SessionStart, Phase::Idle, Response::Context(Event::SessionStart)),
        (Event::UserPromptSubmit, Phase::Busy, Response::Context(Event::UserPromptSubmit)),
        (Event::PreToolUse, Phase::Busy, Response::Nothing),
        (Event::PostToolUse, Phase::Busy, Response::Context(Event::PostToolUse)),
        (Event::Stop, Phase::Idle, Response::Reason),
        (Event::Interrupt, Phase::Idle, Response::Nothing),
        (Event::SessionEnd, Phase::Over, Response::Nothing),
    ];
    for (event, phase, give) in expected {
        assert_eq!(plan(&call(event)), Plan { phase: Some(phase), give }, "{event:?}");
    }
}

#[test]
fn a_compaction_is_part_of_a_turn_and_a_turn_is_held_once() {
    let compacted = Call { compacted: true, ..call(Event::SessionStart) };
    assert_eq!(plan(&compacted).phase, Some(Phase::Busy));
    let held = Call { held: true, ..call(Event::Stop) };
    assert_eq!(plan(&held), Plan { phase: Some(Phase::Idle), give: Response::Nothing });
}

#[test]
fn what_a_subagent_does_and_what_is_unknown_leads_to_nothing() {
    let nothing = Plan { phase: None, give: Response::Nothing };
    for event in [Event::PostToolUse, Event::Stop] {
        assert_eq!(plan(&Call { subagent: true, ..call(event) }), nothing);
    }
    assert_eq!(plan(&Call { event: None, ..call(Event::Stop) }), nothing);
}

#[test]
fn an_end_is_left_to_its_session_while_that_lives() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let now = at(100_000);
    let entry = |session: Option<&str>, ended_at| Entry {
        schema: 1,
        job: "a#1".parse().unwrap(),
        ended_at,
        session: session.map(|id| Session { agent: "codex".into(), id: id.into(), home: None }),
        channels: BTreeMap::new(),
    };
    let state = |phase, heard: i64| {
        move |id: &str| {
            Some(SessionState { schema: 1, agent: "codex".into(), id: id.into(), phase, at: at(heard) })
        }
    };
    let hour = 3600;
    let old = at(100_000 - hour);
    assert_eq!(whose(&entry(None, now), "own", |_| None, now), NoticeOwner::Nobodys);
    assert_eq!(whose(&entry(Some("own"), old), "own", |_| None, now), NoticeOwner::Own);
    let other = |ended_at, state: &dyn Fn(&str) -> Option<SessionState>| {
        whose(&entry(Some("other"), ended_at), "own", state, now)
    };
    assert_eq!(other(old, &state(Phase::Idle, 99_999)), NoticeOwner::Anothers);
    assert_eq!(other(old, &state(Phase::Busy, 100_000 - hour + 1)), NoticeOwner::Anothers);
    assert_eq!(other(old, &state(Phase::Busy, 100_000 - hour)), NoticeOwner::Nobodys);
    assert_eq!(other(now, &state(Phase::Over, 99_999)), NoticeOwner::Nobodys);
    // A session that never reported keeps its notices for an hour after the end of the job.
    assert_eq!(other(now, &|_| None), NoticeOwner::Anothers);
    assert_eq!(other(old, &|_| None), NoticeOwner::Nobodys);
    // So does one that has been idle for longer than the job took.
    assert_eq!(other(now, &state(Phase::Idle, 0)), NoticeOwner::Anothers);
}

#[test]
fn an_end_is_context_within_a_turn_and_a_reason_to_go_on_at_its_end() {
    let context = response(Response::Context(Event::PostToolUse), "a#1 completed");
    let expected =
        r#"{"hookSpecificOutput":{"hookEventName":"PostToolUse","additionalContext":"a#1 completed"}}"#;
    assert_eq!(context.unwrap().to_string(), expected);
    let reason = response(Response::Reason, "a#1 completed").unwrap();
    assert_eq!(reason["decision"], "block");
    assert_eq!(reason["reason"], format!("{BEFORE_YOU_STOP}\n\na#1 completed"));
    assert_eq!(response(Response::Nothing, "a#1 completed"), None);
}
