//! Tests of follow-up jobs: the launch that an earlier job and flags give, and the message of each mistake.

use std::collections::BTreeSet;
use std::env::VarError;

use clap::Parser;
use common::hold::OnQuota;
use common::job::{CodexSettings, Limits, Sandbox, StepKind};
use common::record::State;
use common::rule::{OnLimit, OnLoop};

use super::super::commands::{Cli, Command};
use super::super::resolve::Launch;
use super::super::{resume, retry};
use super::*;
use crate::config::Config;
use crate::engine_kind::EngineKind;
use crate::render::samples;

const THREAD_ID: &str = "01a203ca-9b3a-74f0-a0f9-92040009a617";

/// A project whose registry holds one job, `abe#1`.
struct Project {
    dir: tempfile::TempDir,
    record: JobRecord,
    spec: JobSpec,
}

impl Project {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("workspace-projects/abe")).unwrap();
        let workspace = root.join("workspace-projects/abe").display().to_string();
        let mut record = samples::minimal_record("abe#1", State::Failed);
        record.runner = Runner::Codex;
        record.engine = "local".into();
        record.workspace.clone_from(&workspace);
        record.thread_id = Some(THREAD_ID.into());
        let spec = JobSpec {
            env_names: ["TOKEN".to_owned()].into(),
            setup: vec!["npm ci".into()],
            checks: vec!["npm test".into()],
            limits: Limits { job_ms: 60_000, ..Limits::default() },
            on_limit: OnLimit::Interrupt,
            on_loop: OnLoop::Fail,
            codex: CodexSettings {
                model: Some("m1".into()),
                args: vec!["--search".into()],
                ..CodexSettings::default()
            },
            ..JobSpec::new(record.job.clone(), Runner::Codex, "fix the tests", &workspace)
        };
        Self { dir, record, spec }
    }

    fn resolve(&self, line: &[&str]) -> Result<Launch, Failure> {
        let root = self.dir.path().canonicalize().unwrap();
        let registry = Registry::for_project(&root);
        registry.ensure().unwrap();
        std::fs::write(registry.record(&self.record.job), self.record.to_bytes().unwrap()).unwrap();
        std::fs::write(registry.spec(&self.record.job), serde_json::to_vec(&self.spec).unwrap()).unwrap();
        let config = Config::load(&root).unwrap();
        let variable = |key: &str| match key {
            "TOKEN" => Ok("s3cret".to_owned()),
            "CODEX_THREAD_ID" => Ok("caller".to_owned()),
            _ => Err(VarError::NotPresent),
        };
        let resolve_context = ResolveContext {
            config: &config,
            engine: EngineKind::Local,
            cwd: &root,
            caller_variable: &variable,
        };
        match Cli::try_parse_from([&["relay"], line].concat()).unwrap().command {
            Command::Resume(args) => {
                let earlier = EarlierJob::find(&registry, &args.job)?;
                resume::resolve_flags(&args, &earlier, &resolve_context, &b"from stdin"[..])
            }
            Command::Retry(args) => {
                let earlier = EarlierJob::find(&registry, args.job.as_deref().unwrap())?;
                retry::resolve_flags(&args, &earlier, &resolve_context)
            }
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&self, line: &[&str]) -> String {
        let failure = self.resolve(line).unwrap_err();
        assert_eq!(failure.code as u8, 2, "{failure}");
        assert_eq!(failure.message.lines().count(), 1, "{failure}");
        failure.message
    }
}

#[test]
fn a_resumed_job_inherits_everything_but_prompt_setup_and_limits() {
    let project = Project::new();
    let launch = project.resolve(&["resume", "abe", "go on"]).unwrap();
    let session = launch.origin.session.as_ref().map(|session| session.id.as_str());
    assert_eq!(session, Some("caller"));
    let spec = launch.spec(&"abe#2".parse().unwrap());
    let expected = JobSpec {
        job: "abe#2".parse().unwrap(),
        prompt: "go on".into(),
        env: BTreeMap::from([("TOKEN".into(), "s3cret".into())]),
        env_names: BTreeSet::new(),
        setup: vec![],
        limits: Limits::default(),
        on_limit: OnLimit::Fail,
        on_loop: OnLoop::Warn,
        on_quota: OnQuota::Wait,
        codex: CodexSettings { sandbox: Sandbox::WorkspaceWrite, ..project.spec.codex.clone() },
        thread: Some(THREAD_ID.into()),
        ..project.spec.clone()
    };
    similar_asserts::assert_eq!(spec, expected);
    let follows = Follows { job: "abe#1".parse().unwrap(), how: FollowUp::Resume };
    assert_eq!((launch.name.as_str(), launch.origin.follows), ("abe", Some(follows)));
}

#[test]
fn flags_of_a_resume_take_precedence_over_the_earlier_job() {
    let project = Project::new();
    let line = ["resume", "abe", "-", "--check", "make", "--setup", "npm i"];
    let rest = "--model m2 --timeout 2h --on-limit interrupt --on-loop fail --on-quota fail --env TOKEN=other -- -c personality=a";
    let line: Vec<&str> = line.into_iter().chain(rest.split(' ')).collect();
    let launch = project.resolve(&line).unwrap();
    assert_eq!((launch.prompt.as_str(), launch.checks), ("from stdin", vec!["make".to_owned()]));
    assert_eq!((launch.setup, launch.limits.job_ms), (vec!["npm i".to_owned()], 7_200_000));
    assert_eq!(
        (launch.codex.model.as_deref(), launch.codex.args),
        (Some("m2"), vec!["-c".into(), "personality=a".into()])
    );
    assert_eq!((launch.on_limit, launch.on_loop), (OnLimit::Interrupt, OnLoop::Fail));
    assert_eq!(launch.on_quota, OnQuota::Fail);
    assert_eq!(launch.env["TOKEN"], "other");
    let unchecked = project.resolve(&["resume", "abe", "go on", "--no-check"]).unwrap();
    assert_eq!(unchecked.checks, [""; 0]);
}

#[test]
fn a_retried_job_has_the_same_spec() {
    let project = Project::new();
    let launch = project.resolve(&["retry", "abe"]).unwrap();
    let spec = launch.spec(&"abe#2".parse().unwrap());
    let expected = JobSpec {
        job: "abe#2".parse().unwrap(),
        env: BTreeMap::from([("TOKEN".into(), "s3cret".into())]),
        env_names: BTreeSet::new(),
        codex: CodexSettings { sandbox: Sandbox::WorkspaceWrite, ..project.spec.codex.clone() },
        ..project.spec.clone()
    };
    similar_asserts::assert_eq!(spec, expected);
    let line = ["retry", "abe", "--timeout", "1h", "--step-timeout", "install=5m", "--model", "m2"];
    let changed = project.resolve(&line).unwrap();
    assert_eq!((changed.limits.job_ms, changed.codex.model.as_deref()), (3_600_000, Some("m2")));
    assert_eq!(changed.limits.step_ms(StepKind::Install), 300_000);
    let on_quota = |flags: &[&str]| project.resolve(&[&["retry", "abe"], flags].concat()).unwrap().on_quota;
    assert_eq!(on_quota(&[]), OnQuota::Fail, "that of the earlier job");
    assert_eq!(on_quota(&["--on-quota", "wait"]), OnQuota::Wait);
}

#[test]
fn missing_values_of_variables_are_requested_by_name() {
    let mut project = Project::new();
    project.spec.env_names.insert("NPM_TOKEN".into());
    for line in [&["retry", "abe"][..], &["resume", "abe", "go on"]] {
        let message = project.refusal(line);
        assert!(message.contains("had NPM_TOKEN") && message.contains("--env NPM_TOKEN=VALUE"), "{message}");
        let given = project.resolve(&[line, &["--env", "NPM_TOKEN=x"]].concat()).unwrap();
        assert_eq!((given.env.len(), given.env["NPM_TOKEN"].as_str()), (2, "x"));
    }
    // The spec of a job that no agent received still has the values.
    project.spec.env.insert("NPM_TOKEN".into(), "kept".into());
    assert_eq!(project.resolve(&["retry", "abe"]).unwrap().env["NPM_TOKEN"], "kept");
}

#[test]
fn a_job_that_still_runs_has_no_follow_up() {
    let mut project = Project::new();
    project.record.state = State::Running;
    for line in [&["retry", "abe"][..], &["resume", "abe", "go on"]] {
        let message = project.refusal(line);
        assert!(message.contains("`relay wait abe#1` or `relay cancel abe#1`"), "{message}");
    }
}

#[test]
fn a_job_without_a_thread_can_only_be_retried() {
    let mut project = Project::new();
    for thread in [None, Some("--last".to_owned())] {
        project.record.thread_id = thread;
        let message = project.refusal(&["resume", "abe", "go on"]);
        assert!(message.contains("before Codex started a thread: `relay retry abe#1`"), "{message}");
    }
    project.spec.runner = Runner::Shell;
    assert!(project.refusal(&["resume", "abe", "go on"]).contains("is a shell job"));
    assert!(project.resolve(&["retry", "abe"]).is_ok());
    assert!(project.refusal(&["retry", "abe", "--model", "m"]).contains("--model is for codex"));
    let refusal = project.refusal(&["retry", "abe", "--on-quota", "wait"]);
    assert!(refusal.contains("--on-quota is for codex"), "{refusal}");
}

#[test]
fn a_thread_of_another_engine_or_of_an_unfinished_job_is_not_continued() {
    let mut project = Project::new();
    let root = project.dir.path().canonicalize().unwrap();
    let registry = Registry::for_project(&root);
    project.resolve(&["resume", "abe#1", "go on"]).unwrap();
    let mut other = project.record.clone();
    other.job = "abe#2".parse().unwrap();
    other.state = State::Running;
    other.origin.follows = Some(Follows { job: "abe#1".parse().unwrap(), how: FollowUp::Resume });
    std::fs::write(registry.record(&other.job), other.to_bytes().unwrap()).unwrap();
    let message = project.refusal(&["resume", "abe#1", "go on"]);
    assert!(message.contains("abe#2 uses the same Codex thread"), "{message}");
    assert!(project.resolve(&["retry", "abe#1"]).is_ok(), "a retry begins a thread of its own");
    project.record.engine = "docker".into();
    let message = project.refusal(&["resume", "abe#1", "go on"]);
    assert!(
        message.contains("belongs to engine docker") && message.contains("relay up --engine docker"),
        "{message}"
    );
}

#[test]
fn a_missing_workspace_and_an_empty_prompt_are_refused() {
    let project = Project::new();
    assert!(project.refusal(&["resume", "abe"]).contains("no task"));
    assert!(project.refusal(&["resume", "abe", " "]).contains("empty"));
    std::fs::remove_dir(&project.record.workspace).unwrap();
    assert!(project.refusal(&["resume", "abe", "go on"]).contains("no longer exists: create it"));
    let unknown = project.resolve(&["retry", "zoe"]).unwrap_err();
    assert_eq!(unknown.code as u8, 3, "{unknown}");
}
