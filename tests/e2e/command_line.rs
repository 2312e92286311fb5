//! Command line: arguments, and output on stdout and stderr for programs and people.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use relay_tests::harness::mount::Mounted;
use relay_tests::harness::{Engine, Site};
use serde_json::Value;

/// Returns the error object in the last line on stderr of a failed command.
fn json_error(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = stderr.lines().last().unwrap_or_default().to_owned();
    let value: Value = serde_json::from_str(&last).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    value["error"].clone()
}

#[test]
fn an_error_is_an_object_on_stderr_if_json_was_requested() {
    let site = Site::new(Engine::Local);
    let cases: [(&[&str], i32, &str, &str); 5] = [
        (&["status", "nope", "--json"], 3, "no_such_job", "nope"),
        (&["status", "--json", "--sideways"], 2, "usage", "unexpected argument '--sideways' found"),
        (&["wait", "--json"], 2, "usage", "<JOB>..."),
        (&["launch", "--json", ""], 2, "usage", "prompt"),
        (&["--json", "launch", "-w", "nope", "x"], 2, "usage", "nope"),
    ];
    for (args, exit, code, named) in cases {
        let output = site.run(args);
        let error = json_error(&output);
        assert_eq!((output.status.code(), error["code"].as_str()), (Some(exit), Some(code)), "{args:?}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(named) && !message.contains('\n'), "{args:?}: {message}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    let help = site.run(&["status", "--json", "--help"]);
    assert!(
        help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Usage"),
        "help stays help"
    );
    let plain = site.refused(3, &["status", "nope"]);
    assert!(plain.starts_with("relay: "), "{plain}");
}

#[test]
fn a_launch_whose_output_is_lost_names_its_job_on_stderr_and_has_its_own_exit_code() {
    let site = Site::new(Engine::Local);
    for more in [&["-q"][..], &[], &["--json"]] {
        let words =
            [&["launch", "--runner", "shell", "-w", "workspace-projects/demo", "true"], more].concat();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = site.command(&words).stdout(full).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(74), "{more:?}: {stderr}");
        let newest = site.relay(&["status", "--json", "--latest"]);
        let newest: Value = serde_json::from_str(&newest).unwrap();
        let job = newest["job"].as_str().unwrap();
        assert!(stderr.contains(&format!("{job} was launched, but stdout can't be written")), "{stderr}");
        site.ended(job);
    }
    assert!(site.root().join("platform/workers/demo.3.json").exists());
}

#[test]
fn a_limit_of_a_shell_job_is_also_the_limit_of_its_command() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("true", &["--timeout", "2h"]);
    let record = site.ended(&job);
    let limits: Vec<_> = record.steps.iter().map(|step| step.limit_ms).collect();
    assert_eq!(limits, [Some(7_200_000)]);
    let job = site.launch_shell("true", &["--timeout", "2h", "--step-timeout", "command=1m"]);
    let limits: Vec<_> = site.ended(&job).steps.iter().map(|step| step.limit_ms).collect();
    assert_eq!(limits, [Some(60_000)], "the step's own limit wins");
}

#[test]
fn queued_jobs_are_listed_in_the_order_in_which_they_will_start() {
    let site = Site::new(Engine::Local);
    site.configure("max_jobs = 1\n");
    let gate = "until test -e go; do sleep 0.02; done";
    let jobs: Vec<String> = (0..4).map(|_| site.launch_shell(gate, &[])).collect();
    site.record_when(&jobs[0], "runs", |record| record.started_at.is_some());
    let listed = site.relay(&["status"]);
    let listed: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(listed, ["demo#1", "demo#2", "demo#3", "demo#4"]);
    site.write("workspace-projects/demo/go", "");
    for job in &jobs {
        site.ended(job);
    }
}

#[test]
fn an_up_that_fails_leaves_no_relay_behind() {
    let site = Site::new(Engine::Local);
    // No engine answers at this address.
    let up = |engine: &str| {
        site.command(&["up", "--engine", engine])
            .env("DOCKER_HOST", "unix:///nonexistent.sock")
            .output()
            .unwrap()
    };
    site.write("platform/relay.toml", "[codex]\nsandbox = \"off\"\n");
    let failed = up("docker");
    assert_eq!(failed.status.code(), Some(5), "{}", String::from_utf8_lossy(&failed.stderr));
    let local = up("local");
    assert!(local.status.success(), "{}", String::from_utf8_lossy(&local.stderr));
    // A failed `relay up` does not stop a relay that was already up.
    assert_eq!(up("docker").status.code(), Some(2));
    site.ended(&site.launch_shell("true", &[]));
}

#[test]
fn logs_have_no_colours_without_a_terminal_unless_they_are_requested() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell(r"printf '\033[1;31mred\033[0m \033[2Jplain\n'", &[]);
    site.ended(&job);
    assert_eq!(site.relay(&["logs"]), "red plain\n");
    let colored = site.relay(&["logs", "--color", "always"]);
    assert_eq!(colored, "\u{1b}[1;31mred\u{1b}[0m plain\u{1b}[m\n");
    assert_eq!(site.relay(&["logs", "--json"]), "{\"job\":\"demo#1\",\"line\":\"red plain\"}\n");
}

#[test]
fn a_task_that_begins_with_a_dash_must_follow_two_dashes() {
    let site = Site::new(Engine::Local);
    let tip = site.refused(2, &["launch", "---x"]);
    assert!(tip.contains("'-- ---x'"), "{tip}");
    let more = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "--", "---x"];
    let job = site.relay(&more);
    assert_eq!(site.ended(job.trim()).prompt_summary, "---x");
    let tip = site.refused(2, &["launch", "--check", "-x", "task"]);
    assert!(tip.contains("'--check=-x'"), "{tip}");
    let more = ["--check=-x"];
    assert!(site.ended(&site.launch_shell("true", &more)).error.unwrap().message.contains("-x"));
}

#[test]
fn windows_line_ends_in_a_command_line_are_named() {
    let site = Site::new(Engine::Local);
    let cases: [&[&str]; 4] = [
        &["launch", "--check", "npm test\r", "x"],
        &["launch", "--setup", "a\r\nb", "x"],
        &["launch", "--runner", "shell", "a\r\nb"],
        &["run", "--", "a b\r"],
    ];
    for args in cases {
        let stderr = site.refused(2, args);
        assert!(stderr.contains("CRLF") && stderr.contains("tr -d"), "{args:?}: {stderr}");
    }
    site.write("workspace-projects/demo/setup.sh", "#!/bin/sh\r\ntrue\r\n");
    let job = site.launch_shell("true", &["--setup", "chmod +x setup.sh && ./setup.sh"]);
    site.ended(&job);
    let explained = site.relay(&["explain", &job]);
    assert!(explained.contains("CRLF"), "{explained}");
}

#[test]
fn the_requested_model_is_in_the_record_and_in_the_status() {
    for (flags, model) in [(&["--model", "m-flag"][..], "m-flag"), (&[], "m-file")] {
        let site = Site::new(Engine::Local);
        // The job fails at once, because its Codex is `/bin/false`; the record names the model all the same.
        site.configure("[codex]\nsandbox = \"off\"\nprogram = \"/bin/false\"\nmodel = \"m-file\"\n");
        let words = [&["launch", "-q", "-w", "workspace-projects/demo", "task"], flags].concat();
        let output = site.run(&words);
        let job = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(site.ended(&job).model.as_deref(), Some(model));
        assert!(site.relay(&["status", &job]).contains(model));
    }
}

#[test]
fn changed_settings_are_named_and_a_restart_applies_them_while_workers_go_on() {
    let site = Site::up(Engine::Local);
    let job = site.launch_shell("until test -e go; do sleep 0.02; done; echo done", &[]);
    let before = site.record_when(&job, "runs", |record| record.pid.is_some());
    let daemon = site.daemon_pid();
    site.configure("max_jobs = 7\n[notify]\ncommand = [\"true\"]\n[codex]\nsandbox = \"off\"\n");
    let up = site.run(&["up"]);
    let stderr = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(
        up.status.success() && stderr.contains("restart needed for notify.command: `relay restart`"),
        "{stderr}"
    );
    assert!(
        stderr.contains("new platform needed for platform.max_jobs: `relay down`, then `relay up`"),
        "{stderr}"
    );
    let refused = site.command_without_approval(&["restart"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(5), "no person has agreed");
    assert_eq!(site.daemon_pid(), daemon);
    let restarted = site.run(&["restart", "--yes"]);
    let stderr = String::from_utf8_lossy(&restarted.stderr).into_owned();
    assert!(
        restarted.status.success() && stderr.contains("new platform needed for platform.max_jobs"),
        "{stderr}"
    );
    assert_ne!(site.daemon_pid(), daemon);
    let again = site.run(&["up"]);
    assert!(!String::from_utf8_lossy(&again.stderr).contains("restart needed"));
    site.write("workspace-projects/demo/go", "");
    let after = site.ended(&job);
    assert_eq!(
        (after.state, after.epoch),
        (common::record::State::Completed, before.epoch),
        "{:?}",
        after.error
    );
    assert_eq!(site.log(&job), "done\n");
}

#[test]
fn a_restart_where_no_relay_runs_starts_one() {
    let site = Site::new(Engine::Local);
    let stdout = site.relay(&["restart", "--yes"]);
    assert!(stdout.contains("relay is up"), "{stdout}");
}

#[test]
fn a_launch_names_folders_of_its_path_that_the_relay_does_not_have() {
    let site = Site::up(Engine::Local);
    let path = format!("{}:/opt/new/bin", std::env::var("PATH").unwrap());
    let launch = |more: &[&str]| {
        let words =
            [&["launch", "--runner", "shell", "-w", "workspace-projects/demo", "echo $PATH"], more].concat();
        let output = site.command(&words).env("PATH", &path).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = launch(&[]);
    assert!(text.contains("without /opt/new/bin in its PATH: `--env PATH`"), "{text}");
    site.ended("demo#1");
    assert!(!site.log("demo#1").contains("/opt/new/bin"));
    assert!(!launch(&["--env", "PATH"]).contains("PATH:"), "the job gets this PATH");
    site.ended("demo#2");
    assert!(site.log("demo#2").contains("/opt/new/bin"));
    assert!(!launch(&["-q"]).contains("PATH:"));
    site.ended("demo#3");
}

/// Replaces `docker` by a script, because no second engine is available. The script records the context of each call.
#[test]
fn a_relay_keeps_the_docker_context_of_its_start() {
    let site = Site::new(Engine::Local);
    site.write("context", "first");
    site.write(
        "bin/docker",
        "#!/bin/sh\ncd \"${0%/bin/docker}\"\nif [ \"$1 $2\" = 'context show' ]; then exec cat context; fi\n\
         printf second >context\necho \"$DOCKER_CONTEXT\" >>calls\nexit 1\n",
    );
    fs::set_permissions(site.root().join("bin/docker"), fs::Permissions::from_mode(0o755)).unwrap();
    site.write("platform/relay.toml", "[platform]\nengine = \"docker\"\n");
    let path = format!("{}:{}", site.root().join("bin").display(), std::env::var("PATH").unwrap());
    let mut up = site.command(&["up"]);
    let failed =
        up.env("PATH", path).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT").output().unwrap();
    assert_eq!(failed.status.code(), Some(5));
    let calls = fs::read_to_string(site.root().join("calls")).unwrap();
    assert!(calls.lines().count() > 1 && calls.lines().all(|context| context == "first"), "{calls}");
    // The site needs settings without Docker for its checks at the end.
    site.configure("");
    site.relay(&["up"]);
}

#[test]
fn a_prune_that_removes_nothing_says_why() {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("true", &[]));
    let output = site.run(&["prune", "--keep", "0"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "nothing removed, 0 archived\n");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("1 job is among the newest 200, which are never removed"), "{stderr}");
}

#[test]
#[ignore = "mounts a file system"]
fn a_workspace_on_a_read_only_file_system_is_refused() {
    let Mounted { site, .. } = &Mounted::with_read_only_workspace(Site::new(Engine::Local));
    let stderr =
        site.refused(2, &["launch", "--runner", "shell", "-w", "workspace-projects/read-only", "true"]);
    assert!(stderr.contains("lies on a read-only file system: name another with -w"), "{stderr}");
    assert!(!site.root().join("platform/workers/read-only.1.json").exists());
}
