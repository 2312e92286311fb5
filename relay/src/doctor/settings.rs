//! Check of the settings in `platform/relay.toml`.

use super::context::{CheckContext, UnusableSettings};
use super::finding::Finding;
use crate::config;

/// Checks that the file can be read and is valid.
pub(super) fn check_settings(context: &CheckContext) -> Vec<Finding> {
    let file = context.root.join(config::CONFIG_PATH);
    let exists = file.exists();
    let is_file = file.symlink_metadata().is_ok_and(|meta| meta.is_file());
    vec![match &context.config {
        Ok(_) if exists => {
            Finding::ok("settings", format!("platform/relay.toml of {}", context.root.display()))
        }
        Ok(_) => Finding::ok(
            "settings",
            format!("the defaults ({} has no platform/relay.toml)", context.root.display()),
        ),
        Err(unusable @ UnusableSettings::NotApproved) => Finding::skipped("settings", unusable.explanation()),
        Err(UnusableSettings::Unreadable(failure)) => {
            let fix = if is_file { "correct that line" } else { "remove it, then run relay init" };
            Finding::fail("settings", &failure.message, fix)
        }
    }]
}
