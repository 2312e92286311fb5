//! Tests of jobs with a clone of their own, with the real agent, and the real git at both ends of the streams.

#![expect(clippy::unwrap_used, reason = "a harness of tests: a panic is how it reports")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::event::{EventBody, FailureKind, FinalState};
use common::job::{JobSpec, StepKind};
use common::place::PlaceSpec;
use common::stream::StreamService;

use crate::support::figures::figure;
use crate::support::streams::{git, job_repository};
use crate::support::{Agent, Relay, Run, StartOptions, eventually, relay_and_agent_with};

/// A fake relay with its agent, and the bare repository of a job with the commit that the job starts from.
struct Setup {
    relay: Relay,
    agent: Agent,
    /// Folder of the job's repository, unless it is in the agent's folder.
    _folder: Option<tempfile::TempDir>,
    bare: PathBuf,
    base: String,
}

async fn setup(files: &[(&str, &[u8])]) -> Setup {
    // Before the agent connects, because no ping is sent while git works here.
    let folder = tempfile::tempdir().unwrap();
    let (bare, commit) = job_repository(folder.path(), files);
    // A home folder without settings of git.
    let home = serde_json::json!({"env": {"HOME": "/nonexistent"}});
    let (mut relay, agent) = relay_and_agent_with(&home, &StartOptions::default()).await;
    relay.streams.repository = Some(bare.clone());
    Setup { relay, agent, _folder: Some(folder), bare, base: commit }
}

impl Setup {
    fn spec(&self, line: &str, subfolder: &str) -> JobSpec {
        let mut spec = self.agent.shell_spec("demo#1", line);
        // The job works in its clone, so its workspace need not exist here.
        "/not/here".clone_into(&mut spec.workspace);
        spec.place = Some(PlaceSpec::new(&self.base, &self.base, "relay/demo-1", subfolder).unwrap());
        spec
    }

    fn place(&self) -> PathBuf {
        self.agent.dir.path().join("state.places/demo.1")
    }

    /// Returns the output of git on the job's repository.
    fn git(&self, arguments: &[&str]) -> String {
        git(&self.bare, arguments)
    }

    /// Returns the subjects of the commits of the result, newest first.
    fn result_subjects(&self) -> String {
        self.git(&["log", "--format=%s", "base..result"])
    }
}

fn warnings(run: &Run) -> Vec<&str> {
    run.events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Warning { message } => Some(message.as_str()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_job_works_in_a_clone_and_its_commits_and_uncommitted_changes_arrive() {
    let mut setup = setup(&[("a", b"1\n"), ("sub/b", b"2\n")]).await;
    let line = "pwd; cat a; git status --porcelain --branch; echo 2 > a; git commit -qam mine; echo new > c; \
                git log -1 --format=%an";
    setup.relay.start(&setup.spec(line, "")).await;
    let run = setup.relay.until_completed("demo#1").await;
    let place = setup.agent.dir.path().canonicalize().unwrap().join("state.places/demo.1");
    let title = format!("$ git fetch {:.12} as relay/demo-1", setup.base);
    assert_eq!(
        run.log_text(),
        format!("{title}\n{}\n1\n## relay/demo-1\nrelay worker\n", place.display()),
        "{:?}",
        run.events
    );
    assert_eq!(warnings(run), [] as [&str; 0]);
    let kinds: Vec<StepKind> = run
        .events
        .iter()
        .filter_map(|event| match event.body {
            EventBody::StepStarted { kind, .. } => Some(kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds[0], StepKind::Clone);
    let EventBody::Finished { changes: Some(changes), .. } = run.events.last().unwrap().body else {
        panic!("{:?}", run.events.last())
    };
    assert_eq!((changes.files, changes.insertions, changes.deletions), (2, 2, 1));
    assert_eq!(setup.result_subjects(), "relay: uncommitted changes\nmine");
    assert_eq!(setup.git(&["show", "result:c"]), "new");
    assert_eq!(
        setup.git(&["log", "-1", "--format=%an %ae %cn", "result"]),
        "relay worker worker@relay.invalid relay worker"
    );
    let place = setup.place();
    eventually("the place is removed", || !place.exists()).await;
}

#[tokio::test]
async fn all_commands_work_in_the_subfolder_and_a_missing_subfolder_fails_the_job() {
    let mut setup = setup(&[("sub/dir/b", b"2\n")]).await;
    let mut spec = setup.spec("cat b; git rev-parse --show-prefix; echo 3 > b", "sub/dir");
    spec.setup = vec!["echo made > made".into()];
    spec.checks = vec!["cat made".into()];
    setup.relay.start(&spec).await;
    let text = setup.relay.until_completed("demo#1").await.log_text();
    assert!(text.contains("\n2\nsub/dir/\n") && text.ends_with("made\n"), "{text}");
    assert_eq!(setup.git(&["diff", "--name-only", "base", "result"]), "sub/dir/b\nsub/dir/made");

    spec.job = "demo#2".parse().unwrap();
    spec.place = Some(PlaceSpec::new(&setup.base, &setup.base, "x", "sub/none").unwrap());
    setup.relay.start(&spec).await;
    let (state, error, _) = setup.relay.until_finished("demo#2").await.outcome().unwrap();
    let error = error.unwrap();
    assert_eq!((state, error.kind), (FinalState::Failed, FailureKind::SetupFailed));
    assert!(error.message.contains("sub/none does not exist"), "{}", error.message);
}

#[tokio::test]
async fn a_failed_and_a_cancelled_job_push_their_changes() {
    let mut setup = setup(&[("a", b"1\n")]).await;
    setup.relay.start(&setup.spec("echo 2 > a; exit 7", "")).await;
    let (state, error, _) = setup.relay.until_finished("demo#1").await.outcome().unwrap();
    assert_eq!((state, error.unwrap().kind), (FinalState::Failed, FailureKind::Exited));
    assert_eq!(setup.git(&["show", "result:a"]), "2");

    let mut spec = setup.spec("echo 3 > a; touch .git/index.lock; echo ready; sleep 600", "");
    spec.job = "demo#2".parse().unwrap();
    setup.relay.start(&spec).await;
    setup.relay.until_output("demo#2", "ready").await;
    setup.relay.cancel("demo#2", 1000).await;
    let run = setup.relay.until_finished("demo#2").await;
    assert_eq!(run.outcome().unwrap().0, FinalState::Cancelled);
    assert_eq!(
        warnings(run),
        ["the history of relay/demo-1 was rewritten: its earlier commits were replaced"]
    );
    assert_eq!(setup.git(&["show", "result:a"]), "3");
}

#[tokio::test]
async fn a_stopped_agent_pushes_the_changes_or_warns_that_it_could_not() {
    let mut setup = setup(&[("a", b"1\n")]).await;
    setup.relay.start(&setup.spec("echo 2 > a; echo ready; sleep 600", "")).await;
    setup.relay.until_output("demo#1", "ready").await;
    setup.agent.signal(rustix::process::Signal::TERM);
    setup.relay.until_finished("demo#1").await;
    assert_eq!(setup.relay.demo_error().kind, FailureKind::AgentLost);
    let warnings = warnings(setup.relay.demo()).join("\n");
    // On a busy machine the push may take longer than a stopped agent waits.
    if warnings.is_empty() {
        assert_eq!(setup.git(&["show", "result:a"]), "2");
    } else {
        assert!(warnings.contains("the agent was stopped"), "{warnings}");
        assert!(setup.place().exists());
    }
}

#[tokio::test]
async fn a_job_that_changes_nothing_pushes_nothing() {
    let mut setup = setup(&[("a", b"1\n")]).await;
    setup.relay.start(&setup.spec("cat a", "")).await;
    setup.relay.until_completed("demo#1").await;
    assert_eq!(setup.relay.streams.opened_services, [StreamService::FetchPlace]);
}

#[tokio::test]
async fn commits_are_pushed_while_the_job_runs() {
    let mut setup = setup(&[("a", b"1\n")]).await;
    let go = setup.agent.dir.path().join("go");
    let line = format!(
        "git commit -qm one --allow-empty; echo ready; until test -e {}; do sleep 0.02; done; echo x > b",
        go.display()
    );
    setup.relay.start(&setup.spec(&line, "")).await;
    setup.relay.until_output("demo#1", "ready").await;
    let result = setup.bare.join("refs/heads/result");
    setup.relay.until("the checkpoint", |_| result.exists()).await;
    assert_eq!(setup.result_subjects(), "one");
    std::fs::write(go, "").unwrap();
    setup.relay.until_completed("demo#1").await;
    assert_eq!(setup.result_subjects(), "relay: uncommitted changes\none");
}

#[tokio::test]
async fn uncommitted_changes_of_a_running_worker_can_be_seen() {
    let mut setup = setup(&[("a", b"1\n")]).await;
    let go = setup.agent.dir.path().join("go");
    let line = format!(
        "echo 2 >> a; echo 3 > b; echo ready; until test -e {}; do sleep 0.02; done; git diff --name-only; \
         git status --short",
        go.display()
    );
    setup.relay.start(&setup.spec(&line, "")).await;
    let snapshot = setup.bare.join("refs/heads/live");
    setup.relay.until("the snapshot", |_| snapshot.exists()).await;
    assert_eq!(setup.git(&["diff", "--name-only", "base", "live"]), "a\nb");
    assert!(!setup.bare.join("refs/heads/result").exists() || setup.result_subjects().is_empty());
    std::fs::write(go, "").unwrap();
    setup.relay.until_completed("demo#1").await;
    // The snapshot has not changed the worker's own index.
    setup.relay.until_output("demo#1", "a\n M a\n?? b\n").await;
    assert_eq!(setup.result_subjects(), "relay: uncommitted changes");
}

#[tokio::test]
async fn without_a_repository_or_without_git_a_job_fails_with_the_reason() {
    let mut setup = setup(&[]).await;
    setup.relay.streams.repository = None;
    setup.relay.start(&setup.spec("echo never", "")).await;
    setup.relay.until_finished("demo#1").await;
    let error = setup.relay.demo_error();
    assert_eq!(error.kind, FailureKind::SetupFailed);
    assert_eq!(error.message, "the job's place could not be made: no repository");
    let place = setup.place();
    eventually("the place is removed", || !place.exists()).await;

    // A PATH with a shell, but without git.
    let bin = setup.agent.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink("/bin/sh", bin.join("sh")).unwrap();
    let mut spec = setup.spec("echo never", "");
    spec.job = "demo#2".parse().unwrap();
    spec.env.insert("PATH".to_owned(), bin.display().to_string());
    setup.relay.streams.repository = Some(setup.bare.clone());
    setup.relay.start(&spec).await;
    let (_, error, _) = setup.relay.until_finished("demo#2").await.outcome().unwrap();
    let message = error.unwrap().message;
    assert!(message.contains("git is not installed on the platform"), "{message}");
}

#[tokio::test]
async fn a_connection_lost_during_fetch_and_push_only_delays_them() {
    let big = noise(24 << 20);
    let mut setup = setup(&[("big", &big)]).await;
    setup.relay.start(&setup.spec("head -c 20000000 /dev/urandom > more; echo 1 > a", "")).await;
    setup.relay.until("a part of the base", |relay| relay.streams.sent_bytes > 1 << 20).await;
    assert!(setup.relay.streams.sent_bytes < 16 << 20, "the fetch is under way");
    setup.relay.drop_connection();
    setup.relay.accept().await;
    setup.relay.until("a part of the result", |relay| relay.streams.received_bytes > 2 << 20).await;
    assert!(setup.relay.streams.received_bytes < 16 << 20, "the push is under way");
    setup.relay.drop_connection();
    setup.relay.accept().await;
    let run = setup.relay.until_completed("demo#1").await;
    assert_eq!(warnings(run), [] as [&str; 0]);
    assert_eq!(setup.git(&["cat-file", "-s", "result:more"]), "20000000");
    assert_eq!(setup.git(&["cat-file", "-s", "result:big"]), big.len().to_string());
}

#[tokio::test]
async fn a_large_repository_on_a_stream_delays_no_event() {
    let big = noise(64 << 20);
    let mut setup = setup(&[("big", &big)]).await;
    let ticks = "i=0; while [ $i -lt 200 ]; do echo tick; i=$((i + 1)); sleep 0.01; done";
    let mut other = setup.agent.shell_spec("other#1", ticks);
    other.setup = vec!["true".into(); 20];
    setup.relay.start(&setup.spec("ls", "")).await;
    setup.relay.until("the fetch is under way", |relay| relay.streams.sent_bytes > 1 << 20).await;
    setup.relay.start(&other).await;
    let mut longest_delay = Duration::ZERO;
    let mut event_count = 0;
    // The agent sets the time of each event, and the test looks for new events after every frame.
    setup
        .relay
        .until("both jobs end", |relay| {
            if let Some(run) = relay.runs.get(&"other#1".parse().unwrap()) {
                for event in &run.events[event_count..] {
                    let delay = jiff::Timestamp::now().duration_since(event.at);
                    longest_delay = longest_delay.max(Duration::try_from(delay).unwrap_or_default());
                }
                event_count = run.events.len();
            }
            relay.runs.values().filter(|run| run.outcome().is_some()).count() == 2
        })
        .await;
    figure(&format!("an event beside 64 MB on a stream was at most {} ms late", longest_delay.as_millis()));
    assert!(event_count > 40, "{event_count}");
    // A silent connection is closed after 14 s. A quiet machine needs less than 100 ms.
    assert!(longest_delay < Duration::from_secs(12), "{longest_delay:?}");
}

#[tokio::test]
async fn a_result_that_the_relay_refuses_is_a_warning_and_stays_in_the_place() {
    let mut setup = setup(&[("a", b"1\n")]).await;
    setup.git(&["config", "receive.maxInputSize", "50000"]);
    setup.relay.start(&setup.spec("head -c 200000 /dev/urandom > big", "")).await;
    let run = setup.relay.until_completed("demo#1").await;
    let warning_text = warnings(run).join("\n");
    let expected = "the result could not be handed over: it is larger than the relay accepts; it is in ";
    assert!(warning_text.starts_with(expected), "{warning_text}");
    assert_eq!(git(&setup.place(), &["log", "--format=%s", "-1"]), "relay: uncommitted changes");
}

#[tokio::test]
async fn a_file_that_git_can_not_add_is_a_warning_and_the_others_are_pushed() {
    let mut setup = setup(&[("a", b"1\n")]).await;
    setup.relay.start(&setup.spec("git init -q nested; touch nested/x; echo 2 > a", "")).await;
    let run = setup.relay.until_completed("demo#1").await;
    let warning_text = warnings(run).join("\n");
    assert!(
        warning_text.starts_with("uncommitted changes could not be committed: error: 'nested/'"),
        "{warning_text}"
    );
    assert_eq!(setup.git(&["show", "result:a"]), "2");
    assert!(setup.place().exists(), "the place with the other file is kept");
}

#[tokio::test]
async fn no_program_that_a_worker_names_in_git_s_settings_runs_at_the_push() {
    let mut setup =
        setup(&[("a", b"1\n"), (".gitattributes", b"* filter=evil diff=evil merge=evil\n")]).await;
    let mark = setup.agent.dir.path().join("mark");
    let evil = setup.agent.dir.path().join("evil");
    std::fs::write(&evil, format!("#!/bin/sh\necho \"$0 $*\" >> {}\ncat\n", mark.display())).unwrap();
    std::fs::set_permissions(&evil, std::fs::Permissions::from_mode(0o755)).unwrap();
    let evil = evil.display();
    let line = format!(
        "for key in filter.evil.clean filter.evil.smudge filter.evil.process core.fsmonitor core.sshCommand diff.external \
         diff.evil.textconv diff.evil.command merge.evil.driver gpg.program core.pager core.editor credential.helper \
         core.alternateRefsCommand; do git config $key {evil}; done; git config commit.gpgSign true; \
         git config filter.evil.required true; mkdir -p .git/hooks; \
         for hook in pre-commit commit-msg post-commit pre-push reference-transaction post-index-change; do \
         cp {evil} .git/hooks/$hook; done; git config core.hooksPath .git/hooks; \
         git config url.ext::{evil}.insteadOf fd:; git config core.worktree /; printf '[include]\\n\\tpath = more\\n' \
         >> .git/config; printf '[core]\\n\\tattributesFile = /etc/passwd\\n' > .git/more; rm -f {mark}; echo 2 > a",
        mark = mark.display()
    );
    setup.relay.start(&setup.spec(&line, "")).await;
    let run = setup.relay.until_completed("demo#1").await;
    let warning_text = warnings(run).join("\n");
    assert!(!mark.exists(), "{} ran: {warning_text}", std::fs::read_to_string(&mark).unwrap_or_default());
    assert_eq!(warning_text, "");
    assert_eq!(setup.git(&["show", "result:a"]), "2");
}

#[tokio::test]
async fn a_job_whose_repository_is_gone_or_a_link_completes_with_a_warning() {
    let mut setup = setup(&[("a", b"1\n")]).await;
    let outside = setup.agent.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    git(&outside, &["init", "-q"]);
    git(&outside, &["commit", "-q", "--allow-empty", "-m", "theirs"]);
    let before = tree(&outside.join(".git"));
    let lines =
        ["rm -rf .git".to_owned(), format!("mv .git old; ln -s {} .git", outside.join("nothing").display())];
    for (n, line) in (1..).zip(&lines) {
        let job = format!("demo#{n}");
        let mut spec = setup.spec(line, "");
        spec.job = job.parse().unwrap();
        setup.relay.start(&spec).await;
        let run = setup.relay.until_completed(&job).await;
        let warning_text = warnings(run).join("\n");
        assert!(warning_text.contains("could not be"), "{warning_text}");
    }
    assert_eq!(tree(&outside.join(".git")), before);
}

#[tokio::test]
async fn a_place_belongs_to_the_worker_s_user_and_is_closed_to_other_users() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let user = serde_json::json!({"user": "nobody"});
    let (mut relay, agent) = relay_and_agent_with(&user, &StartOptions::default()).await;
    std::fs::set_permissions(agent.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (bare, commit) = job_repository(agent.dir.path(), &[("a", b"1\n")]);
    relay.streams.repository = Some(bare.clone());
    let mut setup = Setup { relay, agent, _folder: None, bare, base: commit };
    let place = setup.place();
    let line =
        "id -un; stat -c '%U %a' .; git commit -qm one --allow-empty; echo 2 > a; ls .. || echo no list";
    setup.relay.start(&setup.spec(line, "")).await;
    let run = setup.relay.until_completed("demo#1").await;
    assert!(
        run.log_text().contains("\nnobody\nnobody 700\n") && run.log_text().ends_with("no list\n"),
        "{}",
        run.log_text()
    );
    assert_eq!(warnings(run), [] as [&str; 0]);
    assert_eq!(setup.result_subjects(), "relay: uncommitted changes\none");
    eventually("the place is removed", || !place.exists()).await;
}

#[tokio::test]
#[ignore = "needs the real Codex"]
async fn in_codex_s_sandbox_a_worker_commits_in_its_clone_and_writes_nowhere_else() {
    let path = std::env::var_os("RELAY_TEST_CODEX").or_else(|| std::env::var_os("PATH")).unwrap();
    let codex = std::env::split_paths(&path)
        .map(|path| if path.is_file() { path } else { path.join("codex") })
        .find(|codex| codex.is_file())
        .expect("a codex on PATH, or RELAY_TEST_CODEX");
    // In the sandbox, jobs may write in the temporary folder, so home and state are in another folder.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = dir.path().canonicalize().unwrap();
    std::fs::write(home.join("victim"), "").unwrap();
    let config = serde_json::json!({
        "env": {"HOME": home}, "codex": codex, "sandbox": "workspace-write", "hidden": [home.join("platform")],
    });
    let state = home.join("state");
    let (mut relay, agent) =
        relay_and_agent_with(&config, &StartOptions { state: Some(&state), wrapper: &[] }).await;
    let (bare, commit) = job_repository(&home, &[("sub/a", b"1\n"), (".codex/config.toml", b"x = 1\n")]);
    relay.streams.repository = Some(bare.clone());
    let mut setup = Setup { relay, agent, _folder: None, bare, base: commit };
    let line = format!(
        "pwd; echo 2 > a; git commit -qam mine && echo committed; echo 3 > ../.codex/config.toml; \
         echo x > {home}/victim || echo kept; ls {home}/state || echo hidden",
        home = home.display()
    );
    let mut spec = setup.spec(&line, "sub");
    spec.codex.program = codex.display().to_string();
    spec.codex.sandbox = common::job::Sandbox::WorkspaceWrite;
    setup.relay.start(&spec).await;
    let run = setup.relay.until_completed("demo#1").await;
    let text = run.log_text();
    assert!(text.contains("/.local/share/relay/places/") && text.contains("/demo.1/sub\n"), "{text}");
    for word in ["committed", "kept", "hidden"] {
        assert!(text.contains(&format!("{word}\n")), "{word}: {text}");
    }
    assert_eq!(warnings(run), [] as [&str; 0]);
    assert_eq!(setup.result_subjects(), "relay: uncommitted changes\nmine");
    assert_eq!(setup.git(&["diff", "--name-only", "base", "result"]), ".codex/config.toml\nsub/a");
    assert_eq!(std::fs::read_to_string(home.join("victim")).unwrap(), "");
}

/// Returns the paths of all entries in a folder and its subfolders.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let nested: Vec<PathBuf> =
        found.iter().filter(|path| path.is_dir() && !path.is_symlink()).flat_map(|path| tree(path)).collect();
    found.extend(nested);
    found.sort();
    found
}

/// Returns pseudo-random bytes, which git can't compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
