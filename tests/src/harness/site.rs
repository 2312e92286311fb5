//! A project with a registry.

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

use super::{docker, processes, programs, until};

/// Maximum length of a log in the message of a failed test, in bytes.
const MOST_SAID: u64 = 4 * 1024 * 1024;

/// Platform of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// This machine.
    Local,
    /// A separate Docker container.
    Docker,
}

/// A separate project for a test. Dropping it stops everything and compares every record with its event log.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    /// The user's `XDG_STATE_HOME`, outside the project, because sessions of the project must not write to it.
    state_home: TempDir,
    engine: Engine,
    codex_home: PathBuf,
    /// Image that is removed with the site.
    own_image: Option<String>,
    /// Settings that the user last approved.
    approved: Mutex<Option<Vec<u8>>>,
}

impl Site {
    /// Creates a project; nothing runs yet.
    pub fn new(engine: Engine) -> Self {
        Self::make(engine, None)
    }

    /// Creates a project with a relay that is up.
    pub fn up(engine: Engine) -> Self {
        let site = Self::new(engine);
        site.relay(&["up"]);
        site
    }

    /// Creates a project whose container has a separate image, which the caller must build.
    pub fn with_own_image(image: &str) -> Self {
        Self::make(Engine::Docker, Some(image.to_owned()))
    }

    fn make(engine: Engine, own_image: Option<String>) -> Self {
        // Below the build folder, because Codex refuses a CODEX_HOME below the system's temporary folder.
        let parent = programs::workspace().join("target/tests");
        let folder = |prefix| {
            let dir = fs::create_dir_all(&parent)
                .and_then(|()| parent.canonicalize())
                .and_then(|parent| tempfile::Builder::new().prefix(prefix).tempdir_in(parent));
            dir.unwrap_or_else(|e| panic!("{}: {e}", parent.display()))
        };
        let (dir, state_home) = (folder("site-"), folder("state-"));
        let codex_home = state_home.path().join("codex-home");
        let site = Self { dir, state_home, engine, codex_home, own_image, approved: Mutex::default() };
        site.write("platform/relay.toml", &site.settings(""));
        site.write("workspace-projects/demo/README", "a workspace\n");
        site.write_home(".npmrc", "update-notifier=false\n");
        site
    }

    /// Adds settings to `relay.toml`: whole tables other than `[platform]`.
    pub fn configure(&self, more: &str) {
        self.write("platform/relay.toml", &self.settings(more));
    }

    /// Adds settings like [`Site::configure`], with the default sandbox of the real Codex.
    pub fn configure_in_sandbox(&self, more: &str) {
        let codex = programs::codex();
        self.configure(&format!(
            "[codex]\nsandbox = \"workspace-write\"\nprogram = \"{}\"\n{more}",
            codex.display()
        ));
    }

    fn settings(&self, more: &str) -> String {
        // A plain machine has no Codex, and so no sandbox for shell jobs.
        let open = if self.engine == Engine::Local && !more.contains("[codex]") {
            format!("{more}\n[codex]\nsandbox = \"off\"\n")
        } else {
            more.to_owned()
        };
        // The machine that runs the tests may be small or busy.
        let free =
            if more.contains("min_free_") { "" } else { "min_free_memory = \"0\"\nmin_free_disk = \"0\"\n" };
        let more = &open;
        match self.engine {
            Engine::Local => format!("[platform]\nengine = \"local\"\n{free}{more}\n"),
            Engine::Docker => format!(
                "[platform]\nengine = \"docker\"\nname = \"{}\"\nimage = \"{}\"\ncerts = \"{}\"\n{free}{more}\n",
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

    /// Returns the root of the project.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the registry.
    pub fn registry(&self) -> PathBuf {
        self.root().join("platform/workers")
    }

    /// Returns the user's `XDG_STATE_HOME`.
    pub fn state_home(&self) -> &Path {
        self.state_home.path()
    }

    /// Returns the user's home: outside the project, because no worker may work in a folder that contains one.
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

    /// Returns the state folder of the agent with engine `local`.
    pub fn agent(&self) -> PathBuf {
        self.state().join("agent")
    }

    /// Creates a token for a simulated agent, as valid as one created by the relay.
    pub fn mint(&self) -> String {
        mint(&self.state())
    }

    /// Returns a configuration with which a simulated agent finds the relay.
    pub fn agent_config(&self) -> serde_json::Value {
        let address = self.address();
        let pem = fs::read_to_string(self.state().join("relay.pem")).unwrap_or_default();
        let url = format!("wss://{address}{}", common::wire::AGENT_PATH);
        serde_json::json!({"url": url, "certificate": pem, "token": self.mint()})
    }

    /// Returns the workspace.
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

    /// Returns a `relay` command in this project, ready to run, by a user who agrees to the current settings.
    pub fn command(&self, args: &[&str]) -> Command {
        let verb = args.first().copied().unwrap_or_default();
        let agrees = ["up", "serve"].contains(&verb) && !args.contains(&"--yes");
        if ["launch", "run", "resume", "retry", "mcp"].contains(&verb) {
            self.approve();
        }
        self.plain_command(&[args, if agrees { &["--yes"] } else { &[] }].concat())
    }

    /// Agrees to the current settings, as a user's script does; faults in them are detected elsewhere.
    pub fn approve(&self) {
        let path = self.root().join("platform/relay.toml");
        // The file may be a pipe, and reading a pipe would never end.
        let settings = path.is_file().then(|| fs::read(&path).ok()).flatten();
        let mut approved = self.approved.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.is_some() && *approved != settings {
            let output = self.plain_command(&["up", "--yes", "--no-start"]).output();
            output.unwrap_or_else(|e| panic!("relay up: {e}"));
            *approved = settings;
        }
    }

    /// Returns a `relay` command without consent.
    pub fn plain_command(&self, args: &[&str]) -> Command {
        let mut command = self.environment(Command::new(programs::dir().join("relay")));
        command.args(args).current_dir(self.root()).env("CODEX_HOME", &self.codex_home);
        command
    }

    /// Sets an environment for a command that contains nothing of the user who runs the tests.
    #[must_use]
    pub fn environment(&self, mut command: Command) -> Command {
        // Codex runs commands in a login shell, and the shell configuration on this machine is not under test.
        command.env("HOME", self.home()).env("XDG_STATE_HOME", self.state_home());
        for name in ["RELAY_ROOT", "RELAY_JOB", "CODEX_API_KEY", "OPENAI_API_KEY", "RUST_LOG", "NO_COLOR"] {
            command.env_remove(name);
        }
        // The session in which the tests may run is not under test either.
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

    /// Runs a `relay` command that must fail with `code`; returns its stderr, a single line.
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        assert_eq!(output.status.code(), Some(code), "relay {args:?}: {stderr}");
        stderr
    }

    /// Launches a shell job and returns its id. It does not wait for other jobs in the workspace.
    pub fn launch_shell(&self, command_line: &str, more: &[&str]) -> String {
        let workspace = self.workspace();
        let workspace = workspace.to_string_lossy();
        let mut args = vec!["launch", "-q", "--runner", "shell", "-w", &workspace];
        if !more.iter().any(|arg| arg.starts_with("--branch")) {
            args.push("--share");
        }
        args.extend(more);
        args.push(command_line);
        self.relay(&args).trim().to_owned()
    }

    /// Launches a shell job, waits until it runs, and returns its id.
    pub fn launch_running(&self, command_line: &str, more: &[&str]) -> String {
        let job = self.launch_shell(command_line, more);
        self.record_when(&job, "runs", |record| record.state == State::Running);
        job
    }

    /// Returns the record of a job as printed by `relay status`.
    pub fn record(&self, job: &str) -> JobRecord {
        let json = self.relay(&["status", "--json", job]);
        serde_json::from_str(&json).unwrap_or_else(|e| panic!("{job}: {e}: {json}"))
    }

    /// Waits until the record of a job shows a fact.
    pub fn record_when(&self, job: &str, what: &str, fact: impl Fn(&JobRecord) -> bool) -> JobRecord {
        until(&format!("{job} {what}"), || {
            let record = self.record(job);
            let ended_otherwise = record.state.is_final() && !fact(&record);
            assert!(!ended_otherwise, "{job} ended before {what}: {record:#?}\n{}", self.daemon_log());
            fact(&record).then_some(record)
        })
    }

    /// Waits for the end of a job.
    pub fn ended(&self, job: &str) -> JobRecord {
        self.record_when(job, "ended", |record| record.state.is_final())
    }

    /// Returns the path of a job's file in the registry, or in its archive if it is there: `events.jsonl` and the like.
    pub fn file(&self, job: &str, ending: &str) -> PathBuf {
        let name = format!("{}.{ending}", job.replace('#', "."));
        let archived = self.registry().join("archive").join(&name);
        if archived.exists() { archived } else { self.registry().join(name) }
    }

    /// Returns the event log of a job, each line checked; empty before the relay has received the job.
    pub fn events(&self, job: &str) -> Vec<EventLine> {
        let path = self.file(job, "events.jsonl");
        let text = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            text => text.unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        };
        text.split_inclusive(|b| *b == b'\n')
            .map(|line| EventLine::parse(line).unwrap_or_else(|e| panic!("{job}: {e}")))
            .collect()
    }

    /// Returns the log of a job.
    pub fn log(&self, job: &str) -> String {
        self.relay(&["logs", job, "-n", "100000"])
    }

    /// Returns the log of the daemon, for the message of a failed test.
    pub fn daemon_log(&self) -> String {
        said(&self.registry().join("relay.log"))
    }

    /// Returns the daemon's process id.
    pub fn daemon_pid(&self) -> u32 {
        until("a relay has written its lease", || {
            self.lease()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
        })
    }

    /// Waits until the relay listens and returns its address.
    pub fn address(&self) -> SocketAddr {
        until("the relay tells where it listens", || self.lease()["listen"][0].as_str()?.parse().ok())
    }

    fn lease(&self) -> serde_json::Value {
        let lease = fs::read(self.registry().join("relay.json")).unwrap_or_default();
        serde_json::from_slice(&lease).unwrap_or_default()
    }

    /// Returns every living process in the workspace.
    pub fn workers(&self) -> Vec<processes::Process> {
        processes::inside(&self.workspace())
    }

    /// Waits until a process in the workspace runs each of these command lines.
    pub fn wait_for_workers(&self, commands: &[&str]) {
        until("all commands run", || {
            let workers = self.workers();
            commands
                .iter()
                .all(|command| workers.iter().any(|worker| worker.command == *command))
                .then_some(())
        });
    }

    /// Prints the logs of relay and agent, to help find out why a test failed.
    #[expect(clippy::print_stderr, reason = "shown in the output of a failed test")]
    fn tell(&self) {
        eprintln!("the relay said:\n{}", self.daemon_log());
        let agent = self.agent().join("agent.log");
        eprintln!("the agent said:\n{}", said(&agent));
    }

    /// Compares the record of every ended job with the fold of its event log, byte for byte.
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

/// Creates a token for a simulated agent: the relay's copy of it is stored in the user's `state` folder.
pub fn mint(state: &Path) -> String {
    static MINTED: AtomicU32 = AtomicU32::new(0);
    let token = format!("test-{}-{}", std::process::id(), MINTED.fetch_add(1, Ordering::Relaxed));
    let hash = hex::encode(Sha256::digest(token.as_bytes()));
    let path = state.join("tokens").join(format!("{hash}.json"));
    fs::write(&path, r#"{"holder":"test"}"#).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    token
}

/// Returns the end of a program's log. Does not read a pipe or device that a test has put in its place.
fn said(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits().cast_signed();
        let mut file = fs::File::options().read(true).custom_flags(flags).open(log)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(format!("{} is not a file", log.display()).into_bytes());
        }
        file.seek(SeekFrom::Start(meta.len().saturating_sub(MOST_SAID)))?;
        let mut end = Vec::new();
        file.take(MOST_SAID).read_to_end(&mut end)?;
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
        if self.engine == Engine::Docker {
            let name = self.container();
            let _ = Command::new("docker").args(["rm", "-f", &name]).output();
            for volume in docker::volumes(&name) {
                let _ = Command::new("docker").args(["volume", "rm", "-f", &volume]).output();
            }
            if let Some(image) = &self.own_image {
                let _ = Command::new("docker").args(["image", "rm", "-f", image]).output();
            }
        }
        if std::thread::panicking() {
            return self.tell();
        }
        assert!(down.status.success(), "relay down: {}", String::from_utf8_lossy(&down.stderr));
        self.check_records();
        assert_eq!(self.workers(), [], "processes are left in the workspace");
    }
}

/// Returns the end state of a job and the kind of its failure: the parts that most tests compare.
pub fn outcome(record: &JobRecord) -> (State, Option<common::event::FailureKind>) {
    (record.state, record.error.as_ref().map(|error| error.kind))
}
