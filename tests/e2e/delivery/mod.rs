//! Delivery of completion notices through their channels: Codex session, command and webhook.

mod command;
mod session;
mod webhook;

use relay_tests::harness::{Site, until};
use serde_json::Value;

/// Returns the outbox entry of a job; null if there is none.
fn outbox_entry(site: &Site, job: &str) -> Value {
    let path = site.registry().join("outbox").join(format!("{}.json", job.replace('#', ".")));
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Waits until a channel of a job's completion notice is in a state.
fn wait_for_channel(site: &Site, job: &str, channel: &str, state: &str) {
    until(&format!("{channel} of {job} is {state}"), || {
        (outbox_entry(site, job)["ways"][channel]["state"] == state).then_some(())
    });
}
