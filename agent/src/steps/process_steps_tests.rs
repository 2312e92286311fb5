//! Tests of steps with simulated process trees, in virtual time.

use std::time::Duration;

use common::event::{EventBody, FailureKind, StepOutcome};
use common::job::{Limits, StepKind};
use common::rule::{MAX_INTERRUPTS, OnLimit};

use super::super::rules::{Classification, Rules};
use super::*;
use crate::observe::fixtures::{process, snapshot, truncated_snapshot};

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn on_tcp(pid: u32) -> Option<String> {
    (pid > 0).then(|| "waiting on TCP 127.0.0.1:4873 ESTABLISHED".to_owned())
}

fn steps_with(on_limit: OnLimit) -> Steps {
    let limits = Limits { stall_ms: 10_000, ..Limits::default() };
    Steps::new(s(0), limits, on_limit, Rules::default())
}

fn with_call_id(mut process: Process, call: &str) -> Process {
    process.call_id = Some(call.into());
    process
}

fn describe(actions: &[DueAction]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            DueAction::Event(EventBody::StepStarted { n, kind, title, parent, .. }) => {
                format!("+{n} {kind}: {title} in {parent:?}")
            }
            DueAction::Event(EventBody::StepFinished { n, outcome, exit_code, .. }) => {
                format!("-{n} {outcome:?} {exit_code:?}")
            }
            DueAction::Event(EventBody::Stalled { evidence, .. }) => format!("stalled: {evidence}"),
            DueAction::Event(EventBody::Interrupted { reason, .. }) => format!("interrupted: {reason}"),
            DueAction::Failure(error) => format!("{:?}: {}", error.kind, error.message),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn an_install_inside_make_is_a_step_of_its_own_and_pauses_the_deadline_of_the_build() {
    let mut steps = steps_with(OnLimit::Fail);
    steps.start_command_step(s(0), "/bin/bash -lc 'make setup'");
    let codex = || process(10, 1, "codex exec");
    let make = || with_call_id(process(11, 10, "make setup"), "c1");
    let tree = snapshot(&[codex(), make(), process(12, 11, "sh -c npm"), process(13, 12, "npm ci")]);
    assert_eq!(
        describe(&steps.update_from_snapshot(s(1), &tree, 10, &on_tcp)),
        ["+2 install: npm ci in Some(1)"]
    );
    assert_eq!(describe(&steps.update_from_snapshot(s(2), &tree, 10, &on_tcp)), [] as [&str; 0]);
    // Only the install's deadline runs: half of its ten minutes comes first.
    assert_eq!(steps.next_deadline(), s(1 + 300));
    let mut ended_process = process(13, 12, "npm ci");
    (ended_process.is_zombie, ended_process.exit_code) = (true, Some(1));
    let tree = snapshot(&[codex(), make(), process(12, 11, "sh -c npm"), ended_process]);
    assert_eq!(describe(&steps.update_from_snapshot(s(100), &tree, 10, &on_tcp)), ["-2 Failed Some(1)"]);
    assert_eq!(steps.next_deadline(), s(100 + 600 - 1), "the build has used one second before");
    assert_eq!(steps.finish_step(s(101), 1, StepOutcome::Ok, Some(0)).len(), 1);
}

#[test]
fn compilers_and_makes_inside_an_install_are_part_of_it() {
    let mut steps = steps_with(OnLimit::Fail);
    steps.start_process_step(s(0), &Classification::without_rule(StepKind::Install, "npm ci".to_owned()), 11);
    let tree = snapshot(&[
        process(11, 1, "npm ci"),
        process(12, 11, "make"),
        process(13, 12, "cc -c x.c"),
        process(14, 11, "curl http://x"),
    ]);
    for second in 1..4 {
        assert_eq!(steps.update_from_snapshot(s(second), &tree, 11, &on_tcp), []);
    }
}

#[test]
fn a_chain_of_commands_gets_a_step_for_the_command_that_runs() {
    let mut steps = steps_with(OnLimit::Fail);
    steps.start_command_step(s(0), "/bin/bash -lc 'cargo build && cargo test'");
    let bash = || with_call_id(process(11, 10, "/bin/bash -lc x"), "c1");
    let first = snapshot(&[process(10, 1, "codex"), bash(), process(12, 11, "cargo build")]);
    assert_eq!(steps.update_from_snapshot(s(1), &first, 10, &on_tcp), [], "it may be gone in a moment");
    assert_eq!(
        describe(&steps.update_from_snapshot(s(2), &first, 10, &on_tcp)),
        ["+2 build: cargo build in Some(1)"]
    );
    let second = snapshot(&[process(10, 1, "codex"), bash(), process(13, 11, "cargo test")]);
    assert_eq!(describe(&steps.update_from_snapshot(s(3), &second, 10, &on_tcp)), ["-2 Unknown None"]);
    assert_eq!(
        describe(&steps.update_from_snapshot(s(4), &second, 10, &on_tcp)),
        ["+3 test: cargo test in Some(1)"]
    );
}

#[test]
fn parallel_commands_find_their_processes_by_command_line_or_by_elimination() {
    let mut steps = steps_with(OnLimit::Fail);
    steps.start_command_step(s(0), "/bin/bash -lc a");
    steps.start_command_step(s(0), "sleep 5");
    steps.start_command_step(s(0), "/bin/bash -lc 'exec c'");
    let tree = snapshot(&[
        process(10, 1, "codex"),
        with_call_id(process(11, 10, "sleep 5"), "c2"),
        with_call_id(process(12, 10, "/bin/bash -lc a"), "c1"),
        with_call_id(process(13, 10, "c"), "c3"),
    ]);
    steps.update_from_snapshot(s(1), &tree, 10, &on_tcp);
    let roots: Vec<_> = steps.active.iter().map(|step| step.step_processes.root().unwrap().0).collect();
    assert_eq!(roots, [12, 11, 13]);
}

#[test]
fn two_commands_whose_command_lines_are_lost_wait_until_one_is_left() {
    let mut steps = steps_with(OnLimit::Fail);
    steps.start_command_step(s(0), "/bin/bash -lc './a'");
    steps.start_command_step(s(0), "/bin/bash -lc './b'");
    let (a, b) = (with_call_id(process(12, 10, "x"), "c1"), with_call_id(process(11, 10, "y"), "c2"));
    steps.update_from_snapshot(s(1), &snapshot(&[process(10, 1, "codex"), b, a.clone()]), 10, &on_tcp);
    assert!(
        steps.active.iter().all(|step| step.step_processes.root().is_none()),
        "a guess: {:?}",
        steps.active
    );
    steps.finish_step(s(2), 2, StepOutcome::Ok, Some(0));
    steps.update_from_snapshot(s(3), &snapshot(&[process(10, 1, "codex"), a]), 10, &on_tcp);
    assert_eq!(steps.active[0].step_processes.root().unwrap().0, 12);
}

#[test]
fn a_fetched_program_is_no_install_once_it_runs() {
    for line in ["npx vite", "uvx jupyter lab", "npm exec vite", "pnpm dlx vite"] {
        let mut steps = steps_with(OnLimit::Fail);
        let (_, event) = steps.start_command_step(s(0), &format!("/bin/bash -lc '{line}'"));
        let began = describe(&[DueAction::Event(event)]).remove(0);
        assert_eq!(began, format!("+1 command: {line} in None"));
        let runner = || with_call_id(process(11, 10, line), "c1");
        let fetching = snapshot(&[process(10, 1, "codex"), runner()]);
        assert_eq!(
            describe(&steps.update_from_snapshot(s(1), &fetching, 10, &on_tcp)),
            [format!("+2 install: {line} in Some(1)")]
        );
        let serving = snapshot(&[
            process(10, 1, "codex"),
            runner(),
            process(12, 11, "sh -c vite"),
            process(13, 12, "node /w/node_modules/.bin/vite"),
        ]);
        assert_eq!(describe(&steps.update_from_snapshot(s(2), &serving, 10, &on_tcp)), ["-2 Ok None"]);
        let idle: Vec<_> = (3..300)
            .flat_map(|at| describe(&steps.update_from_snapshot(s(at), &serving, 10, &on_tcp)))
            .collect();
        assert!(idle.len() == 1 && idle[0].starts_with("stalled: "), "{line}: {idle:?}");
    }
}

#[test]
fn a_runner_that_hangs_before_it_runs_its_program_is_a_stalled_install() {
    let mut steps = steps_with(OnLimit::Fail);
    steps.start_command_step(s(0), "/bin/bash -lc 'npx vite'");
    let tree = snapshot(&[process(10, 1, "codex"), with_call_id(process(11, 10, "npm exec vite"), "c1")]);
    let all: Vec<_> = (0..30).flat_map(|at| steps.update_from_snapshot(s(at), &tree, 10, &on_tcp)).collect();
    assert!(
        matches!(all.last(), Some(DueAction::Failure(error)) if error.kind == FailureKind::Stalled),
        "{all:?}"
    );
}

#[test]
fn bytes_that_arrive_slowly_keep_a_step_from_stalling() {
    let mut steps = steps_with(OnLimit::Fail);
    steps.start_command_step(s(0), "/bin/bash -lc './reader'");
    let mut described = Vec::new();
    let mut counted = 0;
    for second in 0..60 {
        let mut reader = with_call_id(process(11, 10, "./reader"), "c1");
        // The kernel's counters reach the step only while they are requested.
        counted += u64::from(steps.network_roots().contains(&11));
        reader.received_bytes = counted;
        described.extend(describe(&steps.update_from_snapshot(
            s(second),
            &snapshot(&[process(10, 1, "codex"), reader]),
            10,
            &on_tcp,
        )));
    }
    assert_eq!(described, [] as [&str; 0]);
}

#[test]
fn the_bytes_of_a_step_with_other_progress_are_not_counted() {
    let mut steps = steps_with(OnLimit::Fail);
    steps.start_command_step(s(0), "/bin/bash -lc './worker'");
    for second in 0..60 {
        let mut worker = with_call_id(process(11, 10, "./worker"), "c1");
        worker.cpu_ms = second * 500;
        steps.update_from_snapshot(s(second), &snapshot(&[process(10, 1, "codex"), worker]), 10, &on_tcp);
        assert_eq!(steps.network_roots(), [] as [u32; 0], "at {second}");
    }
}

#[test]
fn a_command_of_the_job_itself_fails_instead_of_being_interrupted() {
    let mut steps = steps_with(OnLimit::Interrupt);
    steps.start_process_step(s(0), &Classification::without_rule(StepKind::Setup, "npm ci".to_owned()), 11);
    let tree = snapshot(&[process(11, 1, "sh"), process(12, 11, "npm ci")]);
    let all: Vec<_> =
        (0..12).flat_map(|at| describe(&steps.update_from_snapshot(s(at), &tree, 11, &on_tcp))).collect();
    assert!(
        all.iter().any(|text| text.starts_with("interrupted: ")),
        "its process step is interrupted: {all:?}"
    );
    // A shell that has only one command to run replaces itself with it.
    let mut steps = steps_with(OnLimit::Interrupt);
    steps.start_process_step(s(0), &Classification::without_rule(StepKind::Setup, "npm ci".to_owned()), 11);
    let tree = snapshot(&[process(11, 1, "npm ci")]);
    let all: Vec<_> = (0..12).flat_map(|at| steps.update_from_snapshot(s(at), &tree, 11, &on_tcp)).collect();
    assert!(
        matches!(all.last(), Some(DueAction::Failure(error)) if error.kind == FailureKind::Stalled),
        "{all:?}"
    );
}

#[test]
fn an_interrupted_step_that_does_not_end_fails_with_its_stall() {
    let mut steps = steps_with(OnLimit::Interrupt);
    steps.start_command_step(s(0), "/bin/bash -lc 'npm ci'");
    let tree = snapshot(&[process(10, 1, "codex"), with_call_id(process(11, 10, "npm ci"), "c1")]);
    for second in 0..=11 {
        steps.update_from_snapshot(s(second), &tree, 10, &on_tcp);
    }
    let Some(DueAction::Failure(error)) = steps.due_actions(s(40), &on_tcp).pop() else {
        panic!("it goes on for ever")
    };
    assert_eq!(error.kind, FailureKind::Stalled);
    assert!(
        error.message.contains("made no progress for 10s") && error.message.contains("relay tried to end it"),
        "{}",
        error.message
    );
}

#[test]
fn an_interrupted_step_without_processes_waits_for_codex_to_report_it() {
    let mut steps = steps_with(OnLimit::Interrupt);
    steps.start_command_step(s(0), "/bin/bash -lc 'npm ci'");
    let tree = snapshot(&[process(10, 1, "codex"), with_call_id(process(11, 10, "npm ci"), "c1")]);
    for second in 0..=11 {
        steps.update_from_snapshot(s(second), &tree, 10, &on_tcp);
    }
    steps.update_from_snapshot(s(12), &snapshot(&[process(10, 1, "codex")]), 10, &on_tcp);
    assert!(
        !steps.due_actions(s(40), &on_tcp).iter().any(|due| matches!(due, DueAction::Failure(_))),
        "it was gone at once"
    );
    let Some(DueAction::Failure(error)) = steps.due_actions(s(700), &on_tcp).pop() else {
        panic!("it goes on for ever")
    };
    assert!(error.message.contains("codex has not reported"), "{}", error.message);
}

#[test]
fn a_stalled_install_fails_with_evidence_and_a_stalled_test_only_warns() {
    let tree = |name: &str| snapshot(&[process(11, 1, name)]);
    let mut steps = steps_with(OnLimit::Fail);
    steps.start_process_step(
        s(0),
        &Classification::without_rule(StepKind::Install, "npm install".to_owned()),
        11,
    );
    let timeout = (0..30).find_map(|second| {
        let due = steps.update_from_snapshot(s(second), &tree("npm install"), 11, &on_tcp);
        due.first().cloned().map(|due| (second, due))
    });
    let Some((10, DueAction::Failure(error))) = timeout else { panic!("{timeout:?}") };
    assert_eq!(error.kind, FailureKind::Stalled);
    assert_eq!(
        error.message,
        "step 1 (install: npm install) made no progress for 10s: npm install (pid 11): 0.0 % CPU, 0 bytes in 10.0s, \
         waiting on TCP 127.0.0.1:4873 ESTABLISHED"
    );

    let mut steps = steps_with(OnLimit::Fail);
    steps.start_process_step(s(0), &Classification::without_rule(StepKind::Test, "make test".to_owned()), 11);
    let all: Vec<_> = (0..60)
        .flat_map(|second| describe(&steps.update_from_snapshot(s(second), &tree("make test"), 11, &on_tcp)))
        .collect();
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].starts_with("stalled: make test (pid 11): 0.0 % CPU, 0 bytes in 10.0s"), "{all:?}");
}

#[test]
fn a_step_is_checked_unless_its_own_process_tree_is_truncated() {
    for (truncated_root, failures) in [(20, 1), (11, 0)] {
        let tree = truncated_snapshot(&[process(11, 1, "npm ci"), process(20, 1, "make")], &[truncated_root]);
        let mut steps = steps_with(OnLimit::Fail);
        steps.start_process_step(
            s(0),
            &Classification::without_rule(StepKind::Install, "npm ci".to_owned()),
            11,
        );
        let due = (0..12).flat_map(|second| steps.update_from_snapshot(s(second), &tree, 11, &on_tcp));
        assert_eq!(
            due.filter(|due| matches!(due, DueAction::Failure(_))).count().min(1),
            failures,
            "truncated below {truncated_root}"
        );
    }
}

#[test]
fn steps_of_a_job_are_interrupted_a_limited_number_of_times() {
    let mut steps = steps_with(OnLimit::Interrupt);
    let mut ends = Vec::new();
    for round in 0..=MAX_INTERRUPTS {
        let begin = u64::from(round) * 100;
        let (n, _) = steps.start_command_step(s(begin), "/bin/bash -lc 'npm ci'");
        let tree = snapshot(&[process(10, 1, "codex"), with_call_id(process(11, 10, "npm ci"), "c1")]);
        for second in begin..begin + 11 {
            ends.extend(describe(&steps.update_from_snapshot(s(second), &tree, 10, &on_tcp)));
        }
        ends.extend(
            steps
                .finish_step(s(begin + 12), n, StepOutcome::Failed, Some(137))
                .into_iter()
                .map(|event| describe(&[DueAction::Event(event)]).remove(0)),
        );
    }
    assert_eq!(ends.iter().filter(|text| text.starts_with("interrupted")).count(), 3);
    assert_eq!(ends.iter().filter(|text| text.contains("Interrupt { pid: 11")).count(), 3);
    assert_eq!(ends.iter().filter(|text| text.contains("Killed Some(137)")).count(), 3);
    let last = ends.iter().find(|text| text.starts_with("Stalled")).unwrap();
    assert!(last.ends_with("no more steps of this job are interrupted"), "{last}");
}

#[test]
fn a_step_that_outlives_its_interrupt_fails_the_job() {
    let mut steps = steps_with(OnLimit::Interrupt);
    steps.start_command_step(s(0), "/bin/bash -lc 'npm ci'");
    let tree = snapshot(&[process(10, 1, "codex"), with_call_id(process(11, 10, "npm ci"), "c1")]);
    for second in 0..11 {
        steps.update_from_snapshot(s(second), &tree, 10, &on_tcp);
    }
    assert!(matches!(steps.due_actions(s(18), &on_tcp).last(), Some(DueAction::Failure(_))));
}

#[test]
fn the_number_of_process_steps_of_a_job_is_limited() {
    let mut steps = steps_with(OnLimit::Fail);
    steps.start_command_step(s(0), "/bin/bash -lc './x && ./y'");
    let mut all = vec![process(10, 1, "codex"), with_call_id(process(11, 10, "bash"), "c1")];
    all.extend((0..2000).map(|n| process(100 + n, 11, "curl http://x")));
    let due = steps.update_from_snapshot(s(1), &snapshot(&all), 10, &on_tcp);
    assert_eq!(due.len(), MAX_STEPS as usize);
}
