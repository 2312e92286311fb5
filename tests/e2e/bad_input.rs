//! Mistakes of users: each gets one clear line and the documented exit code, and leaves no files behind.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use relay_tests::harness::{Engine, Site};

/// Checks that the registry holds no file of a job.
fn assert_no_jobs(site: &Site) {
    let entries = fs::read_dir(site.registry()).into_iter().flatten().flatten();
    let left: Vec<_> =
        entries.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().contains('.')).collect();
    assert!(left.iter().all(|name| name == ".gitignore"), "{left:?}");
}

#[test]
fn an_invalid_launch_is_refused_with_one_line_that_names_the_mistake() {
    let site = Site::new(Engine::Local);
    site.write("empty.txt", " \n");
    let long = "x".repeat(42);
    let cases: [(&[&str], &str); 19] = [
        (&["launch", ""], "prompt"),
        (&["launch", "-f", "empty.txt"], "prompt"),
        (&["launch", "-f", "missing.txt"], "missing.txt"),
        (&["launch", "-w", "missing", "x"], "missing"),
        (&["launch", "-n", "../x", "x"], "../x"),
        (&["launch", "-n", &long, "x"], "41"),
        (&["launch", "--timeout", "5", "x"], "90s"),
        (&["launch", "--timeout", "0s", "x"], "longer than 0"),
        (&["launch", "--step-timeout", "instal=5s", "x"], "install"),
        (&["launch", "--step-timeout", "install", "x"], "install"),
        (&["launch", "--step-timeout", "install=10m", "--timeout", "5m", "x"], "install"),
        (&["launch", "--stall", "0s", "x"], "longer than 0"),
        (&["launch", "--stall", "instal=5s", "x"], "install"),
        (&["launch", "--stall", "install=99999999999999999999s", "x"], "not a duration"),
        (&["launch", "--stall", "install=10m", "x"], "--stall install=10m"),
        (&["launch", "--stall", "1m", "--step-timeout", "fetch=1m", "x"], "--stall 1m"),
        (&["launch", "--on-limit", "panic", "x"], "panic"),
        (&["launch", "--env", "RELAY_TEST_UNSET_VARIABLE", "x"], "RELAY_TEST_UNSET_VARIABLE"),
        (&["launch", "--runner", "perl", "x"], "perl"),
    ];
    for (args, named) in cases {
        let stderr = site.refused(2, args);
        assert!(stderr.contains(named), "{args:?}: {stderr}");
        assert_no_jobs(&site);
    }
}

#[test]
fn an_unknown_job_and_an_ambiguous_one_get_different_errors() {
    let site = Site::new(Engine::Local);
    for (name, command) in [("abe", "true"), ("abe-smoke", "true")] {
        site.ended(&site.launch_shell(command, &["-n", name]));
    }
    for args in [
        ["status", "nope"],
        ["logs", "nope"],
        ["events", "nope"],
        ["wait", "nope"],
        ["cancel", "abe#7"],
        ["explain", "nope"],
    ] {
        assert!(site.refused(3, &args).contains(args[1]), "{args:?}");
    }
    let stderr = site.refused(2, &["status", "ab"]);
    assert!(stderr.contains("abe") && stderr.contains("abe-smoke"), "{stderr}");
}

#[test]
fn a_mistake_in_relay_toml_is_named_with_its_line() {
    let site = Site::new(Engine::Local);
    let rule = |rest: &str| format!("[platform]\nengine = \"local\"\n[[step]]\n{rest}\n");
    let cases = [
        ("[platform]\nengine = \"local\"\n[limits]\njob = \"soon\"\n".to_owned(), 4, "soon"),
        ("[limits]\njob = \"1h\"\nsteps = { test = \"2h\" }\n".to_owned(), 3, "steps.test"),
        ("[limits]\nstalls = { install = \"10m\" }\n".to_owned(), 2, "stalls.install"),
        (rule("match = '('\nkind = \"test\""), 4, "match"),
        (rule("match = ''\nkind = \"test\""), 4, "empty"),
        (rule("match = 'x'\nkind = \"tests\""), 5, "tests"),
        (rule("match = 'x'\nkind = \"test\"\nlimit = \"0s\""), 6, "longer than 0"),
        (rule("match = 'x'\nkind = \"test\"\nlimit = \"99999999999999999999s\""), 6, "not a duration"),
        (rule("match = 'x'\nkind = \"test\"\nlimit = \"1m\"\nstall = \"2m\""), 7, "stall = 2m"),
    ];
    for (toml, line, named) in cases {
        site.write("platform/relay.toml", &toml);
        for args in [&["up"][..], &["launch", "x"]] {
            let stderr = site.refused(2, args);
            assert!(
                stderr.contains(&format!("relay.toml:{line}:")) && stderr.contains(named),
                "{args:?}: {stderr}"
            );
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    }
    assert_no_jobs(&site);
    site.configure("");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let site = Site::new(Engine::Local);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    site.configure(&format!("[relay]\nport = {port}\n"));
    let stderr = site.refused(5, &["up"]);
    assert!(stderr.contains(&port.to_string()) && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn an_engine_that_does_not_answer_is_named_with_an_alternative() {
    let site = Site::new(Engine::Local);
    site.write("platform/relay.toml", "[platform]\nengine = \"docker\"\n");
    let output = site.command(&["up"]).env("DOCKER_HOST", "unix:///nowhere/docker.sock").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("docker") && stderr.contains("--engine local"), "{stderr}");
    site.relay(&["down"]);
    site.configure("");
}

#[test]
fn a_codex_job_without_codex_is_refused_before_anything_is_written() {
    let site = Site::new(Engine::Local);
    site.configure("");
    let up = site.command(&["up"]).env("PATH", "/usr/bin:/bin").output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let stderr = site.refused(5, &["launch", "-w", "workspace-projects/demo", "do something"]);
    assert!(stderr.contains("@openai/codex"), "{stderr}");
    assert!(!site.registry().join("demo.1.json").exists());
}

#[test]
fn a_registry_that_cannot_be_written_is_named() {
    let site = Site::new(Engine::Local);
    // A file is in the folder's place, so that not even root can write there.
    site.write("platform/workers", "in the way");
    let stderr = site.refused(5, &["launch", "--runner", "shell", "-w", "workspace-projects/demo", "true"]);
    assert!(stderr.contains("platform/workers"), "{stderr}");
    fs::remove_file(site.registry()).unwrap();
}

#[test]
fn a_command_outside_of_a_project_names_the_flag_that_selects_one() {
    let site = Site::new(Engine::Local);
    let output = site.command(&["status"]).current_dir("/").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--root"), "{stderr}");
}

#[test]
fn an_empty_relay_root_is_ignored_and_one_that_does_not_exist_is_named() {
    let site = Site::new(Engine::Local);
    let status = |root: &str| {
        let output = site.command(&["status"]).env("RELAY_ROOT", root).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = status("");
    assert!(code == Some(0) && text.contains("no jobs yet"), "{code:?}: {text}");
    let text = "relay: missing: no such folder: name another with --root or RELAY_ROOT\n";
    assert_eq!(status("missing"), (Some(2), text.to_owned()));
}

#[test]
fn a_message_is_written_to_stderr_in_one_write() {
    let site = Site::new(Engine::Local);
    // Each write arrives as a datagram of its own.
    let (writes, stderr) = UnixDatagram::pair().unwrap();
    let status = site.command(&["status", "nope"]).stderr(OwnedFd::from(stderr)).status().unwrap();
    assert_eq!(status.code(), Some(3));
    let mut first = [0; 1024];
    let length = writes.recv(&mut first).unwrap();
    assert_eq!(&first[..length], b"relay: no job 'nope': `relay status -a` lists them\n");
}

#[test]
fn relay_run_does_not_wait_for_a_platform_that_can_not_start() {
    let site = Site::new(Engine::Local);
    site.write("platform/relay.toml", "[platform]\nengine = \"docker\"\n");
    let args = ["run", "-w", "workspace-projects/demo", "--", "true"];
    for _ in 0..2 {
        let output = site.command(&args).env("DOCKER_HOST", "unix:///nowhere/docker.sock").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{stderr}");
        assert!(stderr.contains("docker does not answer"), "{stderr}");
    }
    assert!(!site.registry().join("demo.1.json").exists());
    site.relay(&["down"]);
    site.configure("");
}

#[test]
fn a_codex_that_is_too_old_is_named_with_its_version() {
    let site = Site::new(Engine::Local);
    // A script takes the place of an old Codex, which can't be obtained any more. relay only reads its version.
    site.write_home("codex-0.42/codex", "#!/bin/sh\necho codex-cli 0.42.0\n");
    let old = site.home().join("codex-0.42/codex");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    site.configure(&format!("[codex]\nprogram = \"{}\"\n", old.display()));
    site.relay(&["up"]);
    let stderr = site.refused(5, &["launch", "-w", "workspace-projects/demo", "do something"]);
    assert!(stderr.contains("0.42.0") && stderr.contains("npm install"), "{stderr}");
    assert!(!site.registry().join("demo.1.json").exists());
}
