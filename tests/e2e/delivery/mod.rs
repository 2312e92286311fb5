//! Delivery of completion notices: to the session that launched the job, and to people.

mod command;
mod session;
mod webhook;

use relay_tests::harness::{Site, until};
use serde_json::Value;

/// Outbox entry of a job; null while there is none.
fn entry(site: &Site, job: &str) -> Value {
    let path = site.registry().join("outbox").join(format!("{}.json", job.replace('#', ".")));
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Waits until a channel of a job's completion notice is in a state.
fn way_is(site: &Site, job: &str, way: &str, state: &str) {
    until(&format!("{way} of {job} is {state}"), || {
        (entry(site, job)["ways"][way]["state"] == state).then_some(())
    });
}
