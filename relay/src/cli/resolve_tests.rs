//! Tests of launches: the launch that flags and settings give, and the message of each mistake.

use std::ffi::OsString;

use clap::Parser;
use common::job::MAX_PROMPT;

use super::super::commands::{Cli, Command};
use super::super::{launch, run};
use super::*;

/// A project with one workspace and a prompt file.
struct Project {
    dir: tempfile::TempDir,
    config: Config,
}

impl Project {
    fn new(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("workspace-projects/Abe Smoke")).unwrap();
        std::fs::create_dir(root.join("platform")).unwrap();
        std::fs::write(root.join("platform/relay.toml"), toml).unwrap();
        std::fs::write(root.join("prompt.md"), "from a file\n").unwrap();
        std::fs::write(root.join("latin1.md"), b"\xe4").unwrap();
        Self { config: Config::load(&root).unwrap(), dir }
    }

    fn resolve(&self, engine: EngineKind, line: &[&str], stdin: &[u8]) -> Result<Launch, Failure> {
        let root = self.dir.path().canonicalize().unwrap();
        let cwd = root.join("workspace-projects/Abe Smoke");
        let variable = |key: &str| match key {
            "TOKEN" => Ok("s3cret".to_owned()),
            "BYTES" => Err(VarError::NotUnicode(OsString::new())),
            _ => Err(VarError::NotPresent),
        };
        let resolve_context =
            ResolveContext { config: &self.config, engine, cwd: &cwd, caller_variable: &variable };
        let argv = std::iter::once("relay").chain(line.iter().copied());
        match Cli::try_parse_from(argv).unwrap().command {
            Command::Launch(flags) => launch::resolve_flags(&flags, &resolve_context, stdin),
            Command::Run(flags) => run::resolve_flags(&flags, &resolve_context),
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&self, flags: &[&str]) -> String {
        let failure = self.resolve(EngineKind::Docker, flags, b"").unwrap_err();
        assert_eq!(failure.code as u8, 2, "{failure}");
        assert_eq!(failure.message.lines().count(), 1, "{failure}");
        failure.message
    }
}

#[test]
fn defaults_come_from_the_folder_and_the_configuration() {
    let project = Project::new("[codex]\nmodel = \"m1\"\n[limits]\njob = \"1h\"\n");
    let job = project.resolve(EngineKind::Docker, &["launch", "do it"], b"").unwrap();
    assert_eq!(
        (job.name.as_str(), job.workspace.worker_path.as_str()),
        ("abe-smoke", "/workspaces/Abe Smoke")
    );
    assert_eq!((job.runner, job.prompt.as_str()), (Runner::Codex, "do it"));
    assert_eq!((job.codex.model.as_deref(), job.limits.job_ms), (Some("m1"), 3_600_000));
    let spec = job.spec(&"abe-smoke#1".parse().unwrap());
    assert_eq!((spec.schema, spec.workspace.as_str()), (SPEC_SCHEMA_VERSION, "/workspaces/Abe Smoke"));
}

#[test]
fn flags_take_precedence_over_the_configuration() {
    let project = Project::new(
        "[codex]\nmodel = \"m1\"\nargs = [\"-c\", \"a=1\"]\n[limits]\nsteps = { test = \"1h\" }\n",
    );
    let flags = [
        "launch",
        "do it",
        "-w",
        "../..",
        "-n",
        "other",
        "--setup",
        "npm ci",
        "--setup",
        "make",
        "--check",
        "make test",
        "--timeout",
        "30m",
        "--step-timeout",
        "install=5m",
        "--step-timeout",
        "clone=90s",
        "--model",
        "m2",
        "--env",
        "TOKEN",
        "--env",
        "MODE=a=b",
        "--",
        "--search",
        "-c",
        "personality=b",
    ];
    let job = project.resolve(EngineKind::Local, &flags, b"").unwrap();
    assert_eq!((job.name.as_str(), job.codex.model.as_deref()), ("other", Some("m2")));
    assert_eq!((job.setup, job.checks), (vec!["npm ci".into(), "make".into()], vec!["make test".into()]));
    assert_eq!(job.limits.job_ms, 1_800_000);
    let limits = [StepKind::Install, StepKind::Clone, StepKind::Test].map(|kind| job.limits.step_ms(kind));
    assert_eq!(limits, [300_000, 90_000, 3_600_000]);
    assert_eq!(job.env, BTreeMap::from([("TOKEN".into(), "s3cret".into()), ("MODE".into(), "a=b".into())]));
    assert_eq!(job.codex.args, ["-c", "a=1", "--search", "-c", "personality=b"]);
    assert_eq!(job.workspace.worker_path, project.dir.path().canonicalize().unwrap().to_str().unwrap());
}

#[test]
fn stall_limits_and_actions_in_flags_take_precedence_over_the_configuration() {
    let toml = "[limits]\nstall = \"3m\"\nstalls = { install = \"4m\", test = \"5m\" }\non_limit = \"interrupt\"\n\
                on_loop = \"fail\"\n[[step]]\nmatch = 'x'\nkind = \"test\"\n";
    let project = Project::new(toml);
    let resolve = |flags: &[&str]| {
        let job = project.resolve(EngineKind::Local, &[&["launch", "do it"], flags].concat(), b"").unwrap();
        assert_eq!(job.rules, project.config.rules);
        (job.limits.stall_ms, job.limits.stalls, job.on_limit)
    };
    let (install, test) = ((StepKind::Install, 240_000), (StepKind::Test, 300_000));
    assert_eq!(resolve(&[]), (180_000, [install, test].into(), OnLimit::Interrupt));
    // The flag replaces the file's limits of network kinds and keeps those of other kinds.
    assert_eq!(resolve(&["--stall", "10s", "--on-limit", "fail"]), (10_000, [test].into(), OnLimit::Fail));
    let on_loop = |flags: &[&str]| {
        project
            .resolve(EngineKind::Local, &[&["launch", "do it"], flags].concat(), b"")
            .map(|job| job.on_loop)
    };
    assert_eq!(on_loop(&[]).unwrap(), OnLoop::Fail);
    assert_eq!(on_loop(&["--on-loop", "warn"]).unwrap(), OnLoop::Warn);
    assert!(on_loop(&["--runner", "shell", "--on-loop", "warn"]).unwrap_err().message.contains("--on-loop"));
    let flags = ["--stall", "test=1m", "--stall", "clone=20s", "--stall", "10s"];
    let stalls = [(StepKind::Test, 60_000), (StepKind::Clone, 20_000)].into();
    assert_eq!(resolve(&flags), (10_000, stalls, OnLimit::Interrupt));
    let job = project
        .resolve(EngineKind::Local, &["run", "--timeout", "1h", "--stall", "install=20m", "--", "x"], b"")
        .unwrap();
    assert_eq!(job.limits.stalls[&StepKind::Install], 1_200_000);
}

#[test]
fn the_prompt_comes_from_the_flag_a_file_or_stdin() {
    let project = Project::new("");
    let file = project.dir.path().join("prompt.md");
    let prompt = |flags: &[&str]| {
        let flags = [&["launch"], flags].concat();
        project.resolve(EngineKind::Docker, &flags, b"from stdin").unwrap().prompt
    };
    assert_eq!(prompt(&["given"]), "given");
    assert_eq!(prompt(&["-"]), "from stdin");
    assert_eq!(prompt(&["-f", "-"]), "from stdin");
    assert_eq!(prompt(&["-f", file.to_str().unwrap()]), "from a file\n");
}

#[test]
fn every_mistake_is_named_in_one_line() {
    let project = Project::new("");
    let latin1 = project.dir.path().join("latin1.md");
    for (flags, expected) in [
        (vec!["launch"], "no task: give it as PROMPT, with -f FILE, or as - for stdin"),
        (vec!["launch", " \n"], "prompt is empty"),
        (vec!["launch", "-"], "prompt is empty"),
        (vec!["launch", "-f", "/no/such/file"], "prompt file /no/such/file"),
        (vec!["launch", "-f", latin1.to_str().unwrap()], "not UTF-8"),
        (vec!["launch", "x", "-w", "missing"], "workspace missing"),
        (vec!["launch", "x", "-w", "/"], "outside of"),
        (vec!["launch", "x", "--env", "UNSET"], "--env UNSET: it is not set here"),
        (vec!["launch", "x", "--env", "BYTES"], "--env BYTES"),
        (vec!["launch", "x", "--env", "=v"], "without a name"),
        (
            vec!["launch", "x", "--timeout", "5m", "--step-timeout", "test=10m"],
            "test=10m exceeds the limit of the job",
        ),
        (vec!["launch", "x", "--step-timeout", "test=5h"], "(4h)"),
        (
            vec!["launch", "x", "--stall", "install=5m", "--step-timeout", "install=5m"],
            "--stall install=5m would never be reached: install steps are limited to 5m",
        ),
        (
            vec!["launch", "x", "--stall", "5m", "--step-timeout", "clone=5m"],
            "--stall 5m would never be reached: clone steps are limited to 5m",
        ),
        (vec!["launch", "x", "--stall", "test=30m"], "raise theirs (--step-timeout KIND=D)"),
        (vec!["launch", "x", "--stall", "10m"], "--stall 10m would never be reached"),
        (vec!["launch", "x", "--stall", "model=1m"], "--stall model=1m: a model step only waits"),
        (vec!["run", "--timeout", "10m", "--stall", "10m", "--", "x"], "--stall 10m would never"),
        (vec!["launch", "x", "--runner", "shell", "--model", "m"], "--runner shell"),
        (vec!["launch", "x", "--runner", "shell", "--", "--search"], "--runner shell"),
        (vec!["launch", "a\0b"], "NUL"),
        (vec!["launch", "x", "--setup", "a\0b"], "NUL"),
        (vec!["run", "--", " "], "command is empty"),
    ] {
        let message = project.refusal(&flags);
        assert!(message.contains(expected), "{flags:?}: {message}");
    }
}

#[test]
fn prompts_and_specs_beyond_the_maximum_length_are_refused() {
    let project = Project::new("");
    let resolve = |prompt: Vec<u8>| project.resolve(EngineKind::Docker, &["launch", "-"], &prompt);
    assert_eq!(resolve(vec![b'x'; MAX_PROMPT]).unwrap().prompt.len(), MAX_PROMPT);
    assert!(resolve(vec![b'x'; MAX_PROMPT + 1]).unwrap_err().message.contains("longer than 524288 bytes"));
    // The maximum length falls into the middle of a character.
    assert!(resolve("é".repeat(MAX_PROMPT).into_bytes()).unwrap_err().message.contains("longer than"));
    let setup = "y".repeat(MAX_SPEC);
    assert!(project.refusal(&["launch", "x", "--setup", &setup]).contains("more than"));
}

#[test]
fn words_of_a_command_are_quoted_but_a_whole_command_line_is_not() {
    let project = Project::new("");
    let line = |words: &[&str]| {
        let flags = [&["run", "--"], words].concat();
        project.resolve(EngineKind::Docker, &flags, b"").unwrap().prompt
    };
    assert_eq!(line(&["make"]), "make");
    assert_eq!(line(&["printf", "%s\n", "a b", "$HOME"]), "printf '%s\n' 'a b' '$HOME'");
    assert_eq!(line(&["make && echo \"$HOME\""]), "make && echo \"$HOME\"");
}

#[test]
fn the_timeout_of_a_command_raises_lower_limits_of_its_steps() {
    let project = Project::new("");
    let job = project.resolve(EngineKind::Docker, &["run", "--timeout", "20m", "--", "make"], b"").unwrap();
    let limits = [StepKind::Command, StepKind::Test].map(|kind| job.limits.step_ms(kind));
    assert_eq!((job.limits.job_ms, limits), (1_200_000, [1_200_000, 1_800_000]));
    let job = project.resolve(EngineKind::Docker, &["run", "--", "make"], b"").unwrap();
    assert_eq!(job.limits, Limits::default());
}
