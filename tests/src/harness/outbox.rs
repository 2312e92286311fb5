//! Ends that are to be delivered, as the registry's outbox holds them.

use common::event::Queued;
use common::ids::JobId;
use common::job::Runner;
use common::origin::Origin;
use common::record::{JobRecord, State};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Site, until};

/// Waits until the end of a job is in the outbox.
///
/// # Panics
/// When it does not come.
pub fn entry(site: &Site, job: &JobId) {
    let path = path(job, "json");
    until(&format!("the end of {job} in the outbox"), || site.root().join(&path).exists().then_some(()));
}

/// Whether somebody was told of a job's end.
pub fn is_told(site: &Site, job: &JobId) -> bool {
    site.root().join(path(job, "shown")).exists()
}

fn path(job: &JobId, ending: &str) -> String {
    format!("platform/workers/outbox/{}.{ending}", job.stem())
}

/// Makes a job that has ended `age` ago with an end that nobody was told of, without running anything: for registries
/// that no relay looks after.
///
/// # Panics
/// When it can't be written.
pub fn invent(site: &Site, job: &str, origin: &Origin, age: SignedDuration) -> JobId {
    let job: JobId = job.parse().unwrap_or_else(|e| panic!("{e}"));
    let ended_at = Timestamp::now() - age;
    let queued = Queued {
        workspace: "/w".into(),
        prompt_summary: "invented".into(),
        runner: Runner::Shell,
        engine: "local".into(),
        log_path: String::new(),
        events_path: String::new(),
        origin: origin.clone(),
        model: None,
    };
    let mut record = JobRecord::queued(job.clone(), ended_at, &queued);
    record.state = State::Completed;
    record.finished_at = Some(ended_at);
    let entry = json!({"schema": 1, "job": job, "ended_at": ended_at, "session": origin.session, "ways": {}});
    site.write(&format!("platform/workers/{}.json", job.stem()), &json!(record).to_string());
    site.write(&path(&job, "json"), &entry.to_string());
    job
}
