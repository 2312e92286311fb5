//! Engines that hang, and files that workers leave in the platform container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::docker::{docker, volumes};
use relay_tests::harness::mount::Mounted;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

#[test]
fn an_engine_that_hangs_is_named_and_ended_within_its_limit() {
    let site = Site::new(Engine::Local);
    let bin = site.root().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("docker"), "#!/bin/sh\nsleep 1000 & wait\n").unwrap();
    fs::set_permissions(bin.join("docker"), fs::Permissions::from_mode(0o755)).unwrap();
    site.write("platform/relay.toml", "[platform]\nengine = \"docker\"\n");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for (args, code, words) in [
        (&["up"][..], 5, "docker did not answer within 15 s"),
        (&["doctor"], 5, "no answer within 5 s"),
        (&["down", "--force"], 5, "docker did not answer within 15 s"),
    ] {
        let started = Instant::now();
        let output = site.command(args).env("PATH", &path).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
        // The engine itself would hang for 1,000 s.
        assert!(started.elapsed() < Duration::from_secs(200), "{args:?} took {:?}", started.elapsed());
    }
    site.configure("");
}

#[test]
#[ignore = "needs Docker"]
fn files_that_a_worker_leaves_in_codex_s_home_are_removed_at_the_next_start() {
    let site = Site::new(Engine::Docker);
    fs::create_dir_all(site.codex_home()).unwrap();
    fs::write(site.codex_home().join("config.toml"), "model = \"m\"\nnotify = [\"sh\"]\n").unwrap();
    site.relay(&["up"]);
    let commands = "cd ~/.codex && echo obey >AGENTS.md && mkdir -p sessions/2026 rules skills/x locked/deep && echo t \
                  >sessions/2026/thread.jsonl && touch rules/a.rules hooks.json .hidden && rm -f config.toml auth.json && mkfifo config.toml auth.json && \
                  ln -s /etc/passwd history.json && chmod 0 locked/deep locked";
    let job = site.launch_shell(commands, &[]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.log(&job));
    for args in [&["down", "--force"][..], &["up"]] {
        site.relay(args);
    }
    let home = |args: &[&str]| docker(&[&["exec", "-u", "worker", &site.container()], args].concat());
    assert_eq!(home(&["ls", "-A", "/home/worker/.codex"]), "config.toml\nsessions");
    assert_eq!(home(&["cat", "/home/worker/.codex/config.toml"]), "model = \"m\"");
    assert_eq!(home(&["cat", "/home/worker/.codex/sessions/2026/thread.jsonl"]), "t");
}

#[test]
#[ignore = "needs Docker"]
fn the_container_has_limits_few_rights_and_volumes_named_after_its_registry() {
    let site = Site::new(Engine::Docker);
    let settings = fs::read_to_string(site.root().join("platform/relay.toml")).unwrap();
    site.write("platform/relay.toml", &format!("{settings}memory = \"512MiB\"\ncpus = 1.5\npids = 300\n"));
    site.relay(&["up"]);
    let shown = |format: &str| docker(&["inspect", "--format", format, &site.container()]);
    let limits = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}";
    assert_eq!(shown(limits), "536870912 1500000000 300");
    assert_eq!(shown("{{.HostConfig.SecurityOpt}} {{.HostConfig.CapDrop}}"), "[no-new-privileges] [ALL]");
    let own = volumes(Command::new("docker"), &site.container());
    assert_eq!(own.len(), 2, "{own:?}");
    for volume in &own {
        let digest =
            volume.strip_prefix(&format!("{}-", site.container())).unwrap().split('-').next().unwrap();
        assert!(digest.len() == 8 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{volume}");
    }
    let job = site.launch_shell("grep -E 'NoNewPrivs|CapEff' /proc/self/status | tr '\\t' ' '", &[]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.log(&job));
    assert!(site.log(&job).contains("NoNewPrivs: 1"), "{}", site.log(&job));
    // `relay doctor` says that jobs of a container are not protected from each other.
    let doctor =
        String::from_utf8(site.command_without_approval(&["doctor"]).output().unwrap().stdout).unwrap();
    assert!(doctor.contains("one job can read the environment of another"), "{doctor}");
    site.configure("");
}

#[test]
#[ignore = "needs Docker, mounts a file system"]
fn relay_up_fails_if_workers_can_not_write_their_mounted_folder() {
    let Mounted { site, .. } = &Mounted::with_read_only_workspaces(Site::new(Engine::Docker));
    let stderr = site.refused(5, &["up"]);
    assert!(stderr.contains("workers can't write in") && stderr.contains("mount it writable"), "{stderr}");
}

#[test]
#[ignore = "needs Docker"]
fn codex_s_sandbox_in_a_container_is_tested_at_up_and_refused_if_it_can_not_work() {
    let site = Site::new(Engine::Docker);
    site.configure("[codex]\nsandbox = \"workspace-write\"\n");
    let up = site.run(&["up"]);
    let stderr = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(up.status.success(), "{stderr}");
    let problem = "Codex's sandbox can't work in this container: remove sandbox from [codex]";
    assert!(stderr.contains(problem), "{stderr}");
    let doctor = String::from_utf8_lossy(&site.run(&["doctor"]).stdout).into_owned();
    assert!(doctor.contains("✗ sandbox         Codex's sandbox can't work in this container"), "{doctor}");
    assert!(doctor.contains("✓ mount           workers can write in"), "{doctor}");
    let refused = site.refused(5, &["launch", "-w", "workspace-projects/demo", "Do it."]);
    assert!(refused.contains(problem), "{refused}");
    let job = site.launch_shell("true", &[]);
    assert_eq!(outcome(&site.ended(&job)).1, Some(common::event::FailureKind::Refused));
}

#[test]
#[ignore = "needs Docker"]
fn a_link_instead_of_a_queued_job_s_workspace_is_refused_with_a_container() {
    let site = Site::new(Engine::Docker);
    let args = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "touch here"];
    assert!(site.command_without_approval(&args).output().unwrap().status.success());
    // The second workspace is replaced by a link that stays inside of the mount.
    site.write("workspace-projects/inside/file", "");
    site.write("workspace-projects/other/file", "");
    let args = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/inside", "touch here"];
    assert!(site.command_without_approval(&args).output().unwrap().status.success());
    fs::rename(site.workspace(), site.root().join("workspace-projects/before")).unwrap();
    std::os::unix::fs::symlink("/etc", site.workspace()).unwrap();
    let inside = site.root().join("workspace-projects/inside");
    fs::rename(&inside, site.root().join("workspace-projects/was")).unwrap();
    std::os::unix::fs::symlink("other", inside).unwrap();
    site.relay(&["up"]);
    let record = site.ended("inside");
    assert_eq!(outcome(&record).1, Some(common::event::FailureKind::Refused), "{record:#?}");
    assert_eq!(fs::read_dir(site.root().join("workspace-projects/other")).unwrap().count(), 1);
    let record = site.ended("demo");
    assert_eq!(outcome(&record).1, Some(common::event::FailureKind::Refused), "{record:#?}");
    docker(&["exec", "-u", "root", &site.container(), "test", "!", "-e", "/etc/.codex-worker"]);
}
