//! Traps of a worker in its repository: no program that git's settings or hooks name may run outside of the sandbox.

use std::fs;
use std::path::Path;

use common::record::State;
use relay_tests::harness::model::Model;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

/// Keys of git's configuration whose value is a program.
const PROGRAM_KEYS: &str = "\
    core.fsmonitor core.sshCommand core.gitProxy core.pager core.editor core.askPass \
    core.alternateRefsCommand core.hooksPath sequence.editor credential.helper \
    credential.https://example.com.helper diff.external diff.e.command diff.e.textconv filter.e.clean \
    filter.e.smudge filter.e.process merge.e.driver merge.tool mergetool.e.cmd difftool.e.cmd gpg.program \
    gpg.openpgp.program gpg.ssh.program gpg.x509.program gpg.ssh.defaultKeyCommand alias.diff alias.ls-files \
    alias.rev-parse pager.diff pager.ls-files interactive.diffFilter remote.origin.uploadpack \
    remote.origin.receivepack remote.origin.proxy uploadpack.packObjectsHook receive.procReceiveRefs \
    submodule.sub.update trailer.e.command trailer.e.cmd man.e.cmd web.browser browser.e.cmd instaweb.httpd";

/// Hooks that git supports.
const HOOKS: &str = "\
    applypatch-msg fsmonitor-watchman post-checkout post-commit post-index-change post-merge post-rewrite \
    pre-auto-gc pre-commit pre-push query-watchman reference-transaction sendemail-validate update";

/// Returns a shell script that makes the workspace a repository with all traps. Each trap's program leaves a mark
/// outside of the workspace, where only the agent could write, and prints its input, so that it works as a filter.
fn trap_script(site: &Site) -> String {
    let outside = site.root().join("MARKS").display().to_string();
    let mut lines = vec![
        "git init -q -b main .".to_owned(),
        "printf 'a\\n' > f; git add f; git -c user.name=w -c user.email=w@e commit -qm x".to_owned(),
        format!("printf '%s\\n' '#!/bin/sh' 'echo \"$0 $*\" >> {outside}' 'cat' > mark.sh; chmod +x mark.sh"),
    ];
    for key in PROGRAM_KEYS.split_whitespace() {
        let bang = if key.starts_with("alias.") || key.starts_with("submodule.") { "!" } else { "" };
        let name = key.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let value = if key == "core.hooksPath" {
            "$PWD/hooks".to_owned()
        } else {
            format!("{bang}$PWD/mark.sh {name}")
        };
        lines.push(format!("git config '{key}' \"{value}\""));
    }
    lines.push("mkdir -p hooks .git/hooks".to_owned());
    for hook in HOOKS.split_whitespace() {
        lines.push(format!("cp mark.sh hooks/{hook}; cp mark.sh .git/hooks/{hook}"));
    }
    lines.extend(
        [
            "cp .git/config included; git config include.path ../included",
            "git config includeIf.gitdir:/.path ../included",
            "git config extensions.partialClone origin; git config remote.origin.promisor true",
            "git config remote.origin.url 'ext::sh -c ./mark.sh% ext'; git config protocol.ext.allow always",
            "git config diff.algorithm histogram; git config commit.gpgSign true; git config filter.e.required true",
            "printf '* filter=e diff=e merge=e ident\\n' > .gitattributes; cp .gitattributes .git/info/attributes",
            "printf 'b\\n' >> f; printf 'new\\n' > new; touch f; true",
        ]
        .map(str::to_owned),
    );
    lines.join("\n")
}

/// Checks that no trap's program has left a mark, and that the job completed.
fn check_no_program_ran(site: &Site, job: &str) {
    let record = site.ended(job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(job));
    let marks = fs::read_to_string(site.root().join("MARKS")).unwrap_or_default();
    assert_eq!(marks, "", "{}", site.log(job));
}

/// Runs a job with a setup script, and launches another one that changes a file.
fn spring_trap(site: &Site, setup: &str) -> String {
    // The first job sets the traps; git runs into them when the changes of the second are counted.
    check_no_program_ran(site, &site.launch_shell(setup, &[]));
    site.launch_shell("printf 'c\\n' >> f", &[])
}

#[test]
#[ignore = "needs the real Codex"]
fn no_setting_of_git_runs_a_program_outside_of_the_sandbox() {
    let site = Site::new(Engine::Local);
    let model = Model::start(env!("CARGO_BIN_EXE_scripted-model"), "127.0.0.1");
    model.write_codex_home(site.codex_home());
    site.configure_in_sandbox("");
    let job = spring_trap(&site, &trap_script(&site));
    check_no_program_ran(&site, &job);
    check_changes_counted(&site, &job);
}

#[test]
fn no_setting_of_git_runs_a_program_if_there_is_no_sandbox() {
    let site = Site::new(Engine::Local);
    // The test itself sets the traps: without a sandbox git commands of a job would run the programs.
    run(&site.workspace(), &trap_script(&site));
    let _ = fs::remove_file(site.root().join("MARKS"));
    let job = site.launch_shell("printf 'c\\n' >> f", &[]);
    check_no_program_ran(&site, &job);
    check_changes_counted(&site, &job);
}

#[test]
fn changes_in_a_repository_on_which_git_hangs_are_reported_as_not_counted() {
    let site = Site::new(Engine::Local);
    // git reads the list of ignored files from a pipe without a writer.
    run(&site.workspace(), "git init -q . && mkfifo pipe && git config core.excludesFile $PWD/pipe");
    let job = site.launch_shell("true", &[]);
    let record = site.ended(&job);
    assert_eq!((outcome(&record), record.changes), ((State::Completed, None), None));
    let events = site.relay(&["events", &job]);
    assert!(events.contains("changes: not counted: git took longer than 3 s at the start"), "{events}");
}

fn check_changes_counted(site: &Site, job: &str) {
    let record = site.record(job);
    let events = site.relay(&["events", job]);
    assert!(record.changes.is_some_and(|changes| changes.files >= 1), "{:?} {events}", record.changes);
}

fn run(folder: &Path, script: &str) {
    let done = std::process::Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
