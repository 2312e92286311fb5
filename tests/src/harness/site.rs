//! [`Site`]: a separate project with a registry for each test.

mod containers;
mod daemon;
mod files;
mod jobs;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

pub use self::daemon::create_token;
pub use self::jobs::outcome;
use super::podman_user::PodmanUser;
use super::{docker, processes, programs, until};

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
    /// User of the site, if it is not the one who runs the tests.
    user: Option<PodmanUser>,
    /// Folder with the programs under test.
    programs: PathBuf,
    codex_home: PathBuf,
    /// Image of the site alone, which is removed with the site.
    own_image: Option<String>,
    /// Content of `relay.toml` when the settings were last approved.
    approved_settings: Mutex<Option<Vec<u8>>>,
}

impl Site {
    /// Creates a project without starting its relay.
    pub fn new(engine: Engine) -> Self {
        Self::make(engine, None, None)
    }

    /// Creates a project and starts its relay.
    pub fn up(engine: Engine) -> Self {
        let site = Self::new(engine);
        site.relay(&["up"]);
        site
    }

    /// Creates a project whose container uses the image `image`, which the caller must build.
    pub fn with_own_image(image: &str) -> Self {
        Self::make(Engine::Docker, Some(image.to_owned()), None)
    }

    /// Creates a project whose container of podman uses the image `image`, which the caller must build.
    pub fn in_podman(image: &str) -> Self {
        Self::make(Engine::Podman, Some(image.to_owned()), None)
    }

    /// Does the same as [`Site::in_podman`], for podman without root. Everything in the site belongs to its user.
    pub fn in_podman_without_root(image: &str, user: Option<PodmanUser>) -> Self {
        Self::make(Engine::Podman, Some(image.to_owned()), user)
    }

    fn make(engine: Engine, own_image: Option<String>, user: Option<PodmanUser>) -> Self {
        // Codex refuses a CODEX_HOME below the system's temporary folder.
        let parent =
            user.as_ref().map_or_else(|| programs::workspace().join("target/tests"), PodmanUser::folder);
        let folder = |prefix| {
            let dir = fs::create_dir_all(&parent)
                .and_then(|()| parent.canonicalize())
                .and_then(|parent| tempfile::Builder::new().prefix(prefix).tempdir_in(parent));
            dir.unwrap_or_else(|e| panic!("{}: {e}", parent.display()))
        };
        let (dir, state_home) = (folder("site-"), folder("state-"));
        let codex_home = state_home.path().join("codex-home");
        let copy_programs = |user: &PodmanUser| user.copy_programs(state_home.path());
        let programs = user.as_ref().map_or_else(|| programs::dir().clone(), copy_programs);
        let approved_settings = Mutex::default();
        let site = Self { dir, state_home, engine, user, programs, codex_home, own_image, approved_settings };
        site.write("platform/relay.toml", &site.settings(""));
        site.write("workspace-projects/demo/README", "a workspace\n");
        site.write_home(".npmrc", "update-notifier=false\n");
        site
    }

    /// Writes a `relay.toml` with additional settings: keys of `[platform]`, and then whole tables.
    pub fn configure(&self, additional: &str) {
        self.write("platform/relay.toml", &self.settings(additional));
    }

    /// Does the same as [`Site::configure`], with the real Codex and its sandbox, which is otherwise off.
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
                self.certs().display()
            ),
        }
    }

    /// Returns the folder with additional certificates for the image. Another user can't enter that of the repository, and
    /// builds images without a network.
    fn certs(&self) -> PathBuf {
        self.user
            .as_ref()
            .map_or_else(|| programs::workspace().join("docker/certs"), |_| self.root().join("docker/certs"))
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
        let mut command = self.environment(Command::new(self.programs.join("relay")));
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
        if let Some(user) = &self.user {
            user.run_as(&mut command);
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
        eprintln!("log of the agent:\n{}", daemon::log_tail(&agent));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let down = self.run(&["down", "--force"]);
        if self.engine != Engine::Local {
            let name = self.container();
            let _ = self.engine_command().args(["rm", "-f", &name]).output();
            for volume in docker::volumes(self.engine_command(), &name) {
                let _ = self.engine_command().args(["volume", "rm", "-f", &volume]).output();
            }
            if let Some(image) = &self.own_image {
                let _ = self.engine_command().args(["image", "rm", "-f", image]).output();
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
