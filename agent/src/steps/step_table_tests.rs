//! Tests of steps and their deadlines, in virtual time.

use super::*;

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn inspect_nothing(_: u32) -> Option<String> {
    None
}

fn steps(install_s: u64, job_s: u64) -> Steps {
    let mut limits = Limits { job_ms: job_s * 1000, ..Limits::default() };
    limits.steps.insert(StepKind::Install, install_s * 1000);
    Steps::new(s(0), limits, OnLimit::Fail, Rules::default())
}

fn messages(actions: &[DueAction]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            DueAction::Event(EventBody::Warning { message }) => message.clone(),
            DueAction::Failure(error) => error.message.clone(),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_step_is_numbered_timed_and_finished_once() {
    let mut steps = steps(10, 100);
    let (n, event) = steps.start_step(s(1), StepKind::Install, "npm ci\nsecond line");
    let began = EventBody::StepStarted {
        n: 1,
        kind: StepKind::Install,
        title: "npm ci".into(),
        limit_ms: Some(10_000),
        parent: None,
    };
    assert_eq!(event, began);
    let ended = EventBody::StepFinished {
        n: 1,
        outcome: StepOutcome::Failed,
        exit_code: Some(1),
        elapsed_ms: 2000,
        resources: None,
    };
    assert_eq!(steps.finish_step(s(3), n, StepOutcome::Failed, Some(1)), [ended]);
    assert_eq!(steps.finish_step(s(4), n, StepOutcome::Ok, None), []);
}

#[test]
fn a_limit_warns_at_half_and_then_fails_naming_the_step() {
    let mut steps = steps(10, 100);
    steps.start_step(s(0), StepKind::Install, "npm ci");
    assert_eq!(steps.next_deadline(), s(5));
    assert_eq!(
        messages(&steps.due_actions(s(5), &inspect_nothing)),
        ["step 1 (install: npm ci) has used half of its limit of 10s"]
    );
    assert_eq!((steps.due_actions(s(6), &inspect_nothing), steps.next_deadline()), (vec![], s(10)));
    assert_eq!(
        steps.due_actions(s(10), &inspect_nothing),
        [DueAction::Failure(JobError {
            kind: FailureKind::StepTimeout,
            message: "step 1 (install: npm ci) ran over its limit of 10s".into(),
            step: Some(1)
        })]
    );
}

#[test]
fn the_job_has_a_limit_of_its_own() {
    let mut steps = steps(100, 20);
    steps.start_step(s(0), StepKind::Install, "npm ci");
    steps.due_actions(s(10), &inspect_nothing);
    let due = steps.due_actions(s(20), &inspect_nothing);
    assert_eq!(messages(&due), ["the job ran over its limit of 20s; it was at step 1 (install: npm ci)"]);
    assert!(matches!(&due[0], DueAction::Failure(error) if error.kind == FailureKind::JobTimeout));
}

#[test]
fn start_and_model_limits_have_their_own_kinds() {
    for (kind, expected) in
        [(StepKind::Start, FailureKind::StartTimeout), (StepKind::Model, FailureKind::ModelSilent)]
    {
        let mut steps = steps(1, 10_000);
        steps.start_step(s(0), kind, MODEL_TITLE);
        let due = steps.due_actions(s(600), &inspect_nothing);
        assert!(matches!(&due[0], DueAction::Failure(error) if error.kind == expected), "{due:?}");
    }
}

#[test]
fn extended_limits_are_reported_and_apply() {
    let mut steps = steps(10, 20);
    assert_eq!(steps.extend(true, 5000), None, "nothing runs");
    steps.start_step(s(0), StepKind::Install, "npm ci");
    assert_eq!(steps.extend(true, 5000), Some(EventBody::Extended { n: Some(1), limit_ms: 15_000 }));
    assert_eq!(steps.extend(false, 60_000), Some(EventBody::Extended { n: None, limit_ms: 80_000 }));
    assert_eq!(messages(&steps.due_actions(s(14), &inspect_nothing)).len(), 1, "the warning at half");
    assert_eq!(
        messages(&steps.due_actions(s(15), &inspect_nothing)),
        ["step 1 (install: npm ci) ran over its limit of 15s"]
    );
}

#[test]
fn a_restart_of_the_timer_moves_the_deadline() {
    let mut steps = steps(10, 100);
    let (n, _) = steps.start_step(s(0), StepKind::Install, "npm ci");
    steps.restart_timer(s(8), n);
    assert_eq!(steps.due_actions(s(12), &inspect_nothing), []);
    assert_eq!(steps.next_deadline(), s(13));
}
