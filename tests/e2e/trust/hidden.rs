//! Files that no job may see or change, although its user may: Codex's home, settings of the project's programs,
//! sockets.

use std::fs;

use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, processes, programs, until};

use super::confine::{codex_job, site};

/// Shell line that reads the content of Codex's home folders once the file `go` exists.
const READ: &str = "touch ready; until test -e go; do sleep 0.05; done; \
                    cat CODEX_HOME/auth.json ~/.codex/auth.json; grep -rs canary CODEX_HOME/ ~/.codex/; \
                    ls CODEX_HOME/ CODEX_HOME/sessions; echo looked";

/// Creates transcripts and logins before a job starts, and others while it runs.
fn fill_codex_homes(site: &Site, job: impl FnOnce() -> String) -> String {
    site.write_codex("auth.json", "canary-of-the-first-login");
    for name in ["sessions/2026/rollout-1.jsonl", "history.jsonl", "state_5.sqlite"] {
        site.write_codex(name, "canary-of-a-transcript");
    }
    let job = job();
    until("the job looks", || site.workspace().join("ready").exists().then_some(()));
    site.write_codex("new", "canary-of-a-later-login");
    fs::rename(site.codex_home().join("new"), site.codex_home().join("auth.json")).unwrap();
    site.write_codex("history.new", "canary-of-a-new-transcript");
    site.write_home(".codex/auth.json", "canary-of-the-other-login");
    site.write("workspace-projects/demo/go", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    site.log(&job)
}

fn in_codex_home(site: &Site, command: &str) -> String {
    command.replace("CODEX_HOME/", &format!("{}/", site.codex_home().display()))
}

#[test]
#[ignore = "needs the real Codex"]
fn a_command_reads_no_logins_or_transcripts_also_those_that_come_while_it_runs() {
    let (_model, site) = site();
    let log = fill_codex_homes(&site, || site.launch_shell(&in_codex_home(&site, READ), &[]));
    assert!(log.contains("looked") && !log.contains("canary-of"), "{log}");
}

#[test]
#[ignore = "needs the real Codex"]
fn the_model_s_commands_have_codex_s_helpers_and_nothing_else_of_its_home() {
    let patch = "apply_patch <<'E'\n*** Begin Patch\n*** Add File: patched\n+by a command\n*** End Patch\nE";
    let change = "touch CODEX_HOME/tmp/arg0-linux/x CODEX_HOME/evil; mv CODEX_HOME/tmp/arg0-linux CODEX_HOME/tmp/away; \
                  mkdir CODEX_HOME/tmp/arg0; ln -sf /tmp $(dirname $(command -v apply_patch))/evil; echo tried";
    let (_model, site, launch) =
        codex_job(&[READ.to_owned(), patch.to_owned(), format!("sh -c 'echo path=$PATH; {change}'")]);
    let log = fill_codex_homes(&site, || {
        let more = ["workspace-projects/demo", "[script:trust] Go."];
        let launch: Vec<&str> = launch.iter().map(String::as_str).chain(more).collect();
        site.relay(&launch).trim().to_owned()
    });
    assert!(log.contains("looked") && log.contains("tried") && !log.contains("canary-of"), "{log}");
    assert_eq!(fs::read_to_string(site.workspace().join("patched")).unwrap(), "by a command\n", "{log}");
    let home = site.codex_home();
    assert!(!home.join("evil").exists() && home.join("tmp/arg0-linux").is_dir(), "{log}");
    assert!(!home.join("tmp/away").exists(), "{log}");
    let aliases = fs::read_dir(home.join("tmp/arg0-linux")).unwrap();
    assert!(aliases.flatten().all(|entry| entry.file_name() != "x" && !entry.path().join("evil").exists()));
}

/// Files with settings in the project's root that programs of the person obey, and that a job tries to write.
const SETTINGS: [&str; 6] = [
    ".codex/rules/relay.rules",
    ".agents/skills/evil/SKILL.md",
    ".claude/settings.json",
    ".mcp.json",
    ".vscode/tasks.json",
    ".git/hooks/pre-commit",
];

/// Shell line that writes the first five, creates their folders, and then moves or removes some.
fn plant() -> String {
    let one = |path: &&str| format!("mkdir -p \"$(dirname {path})\"; echo evil >> {path}; ");
    SETTINGS[..5].iter().map(one).collect::<String>() + "mv .claude .c; rm -rf .mcp.json .vscode; "
}

fn run(site: &Site, folder: &str, line: &str) -> String {
    let output = site.run(&["run", "-w", folder, "--", line]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
#[ignore = "needs the real Codex"]
fn a_job_in_the_project_root_leaves_no_settings_for_the_programs_of_the_person() {
    let (_model, site) = site();
    site.relay(&["up"]);
    let said = run(&site, ".", &format!("{}git init -q . && echo git works", plant()));
    assert!(said.contains("git works"), "{said}");
    for path in [".codex", ".agents", ".claude", ".mcp.json", ".vscode"] {
        assert!(!site.root().join(path).exists(), "{path} was made: {said}");
    }
    for path in SETTINGS {
        site.write(path, "mine\n");
    }
    let config = fs::read(site.root().join(".git/config")).unwrap();
    let commit = "git config core.fsmonitor evil; echo evil >> .git/hooks/pre-commit; mv .git .g; \
                  git -c user.name=w -c user.email=w@e commit -q --no-verify --allow-empty -m w && echo committed";
    let said = run(&site, ".", &format!("{}{commit}", plant()));
    assert!(said.contains("committed"), "{said}");
    for path in SETTINGS {
        assert_eq!(fs::read_to_string(site.root().join(path)).unwrap(), "mine\n", "{path}: {said}");
    }
    assert_eq!(fs::read(site.root().join(".git/config")).unwrap(), config, "{said}");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_clone_below_the_workspaces_brings_its_settings_along() {
    let (_model, site) = site();
    site.write("origin/.codex/config.toml", "");
    site.write("origin/.claude/settings.json", "{}");
    site.relay(&["up"]);
    let origin = site.root().join("origin").display().to_string();
    let make = "git init -q . && git add . && git -c user.name=w -c user.email=w@e commit -qm w";
    run(&site, "origin", make);
    run(
        &site,
        "workspace-projects/demo",
        &format!("git init -q . && git pull -q {origin} && cat .codex/config.toml .claude/settings.json"),
    );
}

#[test]
#[ignore = "needs the real Codex"]
fn what_one_worker_leaves_in_the_caches_stops_no_other() {
    let (_model, site) = site();
    site.relay(&["up"]);
    let ruin = "cd $(dirname $XDG_CACHE_HOME) && rm -rf pip npm cargo && ln -s /nope/x pip && touch npm && ln -s . cargo && \
                mkdir -p go && chmod 0 go";
    run(&site, "workspace-projects/demo", ruin);
    let said = run(
        &site,
        "workspace-projects/demo",
        "touch $PIP_CACHE_DIR/x $npm_config_cache/x $CARGO_HOME/x && echo cached",
    );
    assert!(said.contains("cached"), "{said}");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_temporary_folder_that_is_a_home_does_not_become_writable() {
    let (_model, site) = site();
    let up = site.command(&["up"]).env("TMPDIR", site.home()).output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let said =
        run(&site, "workspace-projects/demo", "echo evil >> ~/.bashrc; echo temporary=$TMPDIR; mktemp");
    assert_eq!(fs::read_to_string(site.home().join(".bashrc")).unwrap(), "# mine\n", "{said}");
    assert!(said.contains("temporary=/tmp\n/tmp/"), "{said}");
}

#[test]
#[ignore = "needs the real Codex"]
fn caches_below_the_temporary_folder_are_no_hindrance_to_the_sandbox() {
    let (_model, site) = site();
    let home = tempfile::tempdir_in("/tmp").unwrap();
    let up = site.command(&["up"]).env("HOME", home.path()).env_remove("TMPDIR").output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let said = run(&site, "workspace-projects/demo", "echo ran in $HOME, temporary=$TMPDIR.");
    assert_eq!(said, format!("ran in {}, temporary=.\n", home.path().display()));
}

/// Program that listens in its folder under many names, some of which differ from the bound ones.
const LISTEN: &str = r#"
import os, socket, sys, time
os.chdir(sys.argv[1])
def listen(name):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(name)
    sock.listen()
    return sock
here = os.getcwd()
socks = [listen(os.path.join(here, name)) for name in ["first"] + [f"n{n}" for n in range(100)] + ["a b", "moved", "linked"]]
os.rename("moved", "was moved")
os.link("linked", "a link")
socks.append(listen("relative"))
os.chmod("relative", 0o666)
open("ready", "w").close()
time.sleep(1000)
"#;

/// Program that connects to each of them, as far as it can.
const CONNECT: &str = r#"
import os, socket, stat, sys
for name in sorted(os.listdir(sys.argv[1])):
    path = os.path.join(sys.argv[1], name)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
        print("reached", name)
    except OSError:
        pass
print("tried")
"#;

#[test]
#[ignore = "needs the real Codex"]
fn sockets_of_programs_outside_are_reached_by_no_name() {
    let (_model, site) = site();
    site.relay(&["up"]);
    let folder = tempfile::tempdir_in(programs::workspace().join("target/tests")).unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let mut listen = std::process::Command::new("python3");
    let _listens = processes::Owned(listen.args(["-c", LISTEN]).arg(&folder).spawn().unwrap());
    until("the sockets are there", || folder.join("ready").exists().then_some(()));
    site.write("workspace-projects/demo/connect.py", CONNECT);
    let said = run(&site, "workspace-projects/demo", &format!("python3 connect.py {}", folder.display()));
    assert_eq!(said, "tried\n");
}
