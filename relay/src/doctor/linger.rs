//! Checks that relay and workers survive the end of the login session that starts them: logind may end all processes of
//! a user at logout.

use std::path::Path;

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::run_probe;

const LINGER_CHECK: &str = "linger";

/// Queries logind, if there is one.
pub(super) fn check_linger(context: &CheckContext) -> Vec<Finding> {
    if !Path::new("/run/systemd/seats").is_dir() || context.sandbox.is_some() {
        return Vec::new();
    }
    let manager = "org.freedesktop.login1.Manager";
    let args =
        ["get-property", "org.freedesktop.login1", "/org/freedesktop/login1", manager, "KillUserProcesses"];
    let kills = run_probe("busctl", &args).stdout_on_success().map(str::to_owned);
    let user = context.variable("USER").or_else(|| context.variable("LOGNAME")).unwrap_or_default();
    let lingers = !user.is_empty() && Path::new("/var/lib/systemd/linger").join(user).exists();
    assess_linger(kills.as_deref(), lingers).into_iter().collect()
}

/// Returns no finding if processes survive a logout.
fn assess_linger(kill_user_processes: Option<&str>, linger_enabled: bool) -> Option<Finding> {
    match kill_user_processes {
        Some("b true") if linger_enabled => {
            Some(Finding::ok(LINGER_CHECK, "relay and workers outlive a logout"))
        }
        Some("b true") => Some(Finding::warn(
            LINGER_CHECK,
            "this machine ends all processes of a user at logout, relay and workers of engine local too (KillUserProcesses)",
            "`loginctl enable-linger`, then start relay by `systemd-run --user --scope relay up`",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_logout_that_would_end_the_workers_is_named_with_the_command() {
        let found = assess_linger(Some("b true"), false).unwrap();
        assert_eq!(found.state, State::Warn);
        assert!(found.fix.unwrap_or_default().contains("loginctl enable-linger"));
        assert_eq!(assess_linger(Some("b true"), true).map(|found| found.state), Some(State::Ok));
        assert_eq!(assess_linger(Some("b false"), false), None);
        assert_eq!(assess_linger(None, false), None);
    }
}
