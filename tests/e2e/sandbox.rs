//! `relay` inside of Codex's sandbox, without rules, approvals or a network.

use std::fmt::Write;
use std::process::{Output, Stdio};
use std::time::Duration;

use common::record::State;
use relay_tests::harness::figures::{figure, percentile, times};
use relay_tests::harness::model::Model;
use relay_tests::harness::sandbox::{self, WORKSPACE_WRITE};
use relay_tests::harness::{Engine, Site, processes, programs, until};

/// Settings of a sandbox in which the network is allowed.
const WITH_NETWORK: [&str; 4] =
    ["-c", WORKSPACE_WRITE[1], "-c", "sandbox_workspace_write.network_access=true"];

/// Shell forms in which a command, `CMD`, can be run.
const SHELL_FORMS: [&str; 12] = [
    "CMD",
    "CMD | cat",
    "cd sub && CMD",
    "cd sub; CMD; true",
    "CMD > out && cat out",
    "CMD 2>&1",
    "X=1 CMD",
    "bash -lc 'PATH=$OLD; CMD'",
    "timeout 20 CMD",
    "echo $(CMD)",
    "(CMD)",
    "CMD <<'EOF'\ntext\nEOF",
];

fn stderr_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

/// Creates a site with a folder `sub`, whose relay runs outside of the sandbox.
fn site() -> Site {
    let site = Site::new(Engine::Local);
    site.write("sub/file", "");
    site.relay(&["up"]);
    site
}

#[test]
#[ignore = "needs the real Codex"]
fn every_command_works_in_every_shell_form() {
    let site = site();
    let done = site.launch_shell("echo done", &["-n", "done"]);
    let runs = site.launch_shell("until test -e go; do sleep 0.05; done", &["-n", "runs"]);
    site.ended(&done);
    site.record_when(&runs, "runs", |record| record.state == State::Running);
    let commands = [
        ("relay status done", "completed"),
        ("relay status", "running"),
        ("relay logs done", "done"),
        ("relay events done", "finished"),
        ("relay wait done", "completed"),
        ("relay explain done", "completed"),
        ("relay extend runs 1m", "may now take"),
        ("relay cancel done", "already ended"),
        ("relay run --share -w \"$DEMO\" -n ran -- echo ran", "ran"),
        ("relay launch --share --runner shell -w \"$DEMO\" -n more true", "Worker more#"),
        ("relay retry done.1", "Worker done#"),
    ];
    let mut script = String::from("export OLD=$PATH\n");
    let mut expected = String::new();
    for (relay_command, word) in commands {
        for (n, form) in SHELL_FORMS.iter().enumerate() {
            let command = form.replace("CMD", relay_command);
            let line = format!("{relay_command} in form {n}").replace('"', "");
            writeln!(script, "cd \"$ROOT\"; said=$({command}\n)\ncode=$?").unwrap();
            writeln!(
                script,
                "case $said in *'{word}'*) echo '{line}: '$code;; *) echo '{line}: '$code \"$said\";; esac"
            )
            .unwrap();
            writeln!(expected, "{line}: 0").unwrap();
        }
    }
    let mut command = sandbox::command(&site, site.root(), &WORKSPACE_WRITE, &script);
    let output = command.env("ROOT", site.root()).env("DEMO", site.workspace()).output().unwrap();
    similar_asserts::assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{}",
        stderr_text(&output)
    );
    figure(&format!(
        "sandbox: {} commands in {} forms each worked in Codex's sandbox",
        commands.len(),
        SHELL_FORMS.len()
    ));
    site.relay(&["cancel", "--grace", "1s", &runs]);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_task_reaches_a_worker_from_a_heredoc_a_pipe_a_variable_and_a_file() {
    let site = site();
    let script = r#"set -e
        cd workspace-projects/demo
        L="relay launch --runner shell -n task"
        $L - <<'EOF' | cat
echo heredoc $((1+1))
EOF
        echo 'echo pipe' | $L -
        X='a  variable'; $L "echo '$X'"
        echo 'echo file' > ../task; $L -f ../task | head -n 1
        relay wait task.1 task.2 task.3 task.4 > /dev/null
        for n in 1 2 3 4; do relay logs task.$n; done"#;
    let stdout = sandbox::stdout(&site, script);
    for words in ["heredoc 2", "pipe", "a  variable", "file", "Worker task#4 launched"] {
        assert!(stdout.contains(words), "{words}: {stdout}");
    }
    for n in 1..=4 {
        assert_eq!(site.record(&format!("task#{n}")).state, State::Completed);
    }
}

#[test]
#[ignore = "needs the real Codex"]
fn relay_run_streams_the_output_and_returns_the_exit_code_of_its_command() {
    let site = site();
    site.write("workspace-projects/demo/package.json", r#"{"scripts": {"test": "echo tested; exit 3"}}"#);
    let script = r#"D=workspace-projects/demo
        relay run -w $D -- 'echo first; until test -e seen; do sleep 0.02; done; echo second' |
            while read -r line; do echo "saw $line"; touch $D/seen; done
        relay run -w $D -- npm test; echo "code $?""#;
    let stdout = sandbox::stdout(&site, script);
    assert!(stdout.contains("saw first\nsaw second\n"), "{stdout}");
    assert!(stdout.contains("\ntested\n") && stdout.ends_with("code 3\n"), "{stdout}");
}

#[test]
#[ignore = "needs the real Codex"]
fn wait_and_followers_end_soon_after_the_job() {
    let site = site();
    let workspace = site.workspace();
    let mut waited = Vec::new();
    for _ in 0..times(9, 100) {
        let _ = std::fs::remove_file(workspace.join("go"));
        let job = site.launch_shell("until test -e go; do sleep 0.01; done; echo gone", &["-n", "waited"]);
        let script = format!(
            "relay events -f '{job}' > events & relay logs -f '{job}' > log & relay wait '{job}' > /dev/null & \
             while ! grep -q started events; do sleep 0.01; done; touch workspace-projects/demo/go; \
             wait; date +%s.%N"
        );
        let stdout = sandbox::stdout(&site, &script);
        let finished = site.record(&job).finished_at.unwrap().as_duration();
        let returned = Duration::from_secs_f64(stdout.trim().parse().unwrap());
        waited.push(returned.saturating_sub(finished.unsigned_abs()));
        let log = std::fs::read_to_string(site.root().join("log")).unwrap();
        assert!(log.contains("gone"), "{log}");
    }
    let half = percentile(waited, 50);
    figure(&format!(
        "sandbox: from a job's end until wait, logs -f and events -f have ended: p50 {half:.1?}"
    ));
    // A follower that missed the last change would find it at its next full check, after 10 s.
    assert!(half < Duration::from_secs(5), "{half:?}");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_launch_returns_before_its_job_has_ended_and_without_a_relay() {
    let site = site();
    let launches = times(12, 200);
    let measure = |what: &str| {
        let script = format!(
            "for i in $(seq {launches}); do a=${{EPOCHREALTIME/./}}; \
             relay launch --share -n quick -w workspace-projects/demo --runner shell 'sleep 600' >/dev/null || exit 1; \
             echo $((${{EPOCHREALTIME/./}} - a)); done"
        );
        let stdout = sandbox::stdout(&site, &script);
        let all: Vec<Duration> =
            stdout.lines().map(|line| Duration::from_micros(line.parse().unwrap())).collect();
        assert_eq!(all.len(), launches);
        let (half, most) = (percentile(all.clone(), 50), percentile(all, 95));
        figure(&format!(
            "sandbox: from `relay launch` to the prompt back, {what}: p50 {half:.1?}, p95 {most:.1?} (target 300 ms)"
        ));
        assert!(half < Duration::from_secs(10), "{what}: {half:?}");
    };
    // Four jobs start. The others stay queued, which `launch` watches for its maximum time.
    measure("most of them queued");
    site.relay(&["down", "--force"]);
    measure("without a relay");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_launch_without_a_relay_is_queued_and_names_the_command_that_starts_one() {
    for (settings, why) in [
        (&WORKSPACE_WRITE[..], "which refuses sockets"),
        (&WITH_NETWORK[..], "which ends together with this command"),
    ] {
        let site = Site::new(Engine::Local);
        let output =
            sandbox::run(&site, settings, "relay launch --runner shell -w workspace-projects/demo true");
        let root = site.root().display();
        let start = format!("relay up --root {root}");
        assert_eq!(
            stderr_text(&output),
            format!(
                "relay: queued: no relay is running: none can be started inside of this sandbox, {why}: run `{start}` \
                 in a terminal outside of it"
            )
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "Worker demo#1 launched; ask for status anytime.\nqueued: no relay is running: `relay up` starts it\n"
        );
        assert_eq!(output.status.code(), Some(0));
        assert!(!site.registry().join("relay.log").exists(), "relay has tried to start a daemon");
        assert_eq!(processes::running(&format!("serve --root {root}")), []);
        let run = sandbox::run(&site, settings, "relay run -w workspace-projects/demo -- true");
        assert_eq!(run.status.code(), Some(5), "`relay run` does not wait for a relay");
        assert!(
            stderr_text(&run).contains(&start) && stderr_text(&run).lines().count() == 1,
            "{}",
            stderr_text(&run)
        );
        site.relay(&["up", "--root", &root.to_string()]);
        assert_eq!(site.ended("demo#1").state, State::Completed);
    }
}

#[test]
#[ignore = "needs the real Codex"]
fn up_and_down_are_refused_in_the_sandbox_with_the_command_to_run_outside() {
    let site = Site::new(Engine::Local);
    let refused = |settings: &[&str], command: &str| {
        let output = sandbox::run(&site, settings, &format!("relay {command}"));
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(5), &b""[..]), "{command}");
        let stderr = stderr_text(&output);
        let outside =
            format!("run `relay {command} --root {}` in a terminal outside of it", site.root().display());
        assert!(stderr.contains(&outside) && stderr.contains("rules that `relay init` writes"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    };
    for settings in [&WORKSPACE_WRITE[..], &WITH_NETWORK[..]] {
        refused(settings, "up");
        refused(settings, "down");
    }
    site.relay(&["up"]);
    // `relay up` succeeds if the relay is already up: it sees that in the registry.
    assert!(sandbox::stdout(&site, "relay up | cat").starts_with("relay is up: engine local"));
    refused(&WORKSPACE_WRITE, "down");
    let pid = site.daemon_pid();
    until("the relay goes on", || (site.daemon_pid() == pid).then_some(()));
}

#[test]
#[ignore = "needs the real Codex"]
fn an_unwritable_registry_is_named_with_the_flag_of_codex_that_allows_it() {
    let site = site();
    let job = site.launch_shell("sleep 1000", &["-n", "watched"]);
    let inner = site.workspace();
    let run_in_workspace =
        |settings: &[&str], script: &str| sandbox::command(&site, &inner, settings, script).output().unwrap();
    let registry = site.registry().display().to_string();
    for command in ["relay launch --runner shell true", "relay cancel watched", "relay extend watched 1m"] {
        let output = run_in_workspace(&WORKSPACE_WRITE, command);
        assert_eq!(output.status.code(), Some(5), "{command}");
        assert_eq!(
            stderr_text(&output),
            format!(
                "relay: the registry {registry} can't be written inside of this sandbox: start Codex in {}, or with \
                 `--sandbox workspace-write --add-dir {registry}`",
                site.root().display()
            )
        );
    }
    let output = run_in_workspace(&WORKSPACE_WRITE, "relay status watched && relay events watched | cat");
    assert!(output.status.success(), "{}", stderr_text(&output));
    let roots = format!("sandbox_workspace_write.writable_roots=[\"{registry}\"]");
    let output = run_in_workspace(
        &["-c", WORKSPACE_WRITE[1], "-c", &roots],
        "relay launch -q --share --runner shell true",
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "demo#1\n", "{}", stderr_text(&output));
    assert_eq!(site.ended("demo#1").state, State::Completed);
    site.relay(&["cancel", "--grace", "1s", &job]);
}

/// Commands that the model runs one after the other, each with a part of its output and its exit code.
const MODEL_COMMANDS: [(&str, &str, i64); 7] = [
    (
        "relay launch -n piped --runner shell -w workspace-projects/demo 'echo hi' | cat",
        "Worker piped#1 launched",
        0,
    ),
    ("cd sub && relay status", "piped#1", 0),
    (
        "relay launch -n heredoc --runner shell -w workspace-projects/demo - <<'EOF'\necho \"a task\"\nEOF",
        "Worker heredoc#1 launched",
        0,
    ),
    (
        "X=words; relay launch -n variable --runner shell -w workspace-projects/demo \"echo some $X\"",
        "Worker variable#1 launched",
        0,
    ),
    (
        "relay wait piped heredoc variable > waited; grep -c completed waited; relay logs variable",
        "some words",
        0,
    ),
    ("relay run -w workspace-projects/demo -- npm test", "tested", 3),
    // The command sleeps, because Codex reports no output of one that fails at once in a sandbox.
    ("relay up && relay down; code=$?; sleep 1; exit $code", "has to run outside of this sandbox", 5),
];

#[test]
#[ignore = "needs the real Codex"]
fn a_model_delegates_with_pipes_heredocs_and_variables_without_any_approval() {
    let site = site();
    let quoted = |command: &str| serde_json::Value::from(command).to_string();
    let turns: Vec<String> = MODEL_COMMANDS
        .iter()
        .map(|(command, ..)| {
            format!("{{\"commands\": [{{\"cmd\": {}, \"yield_time_ms\": 20000}}]}}", quoted(command))
        })
        .collect();
    let script =
        format!("{{\"name\": \"delegate\", \"turns\": [{}, {{\"message\": \"Done.\"}}]}}", turns.join(", "));
    site.write("scripts/delegate.json", &script);
    site.write("workspace-projects/demo/package.json", r#"{"scripts": {"test": "echo tested; exit 3"}}"#);
    // Codex runs commands in a login shell, which sets the PATH.
    site.write_home(".bash_profile", &format!("PATH={}:$PATH\n", programs::dir().display()));
    let model =
        Model::with_scripts(env!("CARGO_BIN_EXE_scripted-model"), "127.0.0.1", &site.root().join("scripts"));
    model.write_codex_home(site.codex_home());
    let mut codex = sandbox::with_environment_of(&site.command(&[]), &programs::codex().to_string_lossy());
    codex
        .args([
            "exec",
            "--json",
            "--skip-git-repo-check",
            "-s",
            "workspace-write",
            "[script:delegate] Delegate.",
        ])
        .current_dir(site.root())
        .stdin(Stdio::null());
    let output = codex.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", stderr_text(&output));
    let lines = stdout.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let commands: Vec<(String, i64)> = lines
        .filter(|line| line["type"] == "item.completed" && line["item"]["type"] == "command_execution")
        .map(|line| {
            let item = &line["item"];
            let text = item["aggregated_output"].as_str().unwrap_or_default();
            (text.to_owned(), item["exit_code"].as_i64().unwrap_or(-1))
        })
        .collect();
    assert_eq!(commands.len(), MODEL_COMMANDS.len(), "{stdout}");
    for ((text, code), (command, words, expected)) in commands.iter().zip(MODEL_COMMANDS) {
        assert!(text.contains(words) && *code == expected, "{command}: {code}: {text}");
    }
}
