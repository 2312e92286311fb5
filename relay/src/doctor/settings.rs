//! `platform/relay.toml`.

use super::context::{CheckContext, Unusable};
use super::finding::Finding;
use crate::config;

/// Checks that the file can be read and is valid.
pub(super) fn check(scene: &CheckContext) -> Vec<Finding> {
    let file = scene.root.join(config::FILE);
    let there = file.exists();
    let is_file = file.symlink_metadata().is_ok_and(|meta| meta.is_file());
    vec![match &scene.config {
        Ok(_) if there => Finding::ok("settings", format!("platform/relay.toml of {}", scene.root.display())),
        Ok(_) => Finding::ok("settings", format!("the defaults ({} has none)", scene.root.display())),
        Err(unusable @ Unusable::NotApproved) => Finding::skipped("settings", unusable.why()),
        Err(Unusable::Unreadable(failure)) => {
            let fix = if is_file { "correct that line" } else { "remove it, then run relay init" };
            Finding::fail("settings", &failure.message, fix)
        }
    }]
}
