//! Shell completions and man pages: checked with the real shells, and with groff's own warnings.

use std::process::Command;

use relay_tests::harness::{Engine, Site, programs};

/// Creates a site with one ended job and one that waits for ever, without a relay.
fn site() -> Site {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("true", &["-n", "ended"]));
    site.launch_shell("sleep 600", &["-n", "endless"]);
    site.record_when("endless#1", "running", |record| record.step.is_some());
    site
}

/// Output of a shell that has loaded its script.
fn shell(site: &Site, shell: &[&str], script: &str) -> String {
    let path = format!("{}:{}", programs::dir().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(script).current_dir(site.root()).env("PATH", path);
    command.env("HOME", site.home()).env_remove("RELAY_ROOT");
    let output = command.output().unwrap_or_else(|e| panic!("{shell:?}: {e}"));
    assert!(output.status.success(), "{shell:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Words that bash offers after `relay WORDS`.
fn bash(site: &Site, words: &[&str]) -> String {
    let last = words.last().unwrap();
    let script = format!(
        "source <(relay completions bash); complete -p relay >/dev/null || exit 9; COMP_WORDS=(relay {}); \
         COMP_CWORD={}; _clap_complete_relay relay '{last}' ''; echo \"${{COMPREPLY[*]}}\"",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len()
    );
    shell(site, &["bash", "--norc", "-c"], &script).trim().to_owned()
}

#[test]
fn bash_offers_commands_and_the_jobs_that_a_command_can_take() {
    let site = site();
    assert_eq!(bash(&site, &["res"]), "restart resume");
    assert_eq!(bash(&site, &["status", "en"]), "endless.1 ended.1");
    assert_eq!(bash(&site, &["status", "ended.1", "endl"]), "endless.1");
    assert_eq!(bash(&site, &["cancel", "en"]), "endless.1");
    assert_eq!(bash(&site, &["resume", "en"]), "", "a shell job has no thread to go on with");
    assert_eq!(bash(&site, &["retry", "--no"]), "");
    assert_eq!(bash(&site, &["resume", "--no"]), "--no-check --no-expect");
    assert_eq!(bash(&site, &["logs", "nobody"]), "");
}

#[test]
#[ignore = "needs fish and zsh"]
fn fish_and_zsh_show_state_and_task_beside_a_job() {
    let site = site();
    let offered =
        shell(&site, &["fish", "-c"], "relay completions fish | source; complete -C 'relay logs en'");
    assert_eq!(offered, "endless.1\trunning: sleep 600\nended.1\tcompleted: true\n");
    // zsh completes only in an interactive shell: the candidates are captured where the script hands them over.
    let script = "autoload -Uz compinit; compinit -D; source <(relay completions zsh); \
                  function _describe { print -rl -- \"${(@P)${@[-1]}}\" }; \
                  words=(relay logs en); CURRENT=3; $_comps[relay]";
    let offered = shell(&site, &["zsh", "-f", "-c"], script);
    assert_eq!(offered, "endless.1:running: sleep 600\nended.1:completed: true\n");
}

#[test]
#[ignore = "needs groff"]
fn the_man_pages_are_right() {
    let site = Site::new(Engine::Local);
    let said = site.run(&["completions", "--man", "man1"]);
    assert!(said.status.success(), "{said:?}");
    let pages: Vec<_> =
        std::fs::read_dir(site.root().join("man1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 10, "{pages:?}");
    let checked = Command::new("groff").args(["-man", "-ww", "-z", "-Tutf8"]).args(&pages).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
    let alone = site.relay(&["completions", "--man"]);
    assert_eq!(alone, std::fs::read_to_string(site.root().join("man1/relay.1")).unwrap());
}
