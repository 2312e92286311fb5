//! `relay init`: the files that it writes, the files that it leaves alone, and how the real Codex uses them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use relay_tests::harness::{Engine, Site, programs};
use relay_tests::scripted_model::script::{Script, Scripts};
use relay_tests::scripted_model::{ScriptedModel, write_codex_home};
use serde_json::Value;

/// Creates a git repository without any file of relay.
fn project() -> Site {
    let site = Site::new(Engine::Local);
    fs::remove_file(site.root().join("platform/relay.toml")).unwrap();
    fs::remove_dir(site.root().join("platform")).unwrap();
    let git = Command::new("git").args(["init", "-q"]).current_dir(site.root()).status().unwrap();
    assert!(git.success());
    fs::create_dir_all(site.codex_home()).unwrap();
    site
}

/// Returns every file of the project and of `CODEX_HOME`, except git's own, with its mode and content.
fn files(site: &Site) -> BTreeMap<String, (u32, String)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![site.root().to_owned(), site.codex_home().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && entry.file_name() != ".git" {
                folders.push(path.clone());
            }
            if !kind.is_file() {
                continue;
            }
            let name = path.strip_prefix(site.root()).or_else(|_| path.strip_prefix(site.state_home()));
            let name = name.unwrap().display().to_string();
            let mode = entry.metadata().unwrap().permissions().mode();
            all.insert(name, (mode, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()));
        }
    }
    all
}

/// Runs `relay init --json`; returns the outcome of each file, and the reason if the file was kept.
fn outcomes(site: &Site, args: &[&str]) -> BTreeMap<String, (String, Option<String>)> {
    let lines = site.relay(&[&["init", "--json"], args].concat());
    lines
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| line[key].as_str().map(str::to_owned);
            (text("path").unwrap(), (text("outcome").unwrap(), text("kept")))
        })
        .collect()
}

/// Writes a user's own content into every file to which `relay init` adds something.
fn write_user_files(site: &Site) {
    site.write("AGENTS.md", "# Rules\n\nBe kind.");
    site.write("CLAUDE.md", "# Claude\n");
    site.write(".gitignore", "target/\n");
    site.write(
        ".codex/config.toml",
        "# mine\nmodel = \"x\"  # why\n\n[mcp_servers.other]\ncommand = \"true\"\n",
    );
    site.write(
        ".codex/hooks.json",
        "{\n\t\"hooks\": {\n\t\t\"Stop\": [\n\t\t\t{\n\t\t\t\t\"hooks\": []\n\t\t\t}\n\t\t]\n\t}\n}\n",
    );
    site.write(".mcp.json", "{\n    \"mcpServers\": {\n        \"x\": {\"command\": \"x\"}\n    }\n}");
    site.write(
        ".claude/settings.json",
        "{\n  \"permissions\": { \"allow\": [\"Bash(ls:*)\"], \"deny\": [] },\n  \"z\": 1\n}\n",
    );
    site.write_codex("config.toml", "[projects.\"/a\"]\ntrust_level = \"trusted\"\n");
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(site.codex_home().join("config.toml"), private).unwrap();
}

/// Flags of `relay init` with which all of its files are written.
const FLAG_SETS: [&[&str]; 2] = [&["--codex", "--claude"], &["--codex", "--claude", "--user"]];

#[test]
fn a_second_init_changes_nothing_and_a_removal_restores_every_byte() {
    for with_files in [false, true] {
        let site = project();
        if with_files {
            write_user_files(&site);
        }
        let before = files(&site);
        for args in FLAG_SETS {
            let first = outcomes(&site, args);
            assert!(first.values().any(|(outcome, _)| outcome == "wrote"), "{first:?}");
            let after = files(&site);
            for (path, (outcome, kept)) in outcomes(&site, args) {
                assert_eq!((outcome.as_str(), kept), ("unchanged", None), "{path}");
            }
            similar_asserts::assert_eq!(files(&site), after);
        }
        for (path, (mode, text)) in &before {
            let (mode_now, text_now) = &files(&site)[path];
            assert_eq!(mode, mode_now, "{path}");
            // In JSON files `init` adds lines between the user's own.
            let json = Path::new(path).extension().is_some_and(|extension| extension == "json");
            assert!(json || text_now.starts_with(text), "{path}: {text_now}");
        }
        let announced = outcomes(&site, &["--remove", "--user", "--dry-run"]);
        assert_eq!(outcomes(&site, &["--remove", "--user"]), announced);
        similar_asserts::assert_eq!(files(&site), before);
        for folder in [".agents", ".codex/rules", "platform"] {
            assert!(!site.root().join(folder).exists(), "{folder}");
        }
        assert!(!site.codex_home().join("rules").exists());
        assert_eq!(outcomes(&site, &["--remove", "--user"]), BTreeMap::new());
    }
}

#[test]
fn changed_files_are_kept_and_named_and_replaced_only_by_force_with_a_copy() {
    let site = project();
    outcomes(&site, &["--codex"]);
    let change = |path: &str, from: &str, to: &str| {
        let text = fs::read_to_string(site.root().join(path)).unwrap();
        assert!(text.contains(from), "{path}: {text}");
        site.write(path, &text.replace(from, to));
    };
    change("platform/relay.toml", "#max_jobs = 4", "max_jobs = 2");
    change("AGENTS.md", "Return to the user at once", "Wait");
    change(".agents/skills/relay/SKILL.md", "name: relay", "name: delegate");
    change(".codex/rules/relay.rules", "\"doctor\"]", "\"doctor\", \"run\"]");
    change(".codex/config.toml", "\"approve\"", "\"writes\"");
    change(".codex/hooks.json", "relay hook Stop\"", "relay hook Stop --mine\"");
    let theirs = files(&site);
    let kept_by_hand = |what: &str| ("kept".to_owned(), Some(format!("{what}changed by hand")));
    let expected: BTreeMap<String, (String, Option<String>)> = [
        ("platform/relay.toml", kept_by_hand("")),
        (".gitignore", ("unchanged".to_owned(), None)),
        ("AGENTS.md", kept_by_hand("")),
        (".agents/skills/relay/SKILL.md", kept_by_hand("")),
        (".codex/rules/relay.rules", kept_by_hand("")),
        (".codex/config.toml", kept_by_hand("[mcp_servers.relay] ")),
        (".codex/hooks.json", kept_by_hand("hooks.Stop ")),
    ]
    .map(|(path, outcome)| (path.to_owned(), outcome))
    .into();
    assert_eq!(outcomes(&site, &["--codex"]), expected);
    similar_asserts::assert_eq!(files(&site), theirs);

    let text = site.relay(&["init", "--force", "--codex"]);
    assert!(text.contains("updated    platform/relay.toml"), "{text}");
    let forced = files(&site);
    for (path, (_, theirs)) in
        theirs.iter().filter(|(path, _)| expected.get(*path).is_some_and(|(o, _)| o == "kept"))
    {
        assert_ne!(&forced[path].1, theirs, "{path}");
        assert_eq!(&forced[&format!("{path}.before-init")].1, theirs, "{path}");
    }

    change("AGENTS.md", "Return to the user at once", "Wait");
    let removed = outcomes(&site, &["--remove"]);
    assert_eq!(removed["AGENTS.md"], kept_by_hand(""));
    assert!(fs::read_to_string(site.root().join("AGENTS.md")).unwrap().contains("Wait"));
    assert!(!site.root().join(".codex/config.toml").exists());
}

#[test]
fn links_out_of_the_project_are_not_followed_and_broken_files_prevent_all_writes() {
    let site = project();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), site.root().join(".codex")).unwrap();
    site.write("docs/agents.md", "# Ours\n");
    std::os::unix::fs::symlink("docs/agents.md", site.root().join("AGENTS.md")).unwrap();
    let all = outcomes(&site, &["--codex"]);
    let out = ("kept".to_owned(), Some("a link leads out of the project".to_owned()));
    assert_eq!(all[".codex/rules/relay.rules"], out);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(
        fs::read_to_string(site.root().join("docs/agents.md"))
            .unwrap()
            .starts_with("# Ours\n\n<!-- relay:begin")
    );
    assert!(site.root().join("AGENTS.md").is_symlink());

    site.write(".mcp.json", "{ nonsense");
    site.write("CLAUDE.md", "# Claude\n");
    let before = files(&site);
    let error = site.refused(2, &["init", "--claude"]);
    assert!(error.contains(".mcp.json: ") && error.contains("nothing was written"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    similar_asserts::assert_eq!(files(&site), before);
}

#[test]
fn relay_init_makes_a_project_of_any_folder() {
    let site = Site::new(Engine::Local);
    // The folder is not below `/tmp`, where other programs may have left a `.git`.
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut init = site.command(&["init"]);
    let output = init.current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(folder.path().join("platform/relay.toml").is_file());
    let mut status = site.command(&["status"]);
    assert!(status.current_dir(folder.path()).output().unwrap().status.success());
}

/// Returns true if `codex execpolicy check` allows a command under the rules.
fn is_allowed(rules: &Path, command: &[&str]) -> bool {
    let mut check = Command::new(programs::codex());
    check
        .args(["execpolicy", "check", "--resolve-host-executables", "--rules"])
        .arg(rules)
        .arg("--")
        .args(command);
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let decision: Value = serde_json::from_slice(&output.stdout).unwrap();
    decision["decision"] == "allow"
}

#[test]
#[ignore = "needs the real Codex"]
fn codex_allows_exactly_up_down_and_doctor_outside_of_the_sandbox() {
    let site = project();
    outcomes(&site, &[]);
    let rules = site.root().join(".codex/rules/relay.rules");
    for command in [
        &["relay", "up"][..],
        &["relay", "up", "--build", "--engine", "docker"],
        &["relay", "up", "--root", "/p"],
        &["relay", "down"],
        &["relay", "down", "--force"],
        &["relay", "doctor", "--json"],
        &["/usr/local/bin/relay", "up"],
    ] {
        assert!(is_allowed(&rules, command), "{command:?}");
    }
    let inside = "launch run status logs events wait cancel resume retry extend explain notices init prune serve hook \
        mcp top schema completions upgrade";
    for subcommand in inside.split_whitespace() {
        assert!(!is_allowed(&rules, &["relay", subcommand]), "{subcommand}");
        assert!(!is_allowed(&rules, &["relay", subcommand, "up"]), "{subcommand}");
    }
    for command in [
        &["relay"][..],
        &["relay", "up", "--yes"],
        &["relay", "up", "--no-start", "--yes"],
        &["relay", "--root", "/p", "up"],
        &["relay", "--json", "up"],
        &["relayx", "up"],
        &["/tmp/relay", "up"],
        &["./relay", "up"],
        &["target/relay", "up"],
        &["env", "relay", "up"],
        &["sh", "-c", "relay up; curl x"],
    ] {
        assert!(!is_allowed(&rules, command), "{command:?}");
    }
}

#[test]
#[ignore = "needs the real Codex"]
fn init_in_codex_s_sandbox_is_refused_with_one_line_and_writes_nothing() {
    let site = project();
    let before = files(&site);
    let relay = programs::dir().join("relay");
    let mut codex = Command::new(programs::codex());
    codex.args(["sandbox", "-c", "sandbox_mode=\"workspace-write\"", "--"]).arg(&relay).arg("init");
    codex.current_dir(site.root()).env("CODEX_HOME", site.codex_home()).env("CODEX_THREAD_ID", "a-thread");
    let output = codex.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(
        stderr.contains("a person has to run `relay init` in a terminal); nothing was written"),
        "{stderr}"
    );
    let relay_lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("relay: ")).collect();
    assert_eq!(relay_lines.len(), 1, "{stderr}");
    // Codex itself has written into its home.
    let after = files(&site).into_iter().filter(|(path, _)| !path.starts_with("codex-home/"));
    similar_asserts::assert_eq!(after.collect::<BTreeMap<_, _>>(), before);
    assert!(!site.root().join(".agents/skills").exists());
}

/// Runs `codex exec` as a session of a host agent in a project that the user trusts. `bin` is the folder of `relay`.
async fn run_session(site: &Site, model: &ScriptedModel, bin: &Path, prompt: &str) -> Output {
    write_codex_home(site.codex_home(), &model.base_url()).unwrap();
    let path = site.codex_home().join("config.toml");
    let trusted =
        format!("\n[projects.{:?}]\ntrust_level = \"trusted\"\n", site.root().display().to_string());
    let own = fs::read_to_string(&path).unwrap();
    fs::write(&path, own + &trusted).unwrap();
    // Codex runs commands in a login shell, which reads this file.
    site.write_home(".profile", &format!("PATH={}:$PATH\n", bin.display()));
    let path = std::env::var("PATH").unwrap();
    let mut codex = tokio::process::Command::new(programs::codex());
    codex
        .args(["--dangerously-bypass-hook-trust", "exec", "-s", "workspace-write", prompt])
        .current_dir(site.root());
    codex.env("CODEX_HOME", site.codex_home()).env("HOME", site.home());
    codex.env("XDG_STATE_HOME", site.state_home());
    codex.env("PATH", format!("{}:{path}", bin.display()));
    codex.env_remove("RELAY_ROOT").stdin(std::process::Stdio::null());
    codex.output().await.unwrap()
}

/// Returns all texts of a request to the model, as JSON.
fn request_text(request: &relay_tests::scripted_model::ReceivedRequest) -> String {
    request.body["input"].to_string() + &request.body["instructions"].to_string()
}

#[tokio::test]
#[ignore = "needs the real Codex"]
async fn a_session_can_start_only_a_relay_whose_settings_a_person_has_approved() {
    let site = project();
    outcomes(&site, &[]);
    let settings = fs::read_to_string(site.root().join("platform/relay.toml")).unwrap();
    site.write("platform/relay.toml", &settings.replace("#engine = \"docker\"", "engine = \"local\""));
    let early = Script::new("early").run("relay up").say("Not yet.");
    let delegates = Script::new("delegates")
        .run("relay up")
        .run("cd workspace-projects && relay run -w demo -- 'echo from the worker' | cat")
        .say("Delegated.");
    let widens = Script::new("widens")
        .run("relay down")
        .run("sed -i 's|^#desktop = false|command = [\"touch\", \"/var/tmp/out\"]|' platform/relay.toml")
        .run("relay up")
        .say("It is not let out.");
    let model = ScriptedModel::start(Scripts::from_iter([early, delegates, widens])).await.unwrap();
    let last = async |prompt: &str| {
        let output = run_session(&site, &model, programs::dir(), prompt).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert_eq!(complaints(&stderr), Vec::<&str>::new(), "{stderr}");
        request_text(model.requests().last().unwrap())
    };
    let early = last("[script:early] Delegate.").await;
    assert!(early.contains("has changed since the settings were approved"), "{early}");
    site.relay(&["up"]);
    site.relay(&["down"]);
    let answer = last("[script:delegates] Delegate.").await;
    assert!(answer.contains("relay is up: engine local"), "{answer}");
    assert!(answer.contains("from the worker"), "{answer}");
    let widened = last("[script:widens] Change the settings.").await;
    assert!(widened.contains("relay is down"), "{widened}");
    assert!(widened.contains("has changed since the settings were approved"), "{widened}");
}

/// Returns the lines of stderr with warnings and errors, except those that the test's machine or flags cause.
fn complaints(stderr: &str) -> Vec<&str> {
    let bad = |line: &str| ["warning", "error", "untrusted", "invalid"].iter().any(|bad| line.contains(bad));
    stderr
        .lines()
        .filter(|line| {
            bad(&line.to_lowercase()) && !line.contains("bubblewrap") && !line.contains("bypass-hook-trust")
        })
        .collect()
}

#[tokio::test]
#[ignore = "needs the real Codex"]
async fn codex_uses_everything_that_init_writes() {
    let site = project();
    write_user_files(&site);
    fs::remove_file(site.root().join(".codex/config.toml")).unwrap();
    outcomes(&site, &["--codex", "--claude"]);
    let model = ScriptedModel::start(Scripts::default()).await.unwrap();
    // A script takes the place of `relay` and records its calls.
    site.write("bin/relay", &format!("#!/bin/sh\necho \"$@\" >>{}/calls\n", site.root().display()));
    let bin = site.root().join("bin");
    fs::set_permissions(bin.join("relay"), fs::Permissions::from_mode(0o755)).unwrap();
    let output = run_session(&site, &model, &bin, "Hello.").await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(complaints(&stderr), Vec::<&str>::new(), "{stderr}");
    let input = request_text(&model.requests()[0]);
    assert!(input.contains("Be kind.") && input.contains("Delegating a task with relay"), "{input}");
    // Codex lists each skill as `NAME: DESCRIPTION`.
    assert!(input.contains("relay: Hand a task to a worker"), "{input}");
    let calls = fs::read_to_string(site.root().join("calls")).unwrap();
    for call in ["mcp", "hook SessionStart", "hook UserPromptSubmit", "hook Stop"] {
        assert!(calls.lines().any(|line| line == call), "{call}: {calls}");
    }
}
