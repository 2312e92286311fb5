//! A hostile worker that tries to read secrets, to write outside of its workspace and to reach another job.
//!
//! The worker's program is `tests/hostile/tries.py`, and `box_tries.py` in a container of its own. It runs as a shell job and as a command of the model, while
//! another job with a secret of its own is running.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::record::State;
use relay_tests::harness::figures::figure;
use relay_tests::harness::model::Model;
use relay_tests::harness::{Engine, Site, docker, programs};
use relay_tests::scripted_model::script::Script;
use relay_tests::scripted_model::{ScriptedModel, Scripts, write_codex_home};
use serde_json::json;

use crate::codex;
use crate::model_gateway::edit_codex_config;

const TRIES_PROGRAM: &str = include_str!("../../hostile/tries.py");
const BOX_TRIES_PROGRAM: &str = include_str!("../../hostile/box_tries.py");
/// Number of tries in the program.
const TRY_COUNT: usize = 42;
/// Number of tries against the container of a single job, with those of every worker.
pub(super) const BOX_TRY_COUNT: usize = TRY_COUNT + 42;
/// Key of the model, in two halves, so that no file of the test contains it.
const KEY: [&str; 2] = ["sk-proj-canary", "-of-the-model-4711"];
/// Secret of the other job, in two halves.
const OTHER_SECRET: [&str; 2] = ["canary-of-the", "-other-job-0815"];
/// Text by which the tries find the other job's process.
const OTHER_JOB_MARK: &str = "other-job-mark";

/// A site with a hostile worker, another worker, and a folder that no worker may write.
pub(super) struct AttackSite {
    pub(super) site: Site,
    /// Folder outside of all workspaces, with the file `victim`.
    outside: PathBuf,
    /// Path of the workspace, as the worker sees it.
    workspace: String,
    /// Name of the program with the tries, and their number.
    program: (&'static str, usize),
    /// True if the workers share a container.
    is_shared: bool,
    /// Host name under which a container reaches this machine.
    host: &'static str,
}

impl AttackSite {
    fn new(site: Site) -> Self {
        let outside = site.root().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("victim"), "untouched\n").unwrap();
        site.write("workspace-projects/demo/tries.py", TRIES_PROGRAM);
        site.write("workspace-projects/demo/box_tries.py", BOX_TRIES_PROGRAM);
        site.write("workspace-projects/other/README", "another workspace\n");
        let login = json!({ "OPENAI_API_KEY": KEY.concat() }).to_string();
        site.write_codex("auth.json", &login);
        let workspace = site.workspace().display().to_string();
        Self {
            site,
            outside,
            workspace,
            program: ("tries.py", TRY_COUNT),
            is_shared: false,
            host: "host.docker.internal",
        }
    }

    /// Prepares a project of podman without root, whose jobs have a container each.
    pub(super) fn without_root(site: Site) -> Self {
        let workspace = "/workspaces/demo".to_owned();
        let program = ("box_tries.py", BOX_TRY_COUNT);
        Self { workspace, program, host: "host.containers.internal", ..Self::new(site) }
    }

    /// Gives the project's folders to a user who is not root, so that workers are not root either, and builds the image.
    fn build_image_for_user(&self) {
        for folder in ["", "demo", "demo/tries.py", "demo/box_tries.py", "other"] {
            let path = self.site.root().join("workspace-projects").join(folder);
            std::os::unix::fs::chown(path, Some(1234), Some(1234)).unwrap();
        }
        self.site.relay(&["up", "--build"]);
        self.site.relay(&["down"]);
    }

    /// Starts the relay with the model's key and launches the other job; returns that job.
    fn start(&self) -> String {
        let keys = ["CODEX_API_KEY", "SCRIPTED_KEY", "ANTHROPIC_API_KEY"].map(|name| (name, KEY.concat()));
        // No request of a try leaves this machine.
        let mut up = self.site.command(&["up"]);
        let up = up.envs(keys).env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9").output().unwrap();
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let command = format!("sleep 1000; : {OTHER_JOB_MARK}");
        let start =
            "launch -q -n other -w workspace-projects/other --runner shell --env OTHER_SECRET".split(' ');
        let args: Vec<&str> = start.chain([command.as_str()]).collect();
        let launched = self.site.command(&args).env("OTHER_SECRET", OTHER_SECRET.concat()).output().unwrap();
        assert!(launched.status.success(), "{}", String::from_utf8_lossy(&launched.stderr));
        self.site.record_when("other#1", "runs", |record| record.state == State::Running);
        "other#1".to_owned()
    }

    /// Writes `context.json`, from which the program reads its targets.
    fn write_context(&self) {
        let root = self.site.root();
        let lease: serde_json::Value =
            serde_json::from_slice(&fs::read(self.site.registry().join("relay.json")).unwrap()).unwrap();
        let port =
            lease["listen"][0].as_str().and_then(|address| address.rsplit(':').next()).map(str::parse::<u16>);
        let context = json!({
            "secrets": {"key": KEY, "other": OTHER_SECRET},
            "outside": self.outside,
            "victim": self.outside.join("victim"),
            "home": self.site.home(),
            "project": root,
            "state": self.site.state_home().join("relay"),
            "codex_home": self.site.codex_home(),
            "other": Path::new(&self.workspace).with_file_name("other"),
            "other_mark": OTHER_JOB_MARK,
            "other_job": "other#1",
            "host": self.host,
            "programs": programs::dir(),
            "port": port.unwrap().unwrap(),
        });
        self.site.write("workspace-projects/demo/context.json", &context.to_string());
    }

    /// Returns the tries that succeeded, according to a file of results.
    fn successful_tries(&self, results: &str) -> BTreeSet<String> {
        let text = fs::read_to_string(self.site.workspace().join(results)).unwrap();
        assert_eq!(text.lines().count(), self.program.1, "{results}: {text}");
        text.lines().filter_map(|line| line.strip_suffix(" broke")).map(str::to_owned).collect()
    }

    /// Checks that nothing outside of the hostile worker's workspace has changed, and ends the other job, which must run.
    pub(super) fn check_others(&self, other: &str) {
        self.check_outside();
        assert_eq!(self.site.record(other).state, State::Running, "the other job goes on");
        self.site.relay(&["cancel", "--grace", "1s", other]);
    }

    /// Checks that nothing outside of the hostile worker's workspace has changed.
    fn check_outside(&self) {
        let names: Vec<_> =
            fs::read_dir(&self.outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["victim"]);
        assert_eq!(fs::read_to_string(self.outside.join("victim")).unwrap(), "untouched\n");
        let root = self.site.root();
        assert!(!self.site.home().join(".bashrc").exists());
        let codex = self.site.codex_home();
        for planted in ["AGENTS.md", "hooks.json"] {
            assert!(!codex.join(planted).exists(), "{planted}");
        }
        for settings in [root.join("platform/relay.toml"), codex.join("config.toml")] {
            assert!(!fs::read_to_string(&settings).unwrap().contains("broke"), "{}", settings.display());
        }
        assert!(!root.join("workspace-projects/other/broke").exists() || self.is_shared);
    }
}

/// Runs all tries as a shell job, beside the other job; returns the tries that succeeded, and the other job.
pub(super) fn attack_by_shell(attack_site: &AttackSite) -> (BTreeSet<String>, String) {
    let site = &attack_site.site;
    let other = attack_site.start();
    attack_site.write_context();
    let command = format!("python3 {} context.json shell.txt", attack_site.program.0);
    let shell = site.launch_shell(&command, &["--timeout", "10m"]);
    assert_eq!(site.ended(&shell).state, State::Completed, "{}", site.log(&shell));
    (attack_site.successful_tries("shell.txt"), other)
}

/// Runs all tries as a shell job and then as a command of the model; returns the tries that succeeded in either.
fn attack(attack_site: &AttackSite) -> BTreeSet<String> {
    let site = &attack_site.site;
    let (mut broke, other) = attack_by_shell(attack_site);
    let model = codex::launch(site, "[script:tries] Try.");
    assert_eq!(site.ended(&model).state, State::Completed, "{}", site.log(&model));
    broke.extend(attack_site.successful_tries("model.txt"));
    attack_site.check_others(&other);
    broke
}

#[test]
#[ignore = "needs the real Codex"]
fn no_try_of_a_hostile_worker_in_a_sandbox_succeeds() {
    let (_model, site) = codex::site(Engine::Local, "127.0.0.1");
    site.configure_in_sandbox("");
    let broke = attack(&AttackSite::new(site));
    figure(&format!(
        "trust: tries of a hostile worker on this machine that broke through: {} of {TRY_COUNT}, by a shell job or the model",
        broke.len()
    ));
    assert_eq!(broke, BTreeSet::new());
}

/// Tries that may succeed in a container, because all its workers are one user and share Codex's key.
const SHARED_IN_CONTAINER: [&str; 8] = [
    "environment_of_the_model",
    "environment_of_the_other_job",
    "memory_of_the_other_job",
    "attach_to_the_other_job",
    "login_of_codex",
    "settings_of_codex",
    "signal_the_other_job",
    "workspace_of_the_other_job",
];

#[test]
#[ignore = "needs Docker and the real Codex"]
fn no_try_of_a_hostile_worker_in_a_container_reaches_beyond_the_container() {
    let site = Site::with_own_image("relay-test-tries:1");
    let model = Model::start(env!("CARGO_BIN_EXE_scripted-model"), &docker::gateway());
    model.write_codex_home(site.codex_home());
    let mut attack_site = AttackSite::new(site);
    attack_site.workspace = "/workspaces/demo".to_owned();
    attack_site.is_shared = true;
    attack_site.build_image_for_user();
    let broke = attack(&attack_site);
    let beyond: Vec<_> = broke.iter().filter(|name| !SHARED_IN_CONTAINER.contains(&name.as_str())).collect();
    figure(&format!(
        "trust: tries of a hostile worker in a container that broke through: {} of {TRY_COUNT}, beside {} at what all jobs of it share",
        beyond.len(),
        broke.len() - beyond.len()
    ));
    assert_eq!(beyond, Vec::<&String>::new());
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn no_try_of_a_hostile_worker_in_a_container_of_its_own_succeeds() {
    let site = Site::with_own_image("relay-test-box-tries:1");
    let script = Script::new("tries").run("python3 box_tries.py context.json model.txt").say("Tried.");
    let model = ScriptedModel::start_on_thread([script].into_iter().collect::<Scripts>()).unwrap();
    write_codex_home(site.codex_home(), &model.base_url()).unwrap();
    edit_codex_config(&site, "wire_api =", "env_key = \"SCRIPTED_KEY\"\nwire_api =");
    site.configure("isolation = \"job\"\n[model]\ngateway = true\n");
    let mut attack_site = AttackSite::new(site);
    attack_site.workspace = "/workspaces/demo".to_owned();
    attack_site.program = ("box_tries.py", BOX_TRY_COUNT);
    attack_site.build_image_for_user();
    let broke = attack(&attack_site);
    let site = &attack_site.site;
    for job in ["demo#1", "demo#2"] {
        let kept = fs::read_to_string(site.file_path(job, "events.jsonl")).unwrap() + &site.log(job);
        assert!(!kept.contains(&KEY.concat()) && !kept.contains(&OTHER_SECRET.concat()), "{job}");
        for name in ["leak", "hard-leak"] {
            let output = site.run(&["output", job, name]);
            assert!(!String::from_utf8_lossy(&output.stdout).contains("token"), "{job} {name}");
        }
    }
    let requests: Vec<_> = model.requests().into_iter().map(|request| request.authorization).collect();
    assert!(
        requests.iter().all(|key| *key == Some(format!("Bearer {}", KEY.concat()))),
        "{}",
        requests.len()
    );
    figure(&format!(
        "trust: tries of a hostile worker in a container of its own that broke through: {} of {BOX_TRY_COUNT}, by a shell \
         job or the model",
        broke.len()
    ));
    assert_eq!(broke, BTreeSet::new());
}
