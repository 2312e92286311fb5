//! How a container is at the moment, as its engine shows it.

use super::container::Container;

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vitals {
    /// There is none, or it never ran.
    Absent,
    /// It runs.
    Running,
    /// It runs, and all of its processes are frozen.
    Paused,
    /// It has ended.
    Exited {
        /// How.
        exit_code: i32,
        /// Whether the engine says that the kernel killed it for its memory.
        oom_killed: bool,
        /// Most memory that it may have, in bytes; none where there is no limit.
        memory_limit: Option<u64>,
        /// When, in the engine's own words: what tells this end from an earlier one.
        finished_at: String,
    },
}

/// What [`parse`] reads. The time is last: podman's has spaces in it.
const FORMAT: &str =
    "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.HostConfig.Memory}} {{.State.FinishedAt}}";

impl Container<'_> {
    /// How it is.
    ///
    /// # Errors
    /// The engine's last words.
    pub fn vitals(&self) -> Result<Vitals, String> {
        match self.query(&["container", "inspect", "--format", FORMAT, &self.platform.name]) {
            Ok(answer) => parse(&answer).ok_or_else(|| format!("{} says '{answer}'", self.engine)),
            Err(reason) if reason.to_lowercase().contains("no such container") => Ok(Vitals::Absent),
            Err(reason) => Err(reason),
        }
    }
}

fn parse(answer: &str) -> Option<Vitals> {
    let mut words = answer.splitn(5, ' ');
    Some(match words.next()? {
        "created" | "configured" | "initialized" => Vitals::Absent,
        "paused" => Vitals::Paused,
        "exited" | "stopped" | "dead" | "removing" => {
            let exit_code = words.next()?.parse().ok()?;
            let oom_killed = words.next()? == "true";
            let memory_limit = words.next()?.parse().ok().filter(|limit| *limit > 0);
            Vitals::Exited { exit_code, oom_killed, memory_limit, finished_at: words.next()?.to_owned() }
        }
        _ => Vitals::Running,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_with_its_code_its_memory_and_its_time() {
        let docker = parse("exited 137 true 314572800 2026-11-22T22:26:09.888279609Z");
        let exited = |oom_killed, memory_limit, finished_at: &str| {
            let finished_at = finished_at.to_owned();
            Some(Vitals::Exited { exit_code: 137, oom_killed, memory_limit, finished_at })
        };
        assert_eq!(docker, exited(true, Some(314_572_800), "2026-11-22T22:26:09.888279609Z"));
        let podman = parse("exited 137 false 0 2026-01-02 03:04:05.6 +0000 UTC");
        assert_eq!(podman, exited(false, None, "2026-01-02 03:04:05.6 +0000 UTC"));
        assert_eq!(parse("exited many false 0 x"), None);
    }

    #[test]
    fn everything_else_is_told_by_the_state_alone() {
        assert_eq!(parse("running 0 false 0 0001-01-01T00:00:00Z"), Some(Vitals::Running));
        assert_eq!(parse("restarting 1 false 0 2026"), Some(Vitals::Running));
        assert_eq!(parse("paused 0 false 0 0001-01-01T00:00:00Z"), Some(Vitals::Paused));
        assert_eq!(parse("created 0 false 0 0001-01-01T00:00:00Z"), Some(Vitals::Absent));
    }
}
