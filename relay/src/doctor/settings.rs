//! `platform/relay.toml`.

use super::finding::Finding;
use super::scene::Scene;

/// Whether it can be read and makes sense.
pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let there = scene.root.join("platform/relay.toml").exists();
    vec![match &scene.config {
        Ok(_) if there => Finding::ok("settings", format!("platform/relay.toml of {}", scene.root.display())),
        Ok(_) => Finding::ok("settings", format!("the defaults ({} has none)", scene.root.display())),
        Err(failure) => Finding::fail("settings", &failure.message, "correct that line"),
    }]
}
