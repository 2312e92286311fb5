//! `platform/relay.toml`.

use super::context::{CheckContext, Unusable};
use super::finding::Finding;
use crate::config;

/// Checks that the file can be read and is valid.
pub(super) fn check(context: &CheckContext) -> Vec<Finding> {
    let file = context.root.join(config::FILE);
    let there = file.exists();
    let is_file = file.symlink_metadata().is_ok_and(|meta| meta.is_file());
    vec![match &context.config {
        Ok(_) if there => {
            Finding::ok("settings", format!("platform/relay.toml of {}", context.root.display()))
        }
        Ok(_) => Finding::ok("settings", format!("the defaults ({} has none)", context.root.display())),
        Err(unusable @ Unusable::NotApproved) => Finding::skipped("settings", unusable.why()),
        Err(Unusable::Unreadable(failure)) => {
            let fix = if is_file { "correct that line" } else { "remove it, then run relay init" };
            Finding::fail("settings", &failure.message, fix)
        }
    }]
}
