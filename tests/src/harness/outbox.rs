//! Completion notices waiting for delivery in the registry's outbox.

use common::event::Queued;
use common::ids::JobId;
use common::job::Runner;
use common::origin::Origin;
use common::record::{JobRecord, State};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Site, until};

/// Waits until the completion notice of a job is in the outbox.
pub fn wait_for_notice(site: &Site, job: &JobId) {
    let path = path(job, "json");
    until(&format!("the notice of {job} in the outbox"), || site.root().join(&path).exists().then_some(()));
}

/// Returns true if the completion notice of a job was shown.
pub fn is_shown(site: &Site, job: &JobId) -> bool {
    site.root().join(path(job, "shown")).exists()
}

fn path(job: &JobId, ending: &str) -> String {
    format!("platform/workers/outbox/{}.{ending}", job.file_stem())
}

/// Writes the record of a job that ended `age` ago and its undelivered notice. No relay may be running.
pub fn create_ended_job(site: &Site, job: &str, origin: &Origin, age: SignedDuration) -> JobId {
    let job: JobId = job.parse().unwrap_or_else(|e| panic!("{e}"));
    let ended_at = Timestamp::now() - age;
    let queued = Queued {
        workspace: "/w".into(),
        prompt_summary: "invented".into(),
        runner: Runner::Shell,
        engine: "local".into(),
        origin: origin.clone(),
        ..Queued::default()
    };
    let mut record = JobRecord::from_queued(job.clone(), ended_at, &queued);
    record.state = State::Completed;
    record.finished_at = Some(ended_at);
    let entry = json!({"schema": 1, "job": job, "ended_at": ended_at, "session": origin.session, "ways": {}});
    site.write(&format!("platform/workers/{}.json", job.file_stem()), &json!(record).to_string());
    site.write(&path(&job, "json"), &entry.to_string());
    job
}
