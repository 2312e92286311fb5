//! `relay init`: the files that it writes, the files that it leaves alone, and how the real Codex uses them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use relay_tests::harness::{Engine, Site, programs};
use relay_tests::scripted_model::script::{Script, Scripts};
use relay_tests::scripted_model::{ScriptedModel, codex_home};
use serde_json::Value;

/// Creates a project without any files of relay.
fn project() -> Site {
    let site = Site::new(Engine::Local);
    fs::remove_file(site.root().join("platform/relay.toml")).unwrap();
    fs::remove_dir(site.root().join("platform")).unwrap();
    let git = Command::new("git").args(["init", "-q"]).current_dir(site.root()).status().unwrap();
    assert!(git.success());
    fs::create_dir_all(site.codex_home()).unwrap();
    site
}

/// Every file of the project and of `CODEX_HOME`, except git's own, with its mode and bytes.
fn tree(site: &Site) -> BTreeMap<String, (u32, String)> {
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

/// Outcome of each file, as the JSON form reports it.
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

/// Writes content of a person into every file that init adds to.
fn of_a_person(site: &Site) {
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

const EVERYTHING: [&[&str]; 2] = [&["--codex", "--claude"], &["--codex", "--claude", "--user"]];

#[test]
fn a_second_init_changes_nothing_and_a_removal_leaves_every_byte_as_it_was() {
    for with_files in [false, true] {
        let site = project();
        if with_files {
            of_a_person(&site);
        }
        let before = tree(&site);
        for args in EVERYTHING {
            let first = outcomes(&site, args);
            assert!(first.values().any(|(outcome, _)| outcome == "wrote"), "{first:?}");
            let after = tree(&site);
            for (path, (outcome, kept)) in outcomes(&site, args) {
                assert_eq!((outcome.as_str(), kept), ("unchanged", None), "{path}");
            }
            similar_asserts::assert_eq!(tree(&site), after);
        }
        for (path, (mode, text)) in &before {
            let (mode_now, text_now) = &tree(&site)[path];
            assert_eq!(mode, mode_now, "{path}");
            // JSON may get more lines, which the removal takes out again.
            let json = Path::new(path).extension().is_some_and(|extension| extension == "json");
            assert!(json || text_now.starts_with(text), "{path}: {text_now}");
        }
        let would = outcomes(&site, &["--remove", "--user", "--dry-run"]);
        assert_eq!(outcomes(&site, &["--remove", "--user"]), would);
        similar_asserts::assert_eq!(tree(&site), before);
        for folder in [".agents", ".codex/rules", "platform"] {
            assert!(!site.root().join(folder).exists(), "{folder}");
        }
        assert!(!site.codex_home().join("rules").exists());
        assert_eq!(outcomes(&site, &["--remove", "--user"]), BTreeMap::new());
    }
}

#[test]
fn what_a_person_changed_is_kept_and_named_and_forced_only_with_a_copy() {
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
    let theirs = tree(&site);
    let by_hand = |what: &str| ("kept".to_owned(), Some(format!("{what}changed by hand")));
    let expected: BTreeMap<String, (String, Option<String>)> = [
        ("platform/relay.toml", by_hand("")),
        (".gitignore", ("unchanged".to_owned(), None)),
        ("AGENTS.md", by_hand("")),
        (".agents/skills/relay/SKILL.md", by_hand("")),
        (".codex/rules/relay.rules", by_hand("")),
        (".codex/config.toml", by_hand("[mcp_servers.relay] ")),
        (".codex/hooks.json", by_hand("hooks.Stop ")),
    ]
    .map(|(path, outcome)| (path.to_owned(), outcome))
    .into();
    assert_eq!(outcomes(&site, &["--codex"]), expected);
    similar_asserts::assert_eq!(tree(&site), theirs);

    let text = site.relay(&["init", "--force", "--codex"]);
    assert!(text.contains("updated    platform/relay.toml"), "{text}");
    let forced = tree(&site);
    for (path, (_, theirs)) in
        theirs.iter().filter(|(path, _)| expected.get(*path).is_some_and(|(o, _)| o == "kept"))
    {
        assert_ne!(&forced[path].1, theirs, "{path}");
        assert_eq!(&forced[&format!("{path}.before-init")].1, theirs, "{path}");
    }

    change("AGENTS.md", "Return to the user at once", "Wait");
    let removed = outcomes(&site, &["--remove"]);
    assert_eq!(removed["AGENTS.md"], by_hand(""));
    assert!(fs::read_to_string(site.root().join("AGENTS.md")).unwrap().contains("Wait"));
    assert!(!site.root().join(".codex/config.toml").exists());
}

#[test]
fn links_are_not_followed_out_of_the_project_and_broken_files_stop_everything() {
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
    let before = tree(&site);
    let error = site.refused(2, &["init", "--claude"]);
    assert!(error.contains(".mcp.json: ") && error.contains("nothing was written"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    similar_asserts::assert_eq!(tree(&site), before);
}

#[test]
fn a_folder_that_is_no_project_becomes_one() {
    let site = Site::new(Engine::Local);
    // Not below the temporary folder, where other programs leave a .git at times.
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut init = site.command(&["init"]);
    let output = init.current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(folder.path().join("platform/relay.toml").is_file());
    let mut status = site.command(&["status"]);
    assert!(status.current_dir(folder.path()).output().unwrap().status.success());
}

/// Codex's own decision about command lines under the rules, as `execpolicy check` reports it.
fn allowed(rules: &Path, command: &[&str]) -> bool {
    let mut check = Command::new(programs::codex());
    check
        .args(["execpolicy", "check", "--resolve-host-executables", "--rules"])
        .arg(rules)
        .arg("--")
        .args(command);
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let judged: Value = serde_json::from_slice(&output.stdout).unwrap();
    judged["decision"] == "allow"
}

#[test]
#[ignore = "needs the real Codex"]
fn codex_lets_out_exactly_the_commands_that_need_it() {
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
        assert!(allowed(&rules, command), "{command:?}");
    }
    let inside = "launch run status logs events wait cancel resume retry extend explain notices init prune serve hook \
        mcp top schema completions upgrade";
    for verb in inside.split_whitespace() {
        assert!(!allowed(&rules, &["relay", verb]), "{verb}");
        assert!(!allowed(&rules, &["relay", verb, "up"]), "{verb}");
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
        assert!(!allowed(&rules, command), "{command:?}");
    }
}

#[test]
#[ignore = "needs the real Codex"]
fn inside_of_codex_s_sandbox_init_says_so_in_one_line_and_writes_nothing() {
    let site = project();
    let before = tree(&site);
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
    let own: Vec<&str> = stderr.lines().filter(|line| line.starts_with("relay: ")).collect();
    assert_eq!(own.len(), 1, "{stderr}");
    // Codex has written into its own home meanwhile.
    let after = tree(&site).into_iter().filter(|(path, _)| !path.starts_with("codex-home/"));
    similar_asserts::assert_eq!(after.collect::<BTreeMap<_, _>>(), before);
    assert!(!site.root().join(".agents/skills").exists());
}

/// Runs `codex exec` as a session of a host agent in a project that the user trusts, with the `relay` of a folder.
async fn session(site: &Site, model: &ScriptedModel, bin: &Path, prompt: &str) -> Output {
    codex_home(site.codex_home(), &model.base_url()).unwrap();
    let path = site.codex_home().join("config.toml");
    let trusted =
        format!("\n[projects.{:?}]\ntrust_level = \"trusted\"\n", site.root().display().to_string());
    let own = fs::read_to_string(&path).unwrap();
    fs::write(&path, own + &trusted).unwrap();
    // Codex runs commands in a login shell.
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

/// All texts of a request to the model.
fn input(seen: &relay_tests::scripted_model::Seen) -> String {
    seen.body["input"].to_string() + &seen.body["instructions"].to_string()
}

#[tokio::test]
#[ignore = "needs the real Codex"]
async fn a_session_starts_by_the_rule_what_a_person_has_started_before_and_nothing_else() {
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
        let output = session(&site, &model, programs::dir(), prompt).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        assert_eq!(complaints(&told), Vec::<&str>::new(), "{told}");
        input(model.seen().last().unwrap())
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

/// Codex's complaints, except those about missing parts of the machine and those that the test itself has caused.
fn complaints(told: &str) -> Vec<&str> {
    let bad = |line: &str| ["warning", "error", "untrusted", "invalid"].iter().any(|bad| line.contains(bad));
    told.lines()
        .filter(|line| {
            bad(&line.to_lowercase()) && !line.contains("bubblewrap") && !line.contains("bypass-hook-trust")
        })
        .collect()
}

#[tokio::test]
#[ignore = "needs the real Codex"]
async fn codex_takes_everything_that_init_writes() {
    let site = project();
    of_a_person(&site);
    fs::remove_file(site.root().join(".codex/config.toml")).unwrap();
    outcomes(&site, &["--codex", "--claude"]);
    let model = ScriptedModel::start(Scripts::default()).await.unwrap();
    // A relay that only records its calls.
    site.write("bin/relay", &format!("#!/bin/sh\necho \"$@\" >>{}/calls\n", site.root().display()));
    let bin = site.root().join("bin");
    fs::set_permissions(bin.join("relay"), fs::Permissions::from_mode(0o755)).unwrap();
    let output = session(&site, &model, &bin, "Hello.").await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert_eq!(complaints(&told), Vec::<&str>::new(), "{told}");
    let input = input(&model.seen()[0]);
    assert!(input.contains("Be kind.") && input.contains("Delegating a task with relay"), "{input}");
    assert!(input.contains("relay: Hand a task to a worker"), "{input}");
    let calls = fs::read_to_string(site.root().join("calls")).unwrap();
    for call in ["mcp", "hook SessionStart", "hook UserPromptSubmit", "hook Stop"] {
        assert!(calls.lines().any(|line| line == call), "{call}: {calls}");
    }
}
