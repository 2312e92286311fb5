use std::fs;

use common::place::PlaceSpec;

use super::*;
use crate::exit::ExitCode;
use crate::model_server::LoginSettings;

fn config(root: &Path, text: &str) -> Config {
    fs::create_dir_all(root.join("platform")).unwrap();
    fs::create_dir_all(root.join("workspace-projects/demo")).unwrap();
    fs::write(root.join("platform/relay.toml"), text).unwrap();
    Config::load(root).unwrap()
}

fn spec(workspace: &str) -> JobSpec {
    let golden = include_str!("../../tests/golden/v1/codex.spec.json");
    let spec: JobSpec = serde_json::from_str(golden).unwrap();
    JobSpec {
        workspace: workspace.to_owned(),
        env: std::collections::BTreeMap::new(),
        codex: CodexSettings::default(),
        ..spec
    }
}

fn project_root() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    (dir, root)
}

#[test]
fn program_sandbox_and_approved_arguments_come_from_the_settings() {
    let (_dir, root) = project_root();
    let config = config(&root, "[codex]\nprogram = \"/opt/codex\"\nargs = [\"-c\", \"notify=[]\"]\n");
    let demo = root.join("workspace-projects/demo");
    let policy = JobPolicy::new(EngineKind::Local, &config);
    for args in [&[][..], &["-c", "notify=[]"], &["--search"], &["-c", "notify=[]", "--search"]] {
        let mut forged = spec(demo.to_str().unwrap());
        forged.codex = CodexSettings {
            program: "/tmp/evil".to_owned(),
            model: None,
            sandbox: Sandbox::Off,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        let authorized = policy.authorize(forged).unwrap().codex;
        assert_eq!((&*authorized.program, authorized.sandbox), ("/opt/codex", Sandbox::WorkspaceWrite));
        assert_eq!(authorized.args[..2], ["-c", "notify=[]"]);
        assert_eq!(authorized.args.len() == 3, args.contains(&"--search"));
    }
}

#[test]
fn a_container_job_may_set_any_variable_but_its_workspace_is_no_link() {
    let (_dir, root) = project_root();
    let config = config(&root, "");
    std::os::unix::fs::symlink("/etc", root.join("workspace-projects/etc")).unwrap();
    let policy = JobPolicy::new(EngineKind::Docker, &config);
    let mut allowed = spec("/workspaces/demo");
    allowed.env.insert("PATH".to_owned(), "/x".to_owned());
    allowed.codex.args = vec!["--enable".to_owned(), "x".to_owned()];
    assert!(policy.authorize(allowed).is_ok());
    assert!(policy.authorize(spec("/workspaces")).is_ok());
    for refused_path in
        ["/workspaces/etc", "/etc", "/workspaces/../etc", "/workspaces/demo/..", "/workspaces/gone", "demo"]
    {
        assert!(policy.authorize(spec(refused_path)).is_err(), "{refused_path}");
    }
}

#[test]
fn folders_that_git_and_host_agents_act_on_are_no_workspaces() {
    let (_dir, root) = project_root();
    let config = config(&root, "");
    let policy = JobPolicy::new(EngineKind::Local, &config);
    for name in RESERVED_FOLDERS {
        let folder = root.join("workspace-projects").join(name).join("x");
        fs::create_dir_all(&folder).unwrap();
        let error = policy.authorize(spec(folder.to_str().unwrap())).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn an_invalid_spec_and_the_spec_of_another_job_are_refused() {
    let (_dir, root) = project_root();
    let policy = JobPolicy::new(EngineKind::Local, &config(&root, ""));
    let job: JobId = "a#1".parse().unwrap();
    for text in ["", "{}", "[]", &"x".repeat(MAX_SPEC + 1)] {
        assert!(policy.authorize_text(&job, text, "/w").unwrap_err().contains("launch it again"));
    }
    let other_spec = spec(root.join("workspace-projects/demo").to_str().unwrap());
    let other_spec = serde_json::to_string(&JobSpec { job: "b#1".parse().unwrap(), ..other_spec }).unwrap();
    assert!(policy.authorize_text(&job, &other_spec, "/w").unwrap_err().contains("another job"));
}

#[test]
fn programs_that_a_session_could_replace_are_refused() {
    let (_dir, root) = project_root();
    fs::write(root.join("notify.sh"), "true").unwrap();
    for text in [
        "[notify]\ncommand = [\"sh\", \"notify.sh\"]\n",
        "[notify]\ncommand = [\"./notify.sh\"]\n",
        "[notify]\ncodex = \"./notify.sh\"\n",
        "[codex]\nprogram = \"./notify.sh\"\n",
    ] {
        let error = check_settings(EngineKind::Local, &config(&root, text)).unwrap_err().message;
        assert!(error.contains("notify.sh lies in the project"), "{error}");
    }
    assert!(
        check_settings(EngineKind::Local, &config(&root, "[notify]\ncommand = [\"sh\", \"x\"]\n")).is_ok()
    );
}

#[test]
fn a_chatgpt_login_is_not_copied_into_the_containers_of_jobs() {
    let (_dir, root) = project_root();
    let login = || {
        let login = LoginSettings { auth_file: "/h/auth.json".into(), refresh_url: "https://h".to_owned() };
        Ok(UpstreamSettings { login: Some(login), ..UpstreamSettings::default() })
    };
    let check = |text: &str, settings: &dyn Fn() -> Result<UpstreamSettings, String>| {
        check_login(EngineKind::Docker, &config(&root, text), settings).map_err(|failure| failure.message)
    };
    let off = "[model]\ngateway = false\n";
    assert!(check(off, &login).unwrap_err().contains("remove that line"));
    assert_eq!(check(off, &|| Ok(UpstreamSettings::default())), Ok(()));
    assert_eq!(check(off, &|| Err("no key".to_owned())), Ok(()));
    assert_eq!(check("", &login), Ok(()));
    assert_eq!(check(&format!("[platform]\nisolation = \"shared\"\n{off}"), &login), Ok(()));
    assert!(check_login(EngineKind::Local, &config(&root, off), login).is_ok());
}

#[test]
fn a_list_of_hosts_that_jobs_can_t_be_kept_to_is_refused() {
    let (_dir, root) = project_root();
    let check = |engine, text: &str| {
        check_settings(engine, &config(&root, text)).map_err(|failure| (failure.code, failure.message))
    };
    let allow = "[network]\nallow = [\"npm\"]\n";
    assert_eq!(check(EngineKind::Docker, allow), Ok(()));
    for (engine, other, remedy) in [
        (EngineKind::Docker, "[model]\ngateway = false\n", "set gateway = true in [model]"),
        (EngineKind::Podman, "[platform]\nisolation = \"shared\"\n", "set isolation = \"job\" in [platform]"),
        (EngineKind::Local, "", "use --engine docker or podman"),
    ] {
        assert_eq!(check(engine, other), Ok(()));
        let (code, message) = check(engine, &format!("{other}{allow}")).unwrap_err();
        assert_eq!(code, ExitCode::Usage);
        assert!(message.starts_with("[network] allow: ") && message.contains(remedy), "{message}");
    }
}

#[test]
fn programs_where_workers_or_sessions_can_write_are_refused_even_if_missing() {
    let (_dir, root) = project_root();
    let workspaces_folder = protected_paths::resolve_links(Path::new("/var/lib/workspaces"));
    for (program, location) in [
        ("/var/lib/workspaces/demo/codex", "the workspaces folder"),
        ("/tmp/no-such-program", "a folder for temporary files"),
        ("/opt/no-such-program", ""),
    ] {
        let text = format!(
            "[platform]\nworkspaces = \"{}\"\n[notify]\ncommand = [\"{program}\"]\n",
            workspaces_folder.display()
        );
        let error =
            check_settings(EngineKind::Local, &config(&root, &text)).map_err(|failure| failure.message);
        match error {
            Ok(()) => assert_eq!(location, "", "{program}"),
            Err(error) => {
                assert!(
                    !location.is_empty() && error.contains(&format!("{program} lies in {location}")),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_job_that_waited_for_another_engine_works_in_the_same_folder() {
    let (_dir, root) = project_root();
    let config = config(&root, "");
    let host = root.join("workspace-projects/demo").to_str().unwrap().to_owned();
    let sent_workspace = |engine, workspace: &str, host: &str| {
        let spec = spec(workspace);
        let text = serde_json::to_string(&spec).unwrap();
        let sent_workspace = JobPolicy::new(engine, &config).authorize_text(&spec.job, &text, host)?;
        Ok::<_, String>(serde_json::from_str::<JobSpec>(&sent_workspace).unwrap().workspace)
    };
    assert_eq!(sent_workspace(EngineKind::Local, "/workspaces/demo", &host).as_ref(), Ok(&host));
    assert_eq!(sent_workspace(EngineKind::Local, &host, &host).as_ref(), Ok(&host));
    assert_eq!(sent_workspace(EngineKind::Docker, &host, &host).as_deref(), Ok("/workspaces/demo"));
    assert_eq!(
        sent_workspace(EngineKind::Docker, "/workspaces/demo", &host).as_deref(),
        Ok("/workspaces/demo")
    );
    // A record forged by a session permits no more than a spec does.
    assert!(sent_workspace(EngineKind::Local, "/workspaces/demo", "/etc").is_err());
    assert!(
        sent_workspace(EngineKind::Docker, "/etc", "/etc").unwrap_err().contains("outside of /workspaces")
    );
}

#[test]
fn a_job_with_its_own_clone_may_name_any_repository_of_the_project() {
    let (_dir, root) = project_root();
    let config = config(&root, "");
    let id = "0123456789abcdef0123456789abcdef01234567";
    for engine in [EngineKind::Docker, EngineKind::Local] {
        let policy = JobPolicy::new(engine, &config);
        let with_place = |folder: &Path| JobSpec {
            place: Some(PlaceSpec::new(id, id, "relay/demo-1", "").unwrap()),
            ..spec(folder.to_str().unwrap())
        };
        for folder in [root.clone(), root.join("workspace-projects/demo")] {
            let job = policy.authorize(with_place(&folder)).unwrap();
            assert_eq!(policy.host_workspace(&job), folder);
            // The given folder on the host replaces the workspace in the spec.
            let text = serde_json::to_string(&with_place(Path::new("/workspaces/other"))).unwrap();
            let text = policy.authorize_text(&job.job, &text, folder.to_str().unwrap()).unwrap();
            assert_eq!(serde_json::from_str::<JobSpec>(&text).unwrap().workspace, job.workspace);
        }
        for outside_folder in ["/etc", "/root", "/workspaces/demo"] {
            let error = policy.authorize(with_place(Path::new(outside_folder))).unwrap_err();
            assert!(error.contains("outside of the project") || error.contains("No such file"), "{error}");
        }
        let error = policy.authorize(with_place(&root.join(".git"))).unwrap_err();
        assert!(error.contains(".git"), "{error}");
    }
}
