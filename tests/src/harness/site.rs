//! [`Site`]: a separate project with a registry for each test.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use common::event_line::EventLine;
use common::record::{JobRecord, State};
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{docker, processes, programs, until, until_engine};

/// Maximum length of a log in the message of a failed test, in bytes.
const MAX_LOG_TAIL: u64 = 4 * 1024 * 1024;

/// Engine of a site, which decides where the workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// On this machine.
    Local,
    /// In a Docker container of the site.
    Docker,
    /// In a podman container of the site.
    Podman,
}

impl Engine {
    /// Returns the name in the settings, which is also the command of a container engine.
    fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// A separate project for a test. Dropping it stops everything in it, and compares every record with its log.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    /// The user's `XDG_STATE_HOME`, outside the project, because sessions of the project must not write to it.
    state_home: TempDir,
    engine: Engine,
    codex_home: PathBuf,
    /// Image of the site alone, which is removed with the site.
    own_image: Option<String>,
    /// Content of `relay.toml` when the settings were last approved.
    approved_settings: Mutex<Option<Vec<u8>>>,
}

impl Site {
    /// Creates a project without starting its relay.
    pub fn new(engine: Engine) -> Self {
        Self::make(engine, None)
    }

    /// Creates a project and starts its relay.
    pub fn up(engine: Engine) -> Self {
        let site = Self::new(engine);
        site.relay(&["up"]);
        site
    }

    /// Creates a project whose container uses the image `image`, which the caller must build.
    pub fn with_own_image(image: &str) -> Self {
        Self::make(Engine::Docker, Some(image.to_owned()))
    }

    /// Creates a project whose container of podman uses the image `image`, which the caller must build.
    pub fn in_podman(image: &str) -> Self {
        Self::make(Engine::Podman, Some(image.to_owned()))
    }

    fn make(engine: Engine, own_image: Option<String>) -> Self {
        // Codex refuses a CODEX_HOME below the system's temporary folder.
        let parent = programs::workspace().join("target/tests");
        let folder = |prefix| {
            let dir = fs::create_dir_all(&parent)
                .and_then(|()| parent.canonicalize())
                .and_then(|parent| tempfile::Builder::new().prefix(prefix).tempdir_in(parent));
            dir.unwrap_or_else(|e| panic!("{}: {e}", parent.display()))
        };
        let (dir, state_home) = (folder("site-"), folder("state-"));
        let codex_home = state_home.path().join("codex-home");
        let site =
            Self { dir, state_home, engine, codex_home, own_image, approved_settings: Mutex::default() };
        site.write("platform/relay.toml", &site.settings(""));
        site.write("workspace-projects/demo/README", "a workspace\n");
        site.write_home(".npmrc", "update-notifier=false\n");
        site
    }

    /// Writes a `relay.toml` with additional settings: keys of `[platform]`, and then whole tables.
    pub fn configure(&self, additional: &str) {
        self.write("platform/relay.toml", &self.settings(additional));
    }

    /// Does the same as [`Site::configure`], with the default sandbox of the real Codex.
    pub fn configure_in_sandbox(&self, additional: &str) {
        let codex = programs::codex();
        self.configure(&format!(
            "[codex]\nsandbox = \"workspace-write\"\nprogram = \"{}\"\n{additional}",
            codex.display()
        ));
    }

    fn settings(&self, additional: &str) -> String {
        // A plain machine has no Codex, and so no sandbox for shell jobs.
        let with_sandbox = if self.engine == Engine::Local && !additional.contains("[codex]") {
            format!("{additional}\n[codex]\nsandbox = \"off\"\n")
        } else {
            additional.to_owned()
        };
        // The machine that runs the tests may be small or busy.
        let free = if additional.contains("min_free_") {
            ""
        } else {
            "min_free_memory = \"0\"\nmin_free_disk = \"0\"\n"
        };
        let additional = &with_sandbox;
        // Most tests look into the container of the platform, and share it between jobs.
        let isolation = if additional.contains("isolation") { "" } else { "isolation = \"shared\"\n" };
        match self.engine {
            Engine::Local => format!("[platform]\nengine = \"local\"\n{free}{additional}\n"),
            Engine::Docker | Engine::Podman => format!(
                "[platform]\nengine = \"{}\"\nname = \"{}\"\nimage = \"{}\"\ncerts = \"{}\"\n{isolation}{free}{additional}\n",
                self.engine.name(),
                self.container(),
                self.own_image.clone().unwrap_or_else(docker::image),
                programs::workspace().join("docker/certs").display()
            ),
        }
    }

    /// Returns the name of the site's container.
    pub fn container(&self) -> String {
        let name = self.root().file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        format!("relay-test-{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"))
    }

    /// Returns the names of the containers of single jobs, also of those that do not run.
    pub fn boxes(&self) -> Vec<String> {
        let registry = format!("label=relay.registry={}", self.registry().display());
        let args =
            ["ps", "-a", "--filter", &registry, "--filter", "label=relay.job", "--format", "{{.Names}}"];
        let listed = Command::new(self.engine.name()).args(args).output();
        let listed = listed.unwrap_or_else(|e| panic!("{}: {e}", self.engine.name()));
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
    }

    /// Waits until a job has a container of its own, and returns its name.
    pub fn box_of(&self, job: &str) -> String {
        let part = format!("-{}-", job.replace('#', "."));
        until_engine(&format!("{job} has a container"), || {
            self.boxes().into_iter().find(|name| name.contains(&part))
        })
    }

    /// Waits until no container of a single job is left.
    pub fn wait_for_no_box(&self) {
        until_engine("no container of a job is left", || self.boxes().is_empty().then_some(()));
    }

    /// Returns the root of the project.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the folder of the registry.
    pub fn registry(&self) -> PathBuf {
        self.root().join("platform/workers")
    }

    /// Returns the user's `XDG_STATE_HOME`.
    pub fn state_home(&self) -> &Path {
        self.state_home.path()
    }

    /// Returns the user's home. It is outside the project, because no job may work in a folder that contains a home.
    pub fn home(&self) -> PathBuf {
        self.state_home().join("home")
    }

    /// Writes a file below the user's home.
    pub fn write_home(&self, path: &str, text: &str) {
        write_file(&self.home().join(path), text);
    }

    /// Writes a file below the `CODEX_HOME`.
    pub fn write_codex(&self, path: &str, text: &str) {
        write_file(&self.codex_home().join(path), text);
    }

    /// Returns the state folder of the project.
    pub fn state(&self) -> PathBuf {
        let key = hex::encode(Sha256::digest(self.root().as_os_str().as_encoded_bytes()));
        self.state_home().join("relay").join(&key[..32])
    }

    /// Returns the state folder of the agent of engine `local`.
    pub fn agent(&self) -> PathBuf {
        self.state().join("agent")
    }

    /// Creates a valid token for a simulated agent.
    pub fn create_token(&self) -> String {
        create_token(&self.state())
    }

    /// Returns the configuration of an agent: the relay's address and certificate, and a new token.
    pub fn agent_config(&self) -> serde_json::Value {
        let address = self.address();
        let pem = fs::read_to_string(self.state().join("relay.pem")).unwrap_or_default();
        let url = format!("wss://{address}{}", common::wire::AGENT_PATH);
        serde_json::json!({"url": url, "certificate": pem, "token": self.create_token()})
    }

    /// Returns the workspace that most tests use.
    pub fn workspace(&self) -> PathBuf {
        self.root().join("workspace-projects/demo")
    }

    /// Returns the `CODEX_HOME` of the workers.
    pub fn codex_home(&self) -> &Path {
        &self.codex_home
    }

    /// Writes a file below the root.
    pub fn write(&self, path: &str, text: &str) {
        write_file(&self.root().join(path), text);
    }

    /// Returns a `relay` command in this project, ready to run, with approved settings if it needs them.
    pub fn command(&self, args: &[&str]) -> Command {
        let subcommand = args.first().copied().unwrap_or_default();
        let approves = ["up", "serve"].contains(&subcommand) && !args.contains(&"--yes");
        if ["launch", "run", "resume", "retry", "mcp"].contains(&subcommand) {
            self.approve();
        }
        self.command_without_approval(&[args, if approves { &["--yes"] } else { &[] }].concat())
    }

    /// Approves the current settings, as a user's script does, and ignores errors in them.
    pub fn approve(&self) {
        let path = self.root().join("platform/relay.toml");
        // The file may be a pipe, and reading a pipe would never end.
        let settings = path.is_file().then(|| fs::read(&path).ok()).flatten();
        let mut approved = self.approved_settings.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.is_some() && *approved != settings {
            let output = self.command_without_approval(&["up", "--yes", "--no-start"]).output();
            output.unwrap_or_else(|e| panic!("relay up: {e}"));
            *approved = settings;
        }
    }

    /// Returns a `relay` command in this project, ready to run, without approving the settings.
    pub fn command_without_approval(&self, args: &[&str]) -> Command {
        let mut command = self.environment(Command::new(programs::dir().join("relay")));
        command.args(args).current_dir(self.root()).env("CODEX_HOME", &self.codex_home);
        command
    }

    /// Gives a command an environment that is independent of the user who runs the tests.
    #[must_use]
    pub fn environment(&self, mut command: Command) -> Command {
        // Codex runs commands in a login shell, whose configuration in the user's HOME is not under test.
        command.env("HOME", self.home()).env("XDG_STATE_HOME", self.state_home());
        for name in ["RELAY_ROOT", "RELAY_JOB", "CODEX_API_KEY", "OPENAI_API_KEY", "RUST_LOG", "NO_COLOR"] {
            command.env_remove(name);
        }
        // The tests themselves may run in a session of a coding agent.
        for name in
            ["CODEX_THREAD_ID", "CLAUDECODE", "CLAUDE_CODE_SESSION_ID", "CLAUDE_PROJECT_DIR", "RELAY_SESSION"]
        {
            command.env_remove(name);
        }
        command
    }

    /// Runs a `relay` command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap_or_else(|e| panic!("relay {args:?}: {e}"))
    }

    /// Runs a `relay` command that must succeed and returns its stdout.
    pub fn relay(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let code = output.status.code();
        assert!(
            output.status.success(),
            "relay {args:?}: {code:?}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.daemon_log()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a `relay` command that must fail with the exit code `code`; returns its stderr.
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        assert_eq!(output.status.code(), Some(code), "relay {args:?}: {stderr}");
        stderr
    }

    /// Launches a shell job that waits for no other in the workspace; returns its id.
    pub fn launch_shell(&self, command_line: &str, flags: &[&str]) -> String {
        let workspace = self.workspace();
        let workspace = workspace.to_string_lossy();
        let mut args = vec!["launch", "-q", "--runner", "shell", "-w", &workspace];
        if !flags.iter().any(|arg| arg.starts_with("--branch")) {
            args.push("--share");
        }
        args.extend(flags);
        args.push(command_line);
        self.relay(&args).trim().to_owned()
    }

    /// Launches a shell job, waits until it runs, and returns its id.
    pub fn launch_running(&self, command_line: &str, flags: &[&str]) -> String {
        let job = self.launch_shell(command_line, flags);
        self.record_when(&job, "runs", |record| record.state == State::Running);
        job
    }

    /// Returns the record of a job as printed by `relay status`.
    pub fn record(&self, job: &str) -> JobRecord {
        let json = self.relay(&["status", "--json", job]);
        serde_json::from_str(&json).unwrap_or_else(|e| panic!("{job}: {e}: {json}"))
    }

    /// Waits until `is_wanted` returns true for the record of a job, which must not end before; returns the record.
    pub fn record_when(&self, job: &str, what: &str, is_wanted: impl Fn(&JobRecord) -> bool) -> JobRecord {
        until(&format!("{job} {what}"), || {
            let record = self.record(job);
            let ended_otherwise = record.state.is_final() && !is_wanted(&record);
            assert!(!ended_otherwise, "{job} ended before {what}: {record:#?}\n{}", self.daemon_log());
            is_wanted(&record).then_some(record)
        })
    }

    /// Waits until a job has ended, and returns its record.
    pub fn ended(&self, job: &str) -> JobRecord {
        self.record_when(job, "ended", |record| record.state.is_final())
    }

    /// Returns the path of a job's file, such as `events.jsonl`, in the registry or its archive.
    pub fn file_path(&self, job: &str, suffix: &str) -> PathBuf {
        let name = format!("{}.{suffix}", job.replace('#', "."));
        let archived = self.registry().join("archive").join(&name);
        if archived.exists() { archived } else { self.registry().join(name) }
    }

    /// Returns the path of a job's data in a subfolder of the state folder.
    pub fn job_state(&self, job: &str, subfolder: &str, ending: &str) -> PathBuf {
        let launched_at = self.record(job).created_at.as_millisecond();
        self.state().join(subfolder).join(format!("{}-{launched_at}.{ending}", job.replace('#', ".")))
    }

    /// Returns the lines of a job's event log, which must all be valid; none before the relay has received the job.
    pub fn events(&self, job: &str) -> Vec<EventLine> {
        let path = self.file_path(job, "events.jsonl");
        let text = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            text => text.unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        };
        text.split_inclusive(|b| *b == b'\n')
            .map(|line| EventLine::parse(line).unwrap_or_else(|e| panic!("{job}: {e}")))
            .collect()
    }

    /// Returns the output of `relay logs` for a job.
    pub fn log(&self, job: &str) -> String {
        self.relay(&["logs", job, "-n", "100000"])
    }

    /// Returns the end of the daemon's log, for the message of a failed test.
    pub fn daemon_log(&self) -> String {
        log_tail(&self.registry().join("relay.log"))
    }

    /// Waits until the relay has written its lease, and returns the daemon's process id.
    pub fn daemon_pid(&self) -> u32 {
        until("the relay has written its lease", || {
            self.lease()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
        })
    }

    /// Waits until the relay listens and returns its address.
    pub fn address(&self) -> SocketAddr {
        until("the relay listens", || self.lease()["listen"][0].as_str()?.parse().ok())
    }

    fn lease(&self) -> serde_json::Value {
        let lease = fs::read(self.registry().join("relay.json")).unwrap_or_default();
        serde_json::from_slice(&lease).unwrap_or_default()
    }

    /// Returns every living process whose working folder is in the workspace.
    pub fn workspace_processes(&self) -> Vec<processes::Process> {
        processes::inside(&self.workspace())
    }

    /// Waits until a process in the workspace runs each of these command lines.
    pub fn wait_for_commands(&self, commands: &[&str]) {
        until("all commands run", || {
            let workers = self.workspace_processes();
            commands
                .iter()
                .all(|command| workers.iter().any(|worker| worker.command == *command))
                .then_some(())
        });
    }

    /// Prints the logs of relay and agent, to help find out why a test failed.
    #[expect(clippy::print_stderr, reason = "shown in the output of a failed test")]
    fn print_logs(&self) {
        eprintln!("log of the relay:\n{}", self.daemon_log());
        let agent = self.agent().join("agent.log");
        eprintln!("log of the agent:\n{}", log_tail(&agent));
    }

    /// Compares the record of every job with the fold of its event log, byte for byte.
    fn check_records(&self) {
        let entries = fs::read_dir(self.registry()).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".events.jsonl") else { continue };
            let lines = self.events(stem);
            for (epoch, seqs) in by_epoch(&lines) {
                let dense: Vec<u64> = (1..=seqs.len() as u64).collect();
                assert_eq!(seqs, dense, "{stem}: the events of epoch {epoch} are not dense");
            }
            let on_disk =
                fs::read_to_string(self.registry().join(format!("{stem}.json"))).unwrap_or_default();
            let rebuilt = JobRecord::rebuild(&lines).and_then(|record| record.to_bytes().ok());
            let rebuilt = String::from_utf8(rebuilt.unwrap_or_default()).unwrap_or_default();
            similar_asserts::assert_eq!(rebuilt, on_disk, "the fold of {stem}'s log and its record");
        }
    }
}

/// Creates a valid token for a simulated agent: stores its hash in the project's state folder, as the relay does.
pub fn create_token(state_dir: &Path) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let token = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let hash = hex::encode(Sha256::digest(token.as_bytes()));
    let path = state_dir.join("tokens").join(format!("{hash}.json"));
    fs::write(&path, r#"{"holder":"test"}"#).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    token
}

/// Returns the end of a program's log. Does not read a pipe or device that a test has put in the log's place.
fn log_tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits().cast_signed();
        let mut file = fs::File::options().read(true).custom_flags(flags).open(log)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(format!("{} is not a file", log.display()).into_bytes());
        }
        file.seek(SeekFrom::Start(meta.len().saturating_sub(MAX_LOG_TAIL)))?;
        let mut end = Vec::new();
        file.take(MAX_LOG_TAIL).read_to_end(&mut end)?;
        Ok(end)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn write_file(path: &Path, text: &str) {
    let written = fs::create_dir_all(path.parent().unwrap_or(path)).and_then(|()| fs::write(path, text));
    written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn by_epoch(lines: &[EventLine]) -> std::collections::BTreeMap<u32, Vec<u64>> {
    let mut epochs = std::collections::BTreeMap::<u32, Vec<u64>>::new();
    for line in lines {
        epochs.entry(line.epoch).or_default().push(line.seq);
    }
    epochs
}

impl Drop for Site {
    fn drop(&mut self) {
        let down = self.run(&["down", "--force"]);
        if self.engine != Engine::Local {
            let (engine, name) = (self.engine.name(), self.container());
            let _ = Command::new(engine).args(["rm", "-f", &name]).output();
            for volume in docker::volumes(engine, &name) {
                let _ = Command::new(engine).args(["volume", "rm", "-f", &volume]).output();
            }
            if let Some(image) = &self.own_image {
                let _ = Command::new(engine).args(["image", "rm", "-f", image]).output();
            }
        }
        if std::thread::panicking() {
            return self.print_logs();
        }
        assert!(down.status.success(), "relay down: {}", String::from_utf8_lossy(&down.stderr));
        if self.engine != Engine::Local {
            assert_eq!(self.boxes(), [] as [&str; 0], "containers of jobs are left");
        }
        self.check_records();
        assert_eq!(self.workspace_processes(), [], "processes are left in the workspace");
    }
}

/// Returns the end state of a job and the kind of its failure, which most tests compare.
pub fn outcome(record: &JobRecord) -> (State, Option<common::event::FailureKind>) {
    (record.state, record.error.as_ref().map(|error| error.kind))
}
