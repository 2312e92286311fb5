//! Jobs that ask for more than the approved settings allow are refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};
use serde_json::{Value, json};

/// Writes a script that runs instead of Codex and appends its arguments to a file; returns the path of the file.
fn write_fake_codex(path: &Path) -> PathBuf {
    let seen = path.with_extension("seen");
    let script = format!(
        "#!/bin/sh\ncase $1 in --version) echo codex-cli 0.169.0; exit;; esac\necho \"$@\" >>{}\necho '{{\"type\":\
         \"turn.completed\",\"usage\":{{}}}}'\n",
        seen.display()
    );
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    seen
}

/// Queues a job and returns the path of its spec. No relay is started, because the settings are not approved yet.
fn queue_job(site: &Site, name: &str, workspace: &Path) -> PathBuf {
    let args = ["launch", "-q", "-n", name, "-w", workspace.to_str().unwrap(), "do it"];
    let output = site.command_without_approval(&args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    site.registry().join(format!("{name}.1.spec"))
}

/// Changes the file of a spec, as a session could.
fn forge(spec: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(spec).unwrap()).unwrap();
    change(&mut value);
    fs::write(spec, value.to_string()).unwrap();
}

/// A forged spec: name of the job, change of the spec, and expected text of the refusal.
type Forgery = (&'static str, fn(&mut Value, &Path), &'static str);

#[test]
fn a_forged_spec_gets_no_more_than_the_settings_allow() {
    let site = Site::new(Engine::Local);
    let outside = tempfile::tempdir_in(site.root().parent().unwrap()).unwrap();
    let outside = outside.path().canonicalize().unwrap();
    let seen = write_fake_codex(&outside.join("agreed"));
    site.configure(&format!("[codex]\nprogram = \"{}\"\n", outside.join("agreed").display()));
    let link = site.root().join("workspace-projects/link");
    symlink(&outside, &link).unwrap();
    let refused: [Forgery; 19] = [
        (
            "bypass",
            |spec, _| spec["codex"]["args"] = json!(["--dangerously-bypass-approvals-and-sandbox"]),
            "--dangerously",
        ),
        ("danger", |spec, _| spec["codex"]["args"] = json!(["-sdanger-full-access"]), "-sdanger"),
        (
            "server",
            |spec, _| spec["codex"]["args"] = json!(["-c", "mcp_servers.a.command=\"sh\""]),
            "mcp_servers",
        ),
        ("notify", |spec, _| spec["codex"]["args"] = json!(["--config=notify=[\"sh\"]"]), "notify"),
        (
            "thread",
            |spec, _| spec["thread"] = json!("--dangerously-bypass-approvals-and-sandbox"),
            "Codex thread",
        ),
        ("model", |spec, _| spec["codex"]["model"] = json!("--yolo"), "name of a model"),
        ("root", |spec, _| spec["workspace"] = json!("/"), "root of the file system"),
        ("roothome", |spec, _| spec["workspace"] = json!("/root"), "home"),
        ("above", |spec, _| spec["workspace"] = json!("/home"), "home"),
        ("out", |spec, _| spec["workspace"] = json!("/usr/lib"), "outside of the project"),
        ("registry", |spec, root| spec["workspace"] = json!(root.join("platform/workers")), "platform/"),
        (
            "dots",
            |spec, root| spec["workspace"] = json!(root.join("workspace-projects/../..")),
            "without . and ..",
        ),
        ("relative", |spec, _| spec["workspace"] = json!("demo"), "absolute"),
        ("linked", |spec, root| spec["workspace"] = json!(root.join("workspace-projects/link")), "leads to"),
        ("preload", |spec, _| spec["env"]["LD_PRELOAD"] = json!("/tmp/x.so"), "LD_PRELOAD"),
        ("path", |spec, _| spec["env"]["PATH"] = json!("/tmp"), "PATH"),
        ("codexhome", |spec, _| spec["env"]["CODEX_HOME"] = json!("/tmp"), "CODEX_HOME"),
        ("git", |spec, _| spec["env"]["GIT_SSH_COMMAND"] = json!("sh"), "GIT_SSH_COMMAND"),
        ("other", |spec, _| spec["job"] = json!("bypass#1"), "another job"),
    ];
    for (name, change, _) in refused {
        forge(&queue_job(&site, name, &site.workspace()), |spec| change(spec, site.root()));
    }
    // Program and sandbox come from the settings alone, so these specs are not refused.
    let forged = write_fake_codex(&outside.join("forged"));
    forge(&queue_job(&site, "program", &site.workspace()), |spec| {
        spec["codex"]["program"] = json!(outside.join("forged"));
    });
    forge(&queue_job(&site, "sandbox", &site.workspace()), |spec| spec["codex"]["sandbox"] = json!("off"));
    site.relay(&["up"]);
    for (name, _, words) in refused {
        let record = site.ended(name);
        assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Refused)), "{name}: {record:#?}");
        let message = record.error.unwrap().message;
        assert!(message.contains(words) && message.lines().count() == 1, "{name}: {message}");
    }
    for name in ["program", "sandbox"] {
        site.ended(name);
    }
    assert!(!forged.exists(), "a program that a spec names was run");
    let seen = fs::read_to_string(seen).unwrap_or_default();
    assert!(!seen.contains("--dangerously-bypass-approvals-and-sandbox"), "{seen}");
}

#[test]
fn a_link_instead_of_a_queued_job_s_workspace_is_refused_when_the_job_starts() {
    let site = Site::new(Engine::Local);
    let outside = tempfile::tempdir().unwrap();
    let args = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "touch here"];
    assert!(site.command_without_approval(&args).output().unwrap().status.success());
    fs::rename(site.workspace(), site.root().join("workspace-projects/before")).unwrap();
    symlink(outside.path(), site.workspace()).unwrap();
    site.relay(&["up"]);
    let record = site.ended("demo");
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Refused)), "{record:#?}");
    assert!(record.error.unwrap().message.contains("leads to"));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_launch_in_a_folder_where_no_worker_may_work_is_refused() {
    let site = Site::new(Engine::Local);
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().to_str().unwrap();
    let home = site.home().display().to_string();
    for (dir, words) in [
        ("/", "root of the file system"),
        ("/root", "home"),
        (&home, "home"),
        ("platform", "platform/"),
        (outside, "name its folder in [platform] workspaces"),
    ] {
        for args in [&["launch", "-w", dir, "x"][..], &["run", "-w", dir, "--", "true"]] {
            let stderr = site.refused(2, args);
            assert!(stderr.contains(words) && stderr.lines().count() == 1, "{args:?}: {stderr}");
        }
    }
    site.write(
        "platform/relay.toml",
        &format!("[platform]\nengine = \"local\"\nworkspaces = \"{outside}\"\n[codex]\nsandbox = \"off\"\n"),
    );
    site.relay(&["run", "-w", outside, "--", "true"]);
}

#[test]
fn a_launch_with_arguments_or_variables_that_bypass_the_sandbox_is_refused() {
    let site = Site::new(Engine::Local);
    site.configure("[codex]\nsandbox = \"workspace-write\"\n");
    for (arguments, words) in [
        (&["--", "--dangerously-bypass-approvals-and-sandbox"][..], "[codex] args"),
        (&["--", "-c", "sandbox_mode=\"danger-full-access\""], "sandbox_mode"),
        (&["--env", "LD_PRELOAD=/tmp/x.so"], "--env LD_PRELOAD"),
    ] {
        let stderr =
            site.refused(2, &[&["launch", "-w", "workspace-projects/demo", "x"], arguments].concat());
        assert!(stderr.contains(words) && stderr.lines().count() == 1, "{stderr}");
    }
    site.configure("[codex]\nargs = [\"-c\", \"notify=[]\"]\n");
    let launch = "launch -q -w workspace-projects/demo x -- -c model_verbosity=\"low\"";
    site.relay(&launch.split(' ').collect::<Vec<_>>());
}

#[test]
fn a_workspaces_folder_with_the_registry_or_a_home_is_refused() {
    let site = Site::new(Engine::Local);
    let docker =
        |workspaces: &str| format!("[platform]\nengine = \"docker\"\nworkspaces = \"{workspaces}\"\n");
    let home = site.home().display().to_string();
    for (workspaces, words) in [
        (".", "contains"),
        ("..", "contains"),
        ("platform", "lies in platform/"),
        ("platform/workers", "lies in platform/"),
        ("/", "root of the file system"),
        (&home, "home"),
        ("/root", "home"),
        ("/home", "home"),
    ] {
        site.write("platform/relay.toml", &docker(workspaces));
        let stderr = site.refused(2, &["up"]);
        assert!(stderr.contains("[platform] workspaces") && stderr.contains(words), "{workspaces}: {stderr}");
        let doctor = site.run(&["doctor"]);
        let listed = String::from_utf8_lossy(&doctor.stdout).into_owned();
        let line = listed.lines().find(|line| line.contains("workspaces")).unwrap_or_default();
        assert!(line.contains(words) && line.starts_with('✗'), "{listed}");
        assert_eq!(doctor.status.code(), Some(5));
    }
    // A session may replace the approved folder by a link.
    site.write("platform/relay.toml", &docker("workspace-projects"));
    site.approve();
    fs::rename(site.root().join("workspace-projects"), site.root().join("w")).unwrap();
    symlink(site.home(), site.root().join("workspace-projects")).unwrap();
    let stderr = site.refused(2, &["up"]);
    assert!(stderr.contains("home"), "{stderr}");
    fs::remove_file(site.root().join("workspace-projects")).unwrap();
    symlink("/usr", site.root().join("workspace-projects")).unwrap();
    let output = site.command_without_approval(&["up"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && stderr.contains("has changed"), "{stderr}");
    fs::remove_file(site.root().join("workspace-projects")).unwrap();
    fs::rename(site.root().join("w"), site.root().join("workspace-projects")).unwrap();
    site.configure("");
}

#[test]
fn commands_of_a_job_can_read_through_relay_and_not_change_anything() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("true", &[]);
    site.ended(&job);
    for args in [
        &["launch", "-w", "workspace-projects/demo", "x"][..],
        &["run", "--", "true"],
        &["resume", &job, "x"],
        &["retry", &job],
        &["cancel", &job],
        &["extend", &job, "1h"],
        &["up"],
        &["down", "--force"],
        &["serve"],
        &["init"],
        &["prune"],
        &["notices"],
        &["mcp"],
    ] {
        let output = site.command(args).env("RELAY_JOB", "demo#1").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains("RELAY_JOB") && stderr.lines().count() == 1, "{args:?}: {stderr}");
    }
    for args in [&["status", &job][..], &["logs", &job], &["events", &job], &["hook", "Stop"]] {
        let output = site.command(args).env("RELAY_JOB", "demo#1").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
