//! Shell completions, checked with the real shells, and man pages, checked with groff.

use std::process::Command;

use relay_tests::harness::{Engine, Site, programs};

/// Creates a site with one ended job and one running job.
fn site() -> Site {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("true", &["-n", "ended"]));
    site.launch_shell("sleep 600", &["-n", "endless"]);
    site.record_when("endless#1", "running", |record| record.step.is_some());
    site
}

/// Runs a script in a shell that has the programs under test on its PATH; returns its stdout.
fn shell(site: &Site, shell: &[&str], script: &str) -> String {
    let path = format!("{}:{}", programs::dir().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(script).current_dir(site.root()).env("PATH", path);
    command.env("HOME", site.home()).env_remove("RELAY_ROOT");
    let output = command.output().unwrap_or_else(|e| panic!("{shell:?}: {e}"));
    assert!(output.status.success(), "{shell:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the words that bash offers for the last of `words` in the command line `relay WORDS`.
fn bash_offers(site: &Site, words: &[&str]) -> String {
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
fn bash_offers_commands_and_the_jobs_that_a_command_accepts() {
    let site = site();
    assert_eq!(bash_offers(&site, &["res"]), "restart resume");
    assert_eq!(bash_offers(&site, &["status", "en"]), "endless.1 ended.1");
    assert_eq!(bash_offers(&site, &["status", "ended.1", "endl"]), "endless.1");
    assert_eq!(bash_offers(&site, &["cancel", "en"]), "endless.1");
    assert_eq!(bash_offers(&site, &["resume", "en"]), "", "a shell job has no thread to resume");
    assert_eq!(bash_offers(&site, &["retry", "--no"]), "");
    assert_eq!(bash_offers(&site, &["resume", "--no"]), "--no-check --no-expect");
    assert_eq!(bash_offers(&site, &["logs", "nobody"]), "");
}

#[test]
#[ignore = "needs fish and zsh"]
fn fish_and_zsh_show_state_and_task_beside_a_job() {
    let site = site();
    let offered =
        shell(&site, &["fish", "-c"], "relay completions fish | source; complete -C 'relay logs en'");
    assert_eq!(offered, "endless.1\trunning: sleep 600\nended.1\tcompleted: true\n");
    // zsh completes only in an interactive shell: a function of the test captures the candidates instead.
    let script = "autoload -Uz compinit; compinit -D; source <(relay completions zsh); \
                  function _describe { print -rl -- \"${(@P)${@[-1]}}\" }; \
                  words=(relay logs en); CURRENT=3; $_comps[relay]";
    let offered = shell(&site, &["zsh", "-f", "-c"], script);
    assert_eq!(offered, "endless.1:running: sleep 600\nended.1:completed: true\n");
}

#[test]
#[ignore = "needs groff"]
fn groff_accepts_the_man_pages_without_a_warning() {
    let site = Site::new(Engine::Local);
    let text = site.run(&["completions", "--man", "man1"]);
    assert!(text.status.success(), "{text:?}");
    let pages: Vec<_> =
        std::fs::read_dir(site.root().join("man1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 10, "{pages:?}");
    let checked = Command::new("groff").args(["-man", "-ww", "-z", "-Tutf8"]).args(&pages).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
    let alone = site.relay(&["completions", "--man"]);
    assert_eq!(alone, std::fs::read_to_string(site.root().join("man1/relay.1")).unwrap());
}
