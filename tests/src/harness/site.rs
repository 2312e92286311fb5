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

/// Most of a log that the message of a failed test shows, in bytes.
const MOST_SAID: u64 = 4 * 1024 * 1024;

/// What a site's platform runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// This machine.
    Local,
    /// A container of Docker, of its own.
    Docker,
}

/// A project of its own. Dropping it stops everything and holds every record against its event log.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    /// Where relay keeps what sessions of the project must not write: outside of it.
    state_home: TempDir,
    engine: Engine,
    codex_home: PathBuf,
    /// An image that goes when the site does.
    own_image: Option<String>,
    /// The settings that a person has agreed to last.
    agreed: Mutex<Option<Vec<u8>>>,
}

impl Site {
    /// Makes a project; nothing runs yet.
    ///
    /// # Panics
    /// When its folder can't be made.
    pub fn new(engine: Engine) -> Self {
        Self::make(engine, None)
    }

    /// Makes a project whose container has an image of its own, which whoever asks has to build.
    ///
    /// # Panics
    /// When its folder can't be made.
    pub fn with_own_image(image: &str) -> Self {
        Self::make(Engine::Docker, Some(image.to_owned()))
    }

    fn make(engine: Engine, own_image: Option<String>) -> Self {
        // Below the build's folder: Codex refuses a CODEX_HOME below the system's temporary one.
        let parent = programs::workspace().join("target/tests");
        let folder = |prefix| {
            let dir = fs::create_dir_all(&parent)
                .and_then(|()| parent.canonicalize())
                .and_then(|parent| tempfile::Builder::new().prefix(prefix).tempdir_in(parent));
            dir.unwrap_or_else(|e| panic!("{}: {e}", parent.display()))
        };
        let (dir, state_home) = (folder("site-"), folder("state-"));
        let codex_home = state_home.path().join("codex-home");
        let site = Self { dir, state_home, engine, codex_home, own_image, agreed: Mutex::default() };
        site.write("platform/relay.toml", &site.settings(""));
        site.write("workspace-projects/demo/README", "a workspace\n");
        site.write_home(".npmrc", "update-notifier=false\n");
        site
    }

    /// Adds settings to `relay.toml`: whole tables other than `[platform]`.
    pub fn configure(&self, more: &str) {
        self.write("platform/relay.toml", &self.settings(more));
    }

    /// The same with the sandbox that a person gets who says nothing of it: the real Codex's.
    pub fn configure_in_sandbox(&self, more: &str) {
        let codex = programs::codex();
        self.configure(&format!(
            "[codex]\nsandbox = \"workspace-write\"\nprogram = \"{}\"\n{more}",
            codex.display()
        ));
    }

    fn settings(&self, more: &str) -> String {
        // A plain machine has no Codex whose sandbox could be around shell jobs.
        let open = if self.engine == Engine::Local && !more.contains("[codex]") {
            format!("{more}\n[codex]\nsandbox = \"off\"\n")
        } else {
            more.to_owned()
        };
        let more = &open;
        match self.engine {
            Engine::Local => format!("[platform]\nengine = \"local\"\n{more}\n"),
            Engine::Docker => format!(
                "[platform]\nengine = \"docker\"\nname = \"{}\"\nimage = \"{}\"\ncerts = \"{}\"\n{more}\n",
                self.container(),
                self.own_image.clone().unwrap_or_else(docker::image),
                programs::workspace().join("docker/certs").display()
            ),
        }
    }

    /// The name of its container.
    pub fn container(&self) -> String {
        let name = self.root().file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        format!("relay-test-{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"))
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Its registry.
    pub fn registry(&self) -> PathBuf {
        self.root().join("platform/workers")
    }

    /// `XDG_STATE_HOME` of its person.
    pub fn state_home(&self) -> &Path {
        self.state_home.path()
    }

    /// The home of its person: beside the project, since no worker may work in a folder that holds one.
    pub fn home(&self) -> PathBuf {
        self.state_home().join("home")
    }

    /// Writes a file below that home.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write_home(&self, path: &str, text: &str) {
        write_file(&self.home().join(path), text);
    }

    /// Writes a file below its `CODEX_HOME`.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write_codex(&self, path: &str, text: &str) {
        write_file(&self.codex_home().join(path), text);
    }

    /// Its state folder.
    pub fn state(&self) -> PathBuf {
        let key = hex::encode(Sha256::digest(self.root().as_os_str().as_encoded_bytes()));
        self.state_home().join("relay").join(&key[..32])
    }

    /// State of its agent with engine `local`.
    pub fn agent(&self) -> PathBuf {
        self.state().join("agent")
    }

    /// Makes a token for an agent of the test's own, as valid as one that the relay has made.
    ///
    /// # Panics
    /// When it can't be stored.
    pub fn mint(&self) -> String {
        mint(&self.state())
    }

    /// A configuration with which an agent of the test's own finds the relay.
    pub fn agent_config(&self) -> serde_json::Value {
        let address = self.address();
        let pem = fs::read_to_string(self.state().join("relay.pem")).unwrap_or_default();
        let url = format!("wss://{address}{}", common::wire::AGENT_PATH);
        serde_json::json!({"url": url, "certificate": pem, "token": self.mint()})
    }

    /// Its workspace.
    pub fn workspace(&self) -> PathBuf {
        self.root().join("workspace-projects/demo")
    }

    /// The `CODEX_HOME` of its workers.
    pub fn codex_home(&self) -> &Path {
        &self.codex_home
    }

    /// Writes a file below the root.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write(&self, path: &str, text: &str) {
        write_file(&self.root().join(path), text);
    }

    /// A `relay` command in this project, ready to run, of a person who agrees to the settings as they are.
    pub fn command(&self, args: &[&str]) -> Command {
        let verb = args.first().copied().unwrap_or_default();
        let agrees = ["up", "serve"].contains(&verb) && !args.contains(&"--yes");
        if ["launch", "run", "resume", "retry", "mcp"].contains(&verb) {
            self.agree();
        }
        self.plain_command(&[args, if agrees { &["--yes"] } else { &[] }].concat())
    }

    /// Agrees to the settings as a script of a person does; what is wrong with them shows elsewhere.
    ///
    /// # Panics
    /// When `relay` can't be run.
    pub fn agree(&self) {
        let path = self.root().join("platform/relay.toml");
        // Reading a pipe in its place would never end.
        let settings = path.is_file().then(|| fs::read(&path).ok()).flatten();
        let mut agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.is_some() && *agreed != settings {
            let output = self.plain_command(&["up", "--yes", "--no-start"]).output();
            output.unwrap_or_else(|e| panic!("relay up: {e}"));
            *agreed = settings;
        }
    }

    /// A `relay` command without consent.
    pub fn plain_command(&self, args: &[&str]) -> Command {
        let mut command = self.environment(Command::new(programs::dir().join("relay")));
        command.args(args).current_dir(self.root()).env("CODEX_HOME", &self.codex_home);
        command
    }

    /// Gives a command an environment in which nothing of the person's who runs the tests is left.
    #[must_use]
    pub fn environment(&self, mut command: Command) -> Command {
        // Codex runs commands in a login shell: what the person at this machine has in theirs is not under test.
        command.env("HOME", self.home()).env("XDG_STATE_HOME", self.state_home());
        for name in ["RELAY_ROOT", "RELAY_JOB", "CODEX_API_KEY", "OPENAI_API_KEY", "RUST_LOG", "NO_COLOR"] {
            command.env_remove(name);
        }
        // Nor is the session that they may run in.
        for name in
            ["CODEX_THREAD_ID", "CLAUDECODE", "CLAUDE_CODE_SESSION_ID", "CLAUDE_PROJECT_DIR", "RELAY_SESSION"]
        {
            command.env_remove(name);
        }
        command
    }

    /// Runs a `relay` command to its end.
    ///
    /// # Panics
    /// When it can't be run.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap_or_else(|e| panic!("relay {args:?}: {e}"))
    }

    /// Runs a `relay` command that has to succeed and returns its stdout.
    ///
    /// # Panics
    /// When it fails.
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

    /// Runs a `relay` command that has to fail with `code` and one line, which is returned.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        assert_eq!(output.status.code(), Some(code), "relay {args:?}: {stderr}");
        stderr
    }

    /// Launches a shell job and returns its id.
    pub fn launch_shell(&self, command_line: &str, more: &[&str]) -> String {
        let workspace = self.workspace();
        let workspace = workspace.to_string_lossy();
        let mut args = vec!["launch", "-q", "--runner", "shell", "-w", &workspace];
        args.extend(more);
        args.push(command_line);
        self.relay(&args).trim().to_owned()
    }

    /// A job's record as `relay status` gives it.
    ///
    /// # Panics
    /// When there is none.
    pub fn record(&self, job: &str) -> JobRecord {
        let json = self.relay(&["status", "--json", job]);
        serde_json::from_str(&json).unwrap_or_else(|e| panic!("{job}: {e}: {json}"))
    }

    /// Waits until a job's record shows a fact.
    ///
    /// # Panics
    /// When the job ends without it, or it takes too long.
    pub fn record_when(&self, job: &str, what: &str, fact: impl Fn(&JobRecord) -> bool) -> JobRecord {
        until(&format!("{job} {what}"), || {
            let record = self.record(job);
            let ended_otherwise = record.state.is_final() && !fact(&record);
            assert!(!ended_otherwise, "{job} ended before {what}: {record:#?}\n{}", self.daemon_log());
            fact(&record).then_some(record)
        })
    }

    /// Waits for a job's end.
    pub fn ended(&self, job: &str) -> JobRecord {
        self.record_when(job, "ended", |record| record.state.is_final())
    }

    /// A job's file in the registry, or in its archive where that has it: `events.jsonl` and the like.
    pub fn file(&self, job: &str, ending: &str) -> PathBuf {
        let name = format!("{}.{ending}", job.replace('#', "."));
        let archived = self.registry().join("archive").join(&name);
        if archived.exists() { archived } else { self.registry().join(name) }
    }

    /// A job's event log, each line checked; nothing before the relay has seen the job.
    ///
    /// # Panics
    /// When a line can't be believed.
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

    /// A job's log.
    pub fn log(&self, job: &str) -> String {
        self.relay(&["logs", job, "-n", "100000"])
    }

    /// What the daemon said, for the message of a failed test.
    pub fn daemon_log(&self) -> String {
        said(&self.registry().join("relay.log"))
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// When there is no lease.
    pub fn daemon_pid(&self) -> u32 {
        until("a relay has written its lease", || {
            self.lease()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
        })
    }

    /// Where its relay listens, once it does.
    ///
    /// # Panics
    /// When none does.
    pub fn address(&self) -> SocketAddr {
        until("the relay tells where it listens", || self.lease()["listen"][0].as_str()?.parse().ok())
    }

    fn lease(&self) -> serde_json::Value {
        let lease = fs::read(self.registry().join("relay.json")).unwrap_or_default();
        serde_json::from_slice(&lease).unwrap_or_default()
    }

    /// Every living process in the workspace.
    pub fn workers(&self) -> Vec<processes::Process> {
        processes::inside(&self.workspace())
    }

    /// Says what relay and agent said, for whoever has to find out why a test failed.
    #[expect(clippy::print_stderr, reason = "a failed test's output is where it is looked for")]
    fn tell(&self) {
        eprintln!("the relay said:\n{}", self.daemon_log());
        let agent = self.agent().join("agent.log");
        eprintln!("the agent said:\n{}", said(&agent));
    }

    /// Holds every ended job's record against the fold of its event log, byte for byte.
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

/// Makes a token for an agent of the test's own: what the relay keeps of it lies in the person's `state` folder.
///
/// # Panics
/// When it can't be stored.
pub fn mint(state: &Path) -> String {
    static MINTED: AtomicU32 = AtomicU32::new(0);
    let token = format!("test-{}-{}", std::process::id(), MINTED.fetch_add(1, Ordering::Relaxed));
    let hash = hex::encode(Sha256::digest(token.as_bytes()));
    let path = state.join("tokens").join(format!("{hash}.json"));
    fs::write(&path, r#"{"holder":"test"}"#).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    token
}

/// The end of a program's log. A test may have put a pipe or a device in its place, which is never read.
fn said(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits().cast_signed();
        let mut file = fs::File::options().read(true).custom_flags(flags).open(log)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(format!("{} is no file", log.display()).into_bytes());
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

/// The state in which a job ended, with its reason: what most tests compare.
pub fn outcome(record: &JobRecord) -> (State, Option<common::event::FailureKind>) {
    (record.state, record.error.as_ref().map(|error| error.kind))
}
