//! Tests of shell jobs, from the start to the relay's last acknowledgement.

use crate::support::figures::figure;
use crate::support::{
    Agent, Relay, StartOptions, eventually, mark, processes, relay_and_agent, relay_and_agent_with,
};
use common::event::{EventBody, FailureKind, FinalState, StepOutcome};
use common::job::StepKind;

#[tokio::test]
async fn a_shell_job_runs_to_its_end_and_leaves_nothing_in_the_spool() {
    let mut relay = Relay::new().await;
    let agent = Agent::start(&relay.url());
    let hello = relay.accept().await;
    assert_eq!((hello.protocol_max, hello.max_jobs, hello.jobs.len()), (common::wire::PROTOCOL, 4, 0));
    let vitals = hello.vitals.expect("the machine is measured before the first job");
    assert!(vitals.cores > 0 && vitals.memory.is_some() && vitals.state.is_some(), "{vitals:?}");
    relay.start(&agent.shell_spec("demo#1", "echo out; echo err >&2; pwd")).await;
    let run = relay.until_finished("demo#1").await;
    assert_eq!(run.accept_count, 1);
    assert_eq!(run.log_text(), format!("out\nerr\n{}\n", agent.workspace().display()));
    assert_eq!(run.outcome(), Some((FinalState::Completed, None, Some(0))));
    let kinds = ["accepted", "started", "step_started", "step_finished", "cleanup", "finished"];
    similar_asserts::assert_eq!(run.event_types(), kinds);
    let spool = agent.state().join("spool.v5");
    relay.until("the spool is empty", |_| spool.read_dir().unwrap().count() == 0).await;
    let log = agent.workspace().join(".codex-worker/log.txt");
    assert_eq!(std::fs::read_to_string(log).unwrap(), relay.runs[&"demo#1".parse().unwrap()].log_text());
}

#[tokio::test]
async fn a_command_with_an_exit_code_fails_the_job_with_that_code() {
    let (mut relay, agent) = relay_and_agent().await;
    relay.start(&agent.shell_spec("demo#1", "exit 7")).await;
    let (state, error, code) = relay.until_finished("demo#1").await.outcome().unwrap();
    let error = error.unwrap();
    assert_eq!((state, error.kind, code), (FinalState::Failed, FailureKind::Exited, Some(7)));
    assert!(error.message.contains("exit code 7"), "{}", error.message);
}

#[tokio::test]
async fn setup_and_checks_run_around_the_worker_and_a_failed_check_fails_the_job() {
    let (mut relay, agent) = relay_and_agent().await;
    let mut spec = agent.shell_spec("demo#1", "cat made; echo worked");
    spec.setup = vec!["echo made by setup > made".into()];
    spec.checks = vec!["true".into(), "echo because; exit 3".into(), "touch never".into()];
    relay.start(&spec).await;
    let run = relay.until_finished("demo#1").await;
    let (state, error, code) = run.outcome().unwrap();
    let error = error.unwrap();
    assert_eq!((state, error.kind, code), (FinalState::Failed, FailureKind::CheckFailed, Some(0)));
    assert!(error.message.contains("exit code 3: because"), "{}", error.message);
    let expected =
        "$ echo made by setup > made\nmade by setup\nworked\n$ true\n$ echo because; exit 3\nbecause\n";
    assert_eq!(run.log_text(), expected);
    assert!(!agent.workspace().join("never").exists());
    let kinds: Vec<StepKind> = run
        .events
        .iter()
        .filter_map(|event| match event.body {
            EventBody::StepStarted { kind, .. } => Some(kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [StepKind::Setup, StepKind::Command, StepKind::Check, StepKind::Check]);
}

#[tokio::test]
async fn a_step_over_its_limit_fails_the_job_and_leaves_no_process() {
    let (mut relay, agent) = relay_and_agent().await;
    let mark = mark();
    let mut spec = agent.shell_spec("demo#1", &format!("trap '' TERM; sleep {mark} & sleep {mark}; true"));
    spec.limits.steps.insert(StepKind::Command, 300);
    spec.limits.grace_ms = 500;
    relay.start(&spec).await;
    let run = relay.until_finished("demo#1").await;
    let (state, error, _) = run.outcome().unwrap();
    let error = error.unwrap();
    assert_eq!((state, error.kind, error.step), (FinalState::Failed, FailureKind::StepTimeout, Some(1)));
    assert!(error.message.contains("limit of 300ms"), "{}", error.message);
    let kinds = run.event_types();
    assert!(kinds.contains(&"warning".to_owned()) && kinds.contains(&"stopping".to_owned()), "{kinds:?}");
    assert_eq!(run.cleanup().unwrap().1, 0);
    assert_eq!(processes(&mark), [] as [u32; 0]);
    let killed = run
        .events
        .iter()
        .any(|event| matches!(event.body, EventBody::StepFinished { outcome: StepOutcome::Killed, .. }));
    assert!(killed, "{:?}", run.events);
}

#[tokio::test]
async fn jobs_run_side_by_side_and_a_job_without_a_free_slot_is_refused_for_now() {
    let (mut relay, agent) =
        relay_and_agent_with(&serde_json::json!({"max_jobs": 2}), &StartOptions::default()).await;
    let wait = "until test -e go; do sleep 0.02; done; echo ";
    for job in ["a#1", "b#1", "c#1"] {
        relay.start(&agent.shell_spec(job, &format!("{wait} {job}"))).await;
    }
    let (_, is_busy) = relay.until_refused("c#1").await;
    assert!(is_busy);
    relay.start(&agent.shell_spec("a#1", "never run twice")).await;
    relay.until_run("a#1", "is accepted once more", |run| run.accept_count == 2).await;
    std::fs::write(agent.workspace().join("go"), "").unwrap();
    for job in ["a#1", "b#1"] {
        assert_eq!(relay.until_finished(job).await.log_text(), format!("{job}\n"));
    }
}

#[tokio::test]
async fn a_job_whose_workspace_does_not_exist_is_refused_for_good() {
    let (mut relay, agent) = relay_and_agent().await;
    let mut spec = agent.shell_spec("demo#1", "true");
    spec.workspace = "/nowhere/at/all".into();
    relay.start(&spec).await;
    let (reason, is_busy) = relay.until_refused("demo#1").await;
    assert!(!is_busy && reason.contains("/nowhere/at/all"), "{reason}");
}

#[tokio::test]
async fn p15_a_program_that_can_not_start_fails_the_job_with_spawn_failed() {
    let (mut relay, agent) = relay_and_agent().await;
    let broken = agent.dir.path().join("bin");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("sh"), "not a program").unwrap();
    let (broken, path) = (broken.display().to_string(), std::env::var("PATH").unwrap());
    let cases = [
        ("none#1", "/nowhere", String::new(), "No such file"),
        ("mode#1", &broken, String::new(), "ermission denied"),
        ("long#1", &path, "x".repeat(200_000), "too long"),
    ];
    let mut outcomes = Vec::new();
    for (job, path, value, reason) in cases {
        let mut spec = agent.shell_spec(job, "true");
        spec.env.extend([("PATH".to_owned(), path.to_owned()), ("VALUE".to_owned(), value)]);
        relay.start(&spec).await;
        outcomes.push((relay.until_finished(job).await.outcome().unwrap(), reason));
    }
    if rustix::process::geteuid().is_root() {
        // The limit on processes exempts root and counts existing ones: so the worker's user has another process.
        let mut command = std::process::Command::new("setpriv");
        let mut process =
            command.args(["--reuid", "nobody", "--clear-groups", "sleep", "600"]).spawn().unwrap();
        eventually("the other user has a process", || {
            std::fs::read_to_string(format!("/proc/{}/comm", process.id())).unwrap() == "sleep\n"
        })
        .await;
        // The old agent would reconnect, perhaps before the new one.
        drop(agent);
        relay.drop_connection();
        let agent = Agent::start_with(&relay.url(), &serde_json::json!({"user": "nobody"}));
        let no_process = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        let pid = rustix::process::Pid::from_child(&agent.child);
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Nproc, no_process).unwrap();
        relay.accept().await;
        relay.start(&agent.shell_spec("full#1", "true")).await;
        outcomes.push((relay.until_finished("full#1").await.outcome().unwrap(), "temporarily unavailable"));
        process.kill().unwrap();
        process.wait().unwrap();
    }
    for ((state, error, code), reason) in &outcomes {
        let error = error.as_ref().unwrap();
        assert_eq!((*state, error.kind, *code), (FinalState::Failed, FailureKind::SpawnFailed, None));
        assert!(error.message.contains(reason), "{}", error.message);
    }
    figure(&format!(
        "programs that can't start (fault P15): {0} of {0} failed with the kind spawn_failed",
        outcomes.len()
    ));
}

#[tokio::test]
async fn changes_in_a_repository_are_counted_even_if_the_job_commits_them() {
    let (mut relay, agent) = relay_and_agent().await;
    let git = |arguments: &[&str]| {
        let status =
            std::process::Command::new("git").args(arguments).current_dir(agent.workspace()).status();
        assert!(status.unwrap().success());
    };
    git(&["init", "-q"]);
    std::fs::write(agent.workspace().join("a"), "1\n2\n").unwrap();
    git(&["add", "a"]);
    git(&["config", "user.name", "x"]);
    git(&["config", "user.email", "x@x"]);
    git(&["commit", "-qm", "x"]);
    relay.start(&agent.shell_spec("demo#1", "echo 3 >> a; git commit -qam y; echo new > b")).await;
    let run = relay.until_finished("demo#1").await;
    let EventBody::Finished { changes: Some(changes), .. } = run.events.last().unwrap().body else {
        panic!("{:?}", run.events.last())
    };
    assert_eq!((changes.files, changes.insertions, changes.deletions), (2, 1, 0));
}

#[tokio::test]
async fn p22_a_worker_inherits_three_descriptors_and_no_variable_of_the_agent() {
    let (mut relay, agent) = relay_and_agent().await;
    let mut spec = agent.shell_spec("demo#1", "ls /proc/$$/fd; env; cat /proc/self/status | grep NoNewPrivs");
    spec.env.insert("MINE".into(), "yes".into());
    relay.start(&spec).await;
    let text = relay.until_finished("demo#1").await.log_text();
    assert!(text.starts_with("0\n1\n2\n") && !text.contains("\n3\n"), "{text}");
    figure("descriptors that a worker inherits (fault P22): 0, 1, 2 and no other");
    assert!(text.contains("MINE=yes") && text.contains("NoNewPrivs:\t1"), "{text}");
    assert!(!text.contains("CARGO_MANIFEST_DIR") && !text.contains(crate::support::TOKEN), "{text}");
}

#[tokio::test]
async fn no_secret_is_in_a_command_line_or_in_the_environment_of_a_shim() {
    let (mut relay, agent) = relay_and_agent().await;
    let mark = mark();
    let mut spec = agent.shell_spec("demo#1", &format!("sleep {mark}"));
    spec.env.insert("CANARY".into(), "s3cr3t-canary".into());
    relay.start(&spec).await;
    eventually("the worker runs", || !processes(&format!("sleep {mark}")).is_empty()).await;
    assert_eq!(processes("s3cr3t-canary"), [] as [u32; 0]);
    for pid in processes("exe shim") {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environ).contains("s3cr3t-canary"));
    }
    relay.until("it runs", |relay| relay.runs.values().any(|run| run.pid().is_some())).await;
    relay.cancel("demo#1", 0).await;
    relay.until_finished("demo#1").await;
}

#[tokio::test]
async fn an_agent_sends_new_vitals_of_its_machine_repeatedly() {
    let mut relay = Relay::new().await;
    let _agent = Agent::start(&relay.url());
    relay.accept().await;
    relay.until("two measurements", |relay| relay.vitals.len() > 1).await;
}
