//! Checks that relay and workers survive the end of the login session that starts them: logind may end all processes of
//! a user at logout.

use std::path::Path;

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::run_probe;

const LINGER_CHECK: &str = "linger";

/// Asks logind, if there is one, whether it ends all processes of a user at logout.
pub(super) fn check_linger(context: &CheckContext) -> Vec<Finding> {
    if !Path::new("/run/systemd/seats").is_dir() || context.sandbox.is_some() {
        return Vec::new();
    }
    let manager = "org.freedesktop.login1.Manager";
    let args =
        ["get-property", "org.freedesktop.login1", "/org/freedesktop/login1", manager, "KillUserProcesses"];
    let kill_user_processes = run_probe("busctl", &args).stdout_on_success().map(str::to_owned);
    let user = context.variable("USER").or_else(|| context.variable("LOGNAME")).unwrap_or_default();
    let is_linger_enabled = !user.is_empty() && Path::new("/var/lib/systemd/linger").join(user).exists();
    assess_linger(kill_user_processes.as_deref(), is_linger_enabled).into_iter().collect()
}

/// Returns no finding if processes survive a logout.
fn assess_linger(kill_user_processes: Option<&str>, is_linger_enabled: bool) -> Option<Finding> {
    match kill_user_processes {
        Some("b true") if is_linger_enabled => {
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
    fn a_logout_that_would_end_the_workers_is_reported_with_advice() {
        let finding = assess_linger(Some("b true"), false).unwrap();
        assert_eq!(finding.state, State::Warn);
        assert!(finding.fix.unwrap_or_default().contains("loginctl enable-linger"));
        assert_eq!(assess_linger(Some("b true"), true).map(|finding| finding.state), Some(State::Ok));
        assert_eq!(assess_linger(Some("b false"), false), None);
        assert_eq!(assess_linger(None, false), None);
    }
}
