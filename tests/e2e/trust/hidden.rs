//! Hidden and protected files, which no job may read or change: Codex's home, settings of the project, sockets.

use std::fs;

use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, processes, programs, until};

use super::confine::{codex_job, site};

/// Command line that reads both home folders of Codex once the file `go` exists.
const READ_CODEX_HOMES: &str = "touch ready; until test -e go; do sleep 0.05; done; \
                    cat CODEX_HOME/auth.json ~/.codex/auth.json; grep -rs canary CODEX_HOME/ ~/.codex/; \
                    ls CODEX_HOME/ CODEX_HOME/sessions; echo looked";

/// Writes logins and transcripts, launches a job by `job`, writes others while it runs, and returns the job's log.
fn fill_codex_homes(site: &Site, job: impl FnOnce() -> String) -> String {
    site.write_codex("auth.json", "canary-of-the-first-login");
    for name in ["sessions/2026/rollout-1.jsonl", "history.jsonl", "state_5.sqlite"] {
        site.write_codex(name, "canary-of-a-transcript");
    }
    let job = job();
    until("the job is ready", || site.workspace().join("ready").exists().then_some(()));
    site.write_codex("new", "canary-of-a-later-login");
    fs::rename(site.codex_home().join("new"), site.codex_home().join("auth.json")).unwrap();
    site.write_codex("history.new", "canary-of-a-new-transcript");
    site.write_home(".codex/auth.json", "canary-of-the-other-login");
    site.write("workspace-projects/demo/go", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    site.log(&job)
}

/// Replaces `CODEX_HOME/` in a command by the path of the site's `CODEX_HOME`.
fn in_codex_home(site: &Site, command: &str) -> String {
    command.replace("CODEX_HOME/", &format!("{}/", site.codex_home().display()))
}

#[test]
#[ignore = "needs the real Codex"]
fn a_shell_job_reads_no_logins_or_transcripts_not_even_new_ones() {
    let (_model, site) = site();
    let log = fill_codex_homes(&site, || site.launch_shell(&in_codex_home(&site, READ_CODEX_HOMES), &[]));
    assert!(log.contains("looked") && !log.contains("canary-of"), "{log}");
}

#[test]
#[ignore = "needs the real Codex"]
fn commands_of_the_model_see_only_helper_programs_in_codex_s_home() {
    let patch = "apply_patch <<'E'\n*** Begin Patch\n*** Add File: patched\n+by a command\n*** End Patch\nE";
    let change = "touch CODEX_HOME/tmp/arg0-linux/x CODEX_HOME/evil; mv CODEX_HOME/tmp/arg0-linux CODEX_HOME/tmp/away; \
                  mkdir CODEX_HOME/tmp/arg0; ln -sf /tmp $(dirname $(command -v apply_patch))/evil; echo tried";
    let (_model, site, launch) = codex_job(&[
        READ_CODEX_HOMES.to_owned(),
        patch.to_owned(),
        format!("sh -c 'echo path=$PATH; {change}'"),
    ]);
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

/// Files in the project's root with settings for programs of the user, which a job tries to write.
const SETTINGS: [&str; 6] = [
    ".codex/rules/relay.rules",
    ".agents/skills/evil/SKILL.md",
    ".claude/settings.json",
    ".mcp.json",
    ".vscode/tasks.json",
    ".git/hooks/pre-commit",
];

/// Returns a shell script that tries to write the first five of [`SETTINGS`], and to move or remove some.
fn write_settings_script() -> String {
    let one = |path: &&str| format!("mkdir -p \"$(dirname {path})\"; echo evil >> {path}; ");
    SETTINGS[..5].iter().map(one).collect::<String>() + "mv .claude .c; rm -rf .mcp.json .vscode; "
}

fn run_command(site: &Site, folder: &str, line: &str) -> String {
    let output = site.run(&["run", "-w", folder, "--", line]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

#[test]
#[ignore = "needs the real Codex"]
fn a_job_in_the_project_root_can_not_write_settings_for_programs_of_the_user() {
    let (_model, site) = site();
    site.relay(&["up"]);
    let text =
        run_command(&site, ".", &format!("{}git init -q . && echo git works", write_settings_script()));
    assert!(text.contains("git works"), "{text}");
    for path in [".codex", ".agents", ".claude", ".mcp.json", ".vscode"] {
        assert!(!site.root().join(path).exists(), "{path} was created: {text}");
    }
    for path in SETTINGS {
        site.write(path, "mine\n");
    }
    let config = fs::read(site.root().join(".git/config")).unwrap();
    let commit = "git config core.fsmonitor evil; echo evil >> .git/hooks/pre-commit; mv .git .g; \
                  git -c user.name=w -c user.email=w@e commit -q --no-verify --allow-empty -m w && echo committed";
    let text = run_command(&site, ".", &format!("{}{commit}", write_settings_script()));
    assert!(text.contains("committed"), "{text}");
    for path in SETTINGS {
        assert_eq!(fs::read_to_string(site.root().join(path)).unwrap(), "mine\n", "{path}: {text}");
    }
    assert_eq!(fs::read(site.root().join(".git/config")).unwrap(), config, "{text}");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_clone_below_the_workspaces_folder_may_contain_settings() {
    let (_model, site) = site();
    site.write("origin/.codex/config.toml", "");
    site.write("origin/.claude/settings.json", "{}");
    site.relay(&["up"]);
    let origin = site.root().join("origin").display().to_string();
    let make = "git init -q . && git add . && git -c user.name=w -c user.email=w@e commit -qm w";
    run_command(&site, "origin", make);
    run_command(
        &site,
        "workspace-projects/demo",
        &format!("git init -q . && git pull -q {origin} && cat .codex/config.toml .claude/settings.json"),
    );
}

#[test]
#[ignore = "needs the real Codex"]
fn package_caches_that_a_worker_has_damaged_do_not_stop_the_next_job() {
    let (_model, site) = site();
    site.relay(&["up"]);
    let ruin = "cd $(dirname $XDG_CACHE_HOME) && rm -rf pip npm cargo && ln -s /nope/x pip && touch npm && ln -s . cargo && \
                mkdir -p go && chmod 0 go";
    run_command(&site, "workspace-projects/demo", ruin);
    let text = run_command(
        &site,
        "workspace-projects/demo",
        "touch $PIP_CACHE_DIR/x $npm_config_cache/x $CARGO_HOME/x && echo cached",
    );
    assert!(text.contains("cached"), "{text}");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_temporary_folder_that_is_a_home_does_not_become_writable() {
    let (_model, site) = site();
    let up = site.command(&["up"]).env("TMPDIR", site.home()).output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let text = run_command(
        &site,
        "workspace-projects/demo",
        "echo evil >> ~/.bashrc; echo temporary=$TMPDIR; mktemp",
    );
    assert_eq!(fs::read_to_string(site.home().join(".bashrc")).unwrap(), "# mine\n", "{text}");
    assert!(text.contains("temporary=/tmp\n/tmp/"), "{text}");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_sandbox_works_if_home_and_caches_are_below_the_temporary_folder() {
    let (_model, site) = site();
    let home = tempfile::tempdir_in("/tmp").unwrap();
    let up = site.command(&["up"]).env("HOME", home.path()).env_remove("TMPDIR").output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let text = run_command(&site, "workspace-projects/demo", "echo ran in $HOME, temporary=$TMPDIR.");
    assert_eq!(text, format!("ran in {}, temporary=.\n", home.path().display()));
}

/// Python program that listens on many sockets in a folder. Some sockets are moved or linked after they were bound.
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

/// Python program that tries to connect to each socket of a folder.
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
fn a_job_can_not_connect_to_sockets_of_other_programs() {
    let (_model, site) = site();
    site.relay(&["up"]);
    let folder = tempfile::tempdir_in(programs::workspace().join("target/tests")).unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let mut listen = std::process::Command::new("python3");
    let _listens = processes::OwnedChild(listen.args(["-c", LISTEN]).arg(&folder).spawn().unwrap());
    until("the sockets are there", || folder.join("ready").exists().then_some(()));
    site.write("workspace-projects/demo/connect.py", CONNECT);
    let text =
        run_command(&site, "workspace-projects/demo", &format!("python3 connect.py {}", folder.display()));
    assert_eq!(text, "tried\n");
}
