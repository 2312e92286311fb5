//! The relay and the agent as children of the test, so that it can kill them at a chosen place.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use relay_tests::harness::{Site, programs, until};
use rustix::process::{Pid, Signal, kill_process};

/// Place in its own work where a program is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// System call at whose beginning it dies.
    pub(crate) call: &'static str,
    /// Number of that call, from 1, counted in each thread.
    pub(crate) nth: u32,
}

/// A program that is killed on drop.
pub(crate) struct Program {
    child: Child,
    traced: bool,
}

impl Program {
    /// Starts the relay's daemon; with a place, under `strace`, which kills it there.
    pub(crate) fn relay(site: &Site, place: Option<Place>) -> Self {
        // The writing thread is not the first one.
        Self::start(site, &site.command(&["serve"]), place, &["-f"])
    }

    /// Starts the agent whose state is in a site's registry; with a place, under `strace`, which kills it there.
    pub(crate) fn agent(site: &Site, place: Option<Place>) -> Self {
        let program = programs::dir().join("worker-agent");
        let mut configure = Command::new(&program);
        configure.args(["configure", "--state"]).arg(site.agent()).stdin(Stdio::piped());
        let mut configure = configure.spawn().unwrap();
        let mut config = site.agent_config();
        // As the relay would configure it.
        config["codex"] = serde_json::json!(site.state_home().join("talker"));
        config["sandbox"] = serde_json::json!("off");
        config["env"] = serde_json::json!({"CODEX_HOME": site.codex_home(), "HOME": site.home()});
        let config = serde_json::to_vec(&config).unwrap();
        configure.stdin.take().unwrap().write_all(&config).unwrap();
        assert!(configure.wait().unwrap().success());
        let mut command = Command::new(program);
        command.arg("run").arg("--state").arg(site.agent());
        // Its first thread does the relevant work; its child processes must not be killed.
        Self::start(site, &command, place, &[])
    }

    fn start(site: &Site, command: &Command, place: Option<Place>, follow: &[&str]) -> Self {
        let mut started = match place {
            None => Command::new(command.get_program()),
            Some(Place { call, nth }) => {
                let mut strace = Command::new("strace");
                strace.args(follow).args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
                strace.args(["-e", &format!("inject={call}:signal=SIGKILL:when={nth}"), "--"]);
                strace.arg(command.get_program());
                strace
            }
        };
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => started.env(name, value),
                None => started.env_remove(name),
            };
        }
        started.args(command.get_args().map(OsStr::to_owned)).current_dir(site.root());
        let log = std::fs::File::options().append(true).create(true).open(site.registry().join("relay.log"));
        let child = started.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap()).spawn().unwrap();
        Self { child, traced: place.is_some() }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends it as `kill -9` does, unless it is dead already.
    pub(crate) fn kill(&mut self) {
        if self.has_ended() {
            return;
        }
        if self.traced {
            // When the tracer ends, it lets its child go; so the child has to die first.
            let children = format!("/proc/{0}/task/{0}/children", self.child.id());
            let child = std::fs::read_to_string(children).unwrap_or_default();
            kill(child.split_whitespace().next().and_then(|pid| pid.parse().ok()));
            until("the tracer has ended", || self.has_ended().then_some(()));
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
        // The process may have exited in the meantime.
        let _ = kill_process(pid, Signal::KILL);
    }
}
