//! Check that files can be watched. If they can't, waiting commands poll a few times a second.

#![expect(clippy::disallowed_methods, reason = "files of /proc")]

use super::context::CheckContext;
use super::finding::Finding;

const INOTIFY_CHECK: &str = "inotify";
/// Default limit of inotify instances on Linux, which is enough unless another program uses many.
const DEFAULT_INSTANCES: u64 = 128;
/// Default limit of inotify watches on old kernels.
const DEFAULT_WATCHES: u64 = 8192;

/// Checks the system's limits of inotify, and that they are not exhausted.
pub(super) fn check_inotify(_: &CheckContext) -> Vec<Finding> {
    if !cfg!(target_os = "linux") {
        return vec![Finding::skipped(INOTIFY_CHECK, "Linux only")];
    }
    let limit = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let is_instance_free = notify::recommended_watcher(|_| {}).is_ok();
    vec![assess_inotify(limit("max_user_instances"), limit("max_user_watches"), is_instance_free)]
}

fn assess_inotify(instances: Option<u64>, watches: Option<u64>, is_instance_free: bool) -> Finding {
    let sysctl = |name: &str, value: u64| format!("`sudo sysctl fs.inotify.{name}={value}`");
    if !is_instance_free {
        return Finding::warn(
            INOTIFY_CHECK,
            "no instance is free: waiting commands poll 5 times a second",
            sysctl("max_user_instances", 1024),
        );
    }
    match (instances, watches) {
        (Some(low), _) if low < DEFAULT_INSTANCES => Finding::warn(
            INOTIFY_CHECK,
            format!("max_user_instances is {low}"),
            sysctl("max_user_instances", 1024),
        ),
        (_, Some(low)) if low < DEFAULT_WATCHES => Finding::warn(
            INOTIFY_CHECK,
            format!("max_user_watches is {low}"),
            sysctl("max_user_watches", 65536),
        ),
        (Some(instances), Some(watches)) => {
            Finding::ok(INOTIFY_CHECK, format!("{instances} instances, {watches} watches"))
        }
        _ => Finding::ok(INOTIFY_CHECK, "files can be watched"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn files_can_be_watched_unless_limits_are_low_or_used_up() {
        for (instances, watches, is_instance_free, state) in [
            (Some(128), Some(8192), true, State::Ok),
            (None, None, true, State::Ok),
            (Some(127), Some(8192), true, State::Warn),
            (Some(128), Some(100), true, State::Warn),
            (Some(128), Some(8192), false, State::Warn),
        ] {
            assert_eq!(
                assess_inotify(instances, watches, is_instance_free).state,
                state,
                "{instances:?} {watches:?} {is_instance_free}"
            );
        }
    }
}
