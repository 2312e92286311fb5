//! The relay and the agent as children of the test, so that the test can kill them at a chosen system call.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use relay_tests::harness::{Site, programs, until};
use rustix::process::{Pid, Signal, kill_process};

/// System call of a program at which `strace` kills it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KillPoint {
    /// Name of the system call; the program dies before the call takes effect.
    pub(crate) call: &'static str,
    /// Number of the call, from 1, counted in each thread.
    pub(crate) nth: u32,
}

/// A running program; dropping this value kills it.
pub(crate) struct Program {
    child: Child,
    /// True if the child is `strace`, which runs the program.
    is_traced: bool,
}

impl Program {
    /// Starts the relay's daemon, under `strace` if there is a kill point.
    pub(crate) fn relay(site: &Site, kill_point: Option<KillPoint>) -> Self {
        // `strace` must follow threads, because the writer is not the first thread.
        Self::start(site, &site.command(&["serve"]), kill_point, &["-f"])
    }

    /// Configures and starts the agent of a site, under `strace` if there is a kill point.
    pub(crate) fn agent(site: &Site, kill_point: Option<KillPoint>) -> Self {
        let program = programs::dir().join("worker-agent");
        let mut configure = Command::new(&program);
        configure.args(["configure", "--state"]).arg(site.agent()).stdin(Stdio::piped());
        let mut configure = configure.spawn().unwrap();
        let mut config = site.agent_config();
        // The relay would configure the same values.
        config["codex"] = serde_json::json!(site.state_home().join("talker"));
        config["sandbox"] = serde_json::json!("off");
        config["env"] = serde_json::json!({"CODEX_HOME": site.codex_home(), "HOME": site.home()});
        let config = serde_json::to_vec(&config).unwrap();
        configure.stdin.take().unwrap().write_all(&config).unwrap();
        assert!(configure.wait().unwrap().success());
        let mut command = Command::new(program);
        command.arg("run").arg("--state").arg(site.agent());
        // `strace` must not follow child processes, which must not be killed. The first thread does the relevant work.
        Self::start(site, &command, kill_point, &[])
    }

    fn start(site: &Site, command: &Command, kill_point: Option<KillPoint>, follow: &[&str]) -> Self {
        let mut program = match kill_point {
            None => Command::new(command.get_program()),
            Some(KillPoint { call, nth }) => {
                let mut strace = Command::new("strace");
                strace.args(follow).args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
                strace.args(["-e", &format!("inject={call}:signal=SIGKILL:when={nth}"), "--"]);
                strace.arg(command.get_program());
                strace
            }
        };
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => program.env(name, value),
                None => program.env_remove(name),
            };
        }
        program.args(command.get_args().map(OsStr::to_owned)).current_dir(site.root());
        let log = std::fs::File::options().append(true).create(true).open(site.registry().join("relay.log"));
        let child = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap()).spawn().unwrap();
        Self { child, is_traced: kill_point.is_some() }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills the program as `kill -9` does, if it is still running.
    pub(crate) fn kill(&mut self) {
        if self.has_ended() {
            return;
        }
        if self.is_traced {
            // The traced program has to die first: it would survive the end of `strace`.
            let children = format!("/proc/{0}/task/{0}/children", self.child.id());
            let child = std::fs::read_to_string(children).unwrap_or_default();
            kill(child.split_whitespace().next().and_then(|pid| pid.parse().ok()));
            until("strace has ended", || self.has_ended().then_some(()));
        } else {
            kill(i32::try_from(self.child.id()).ok());
            self.child.wait().unwrap();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn kill(pid: Option<i32>) {
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // An error says that the process has already ended.
        let _ = kill_process(pid, Signal::KILL);
    }
}
