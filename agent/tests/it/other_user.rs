//! Tests of workers that run as another user than the agent. They do nothing without root, which alone can switch
//! users.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use crate::support::{Agent, Relay, StartOptions, mark, processes, relay_and_agent_with};
use common::event::FinalState;

/// A user that exists on every Linux system.
const USER: &str = "nobody";

/// Returns the user id and group id of [`USER`]; `None` without root.
fn worker_ids() -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.starts_with("nobody:"))?.to_owned();
    let mut fields = line.split(':').skip(2);
    let worker_ids = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    rustix::process::geteuid().is_root().then_some(worker_ids)
}

#[tokio::test]
async fn a_worker_of_another_user_has_no_groups_and_no_access_to_the_agent() {
    let Some((uid, gid)) = worker_ids() else { return };
    let (mut relay, agent) =
        relay_and_agent_with(&serde_json::json!({"user": USER}), &StartOptions::default()).await;
    std::fs::set_permissions(agent.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(agent.workspace(), Some(uid), Some(gid)).unwrap();
    let (pid, state) = (agent.child.id(), agent.state());
    let mark = mark();
    let line = format!(
        "id -u; id -G; echo $USER; cat {state}/config.json || echo no config; \
         cat /proc/{pid}/environ >/dev/null || echo no environ; ls /proc/$PPID/fd || echo no fds; \
         kill -9 {pid} $PPID || echo no kill; touch mine; (setsid sleep {mark} >/dev/null 2>&1 &)",
        state = state.display()
    );
    relay.start(&agent.shell_spec("demo#1", &line)).await;
    let run = relay.until_finished("demo#1").await;
    let text = run.log_text();
    assert!(text.starts_with(&format!("{uid}\n{gid}\n{USER}\n")), "{text}");
    for refused in ["no config", "no environ", "no fds", "no kill"] {
        assert!(text.contains(refused), "{refused} in {text}");
    }
    assert!(!text.contains(crate::support::TOKEN), "{text}");
    assert_eq!(run.outcome().unwrap().0, FinalState::Completed);
    assert_eq!((run.cleanup(), processes(&mark).len()), (Some((1, 0)), 0));
    for path in [".codex-worker", ".codex-worker/demo.1", ".codex-worker/demo.1/log.txt", "mine"] {
        assert_eq!(std::fs::metadata(agent.workspace().join(path)).unwrap().uid(), uid, "{path}");
    }
}

#[tokio::test]
async fn an_agent_of_root_creates_nothing_behind_a_symbolic_link_to_a_workspace() {
    let Some((uid, gid)) = worker_ids() else { return };
    let mut relay = Relay::new().await;
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap();
    let agent = Agent::start_with(&relay.url(), &serde_json::json!({"user": USER, "roots": [real]}));
    relay.accept().await;
    let victim = agent.dir.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::os::unix::fs::symlink(&victim, real.join("link")).unwrap();
    std::os::unix::fs::symlink(agent.dir.path(), real.join("up")).unwrap();
    std::fs::create_dir(real.join("plain")).unwrap();
    chown(real.join("plain"), Some(uid), Some(gid)).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (n, bad) in ["link", "up/victim", "../victim", "plain/../link", ".."].into_iter().enumerate() {
        let mut spec = agent.shell_spec(&format!("bad{n}#1"), "touch here");
        spec.workspace = real.join(bad).display().to_string();
        relay.start(&spec).await;
        relay.until_refused(&spec.job.to_string()).await;
    }
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
    let mut spec = agent.shell_spec("good#1", "touch here");
    spec.workspace = real.join("plain").display().to_string();
    relay.start(&spec).await;
    assert_eq!(relay.until_finished("good#1").await.outcome().unwrap().0, FinalState::Completed);
}
