//! Sites for the figures: an empty one, and one with 10,000 ended jobs and a million events.

use std::env;
use std::fs;

use common::event::EventBody;
use common::event_line::EventLine;
use common::ids::JobId;
use common::job::JobSpec;
use common::record::{JobRecord, State};
use relay_tests::harness::{Engine, Site};

use crate::Fallible;

/// Number of jobs in the crowd.
pub(crate) const JOBS: u32 = 10_000;
/// Commands of each job. Each makes four events (the step of the model before it, and its own): with the others a
/// hundred a job.
const COMMANDS: u32 = 23;

/// Creates a site on this machine whose Codex is the stand-in and that runs this many jobs at once.
pub(crate) fn empty(max_jobs: u32) -> Fallible<Site> {
    let site = Site::new(Engine::Local);
    let own = env::current_exe()?;
    let codex = format!("program = \"{}\"\nsandbox = \"off\"", own.display());
    site.configure(&format!("max_jobs = {max_jobs}\n[codex]\n{codex}\n"));
    // A custom provider counts as credentials.
    site.write_codex("config.toml", "model_provider = \"none\"\n");
    Ok(site)
}

/// Launches a job of the stand-in and returns its id.
pub(crate) fn launch(site: &Site, prompt: &str) -> String {
    site.relay(&["launch", "-q", "--share", "-w", "workspace-projects/demo", prompt]).trim().to_owned()
}

/// Fills a site: one job that really ran, and copies of it under other numbers, each in the form in which the relay
/// writes jobs. The relay is down afterwards, and has not seen the copies. Returns the number of events.
pub(crate) fn fill(site: &Site) -> Fallible<u64> {
    let job = launch(site, &format!("flood {COMMANDS}"));
    let record = site.ended(&job);
    if record.state != State::Completed {
        return Err(format!("the stand-in's job ended as {:?}: {:?}", record.state, record.error).into());
    }
    site.relay(&["down"]);
    let original = Original::read(site, &job)?;
    let events = original.lines.len() as u64;
    let middle = JOBS / 2;
    // Two threads: generating a million events takes seconds.
    std::thread::scope(|scope| {
        let half = scope.spawn(|| original.copies(site, 2..=middle).map_err(|e| e.to_string()));
        original.copies(site, middle + 1..=JOBS)?;
        half.join().map_err(|_| "the copying thread panicked")??;
        Fallible::Ok(())
    })?;
    let (last, _) = original.ids(JOBS + 1);
    site.write("platform/workers/event-ids", &last.to_string());
    site.write(&format!("platform/workers/names/{}", original.job.name()), &JOBS.to_string());
    // Written back now, so that no write-back happens during a measurement.
    rustix::fs::sync();
    Ok(events * u64::from(JOBS))
}

/// The job that really ran.
struct Original {
    job: JobId,
    lines: Vec<EventLine>,
    spec: JobSpec,
    log: Vec<u8>,
}

impl Original {
    fn read(site: &Site, job: &str) -> Fallible<Self> {
        let job: JobId = job.parse()?;
        let file = |ending: &str| fs::read(site.registry().join(format!("{}.{ending}", job.file_stem())));
        let spec = serde_json::from_slice(&file("spec")?)?;
        Ok(Self { lines: site.events(&job.to_string()), spec, log: file("log")?, job })
    }

    /// Ids of a copy's events.
    fn ids(&self, number: u32) -> (u64, u64) {
        let count = self.lines.len() as u64;
        let first = 1 + u64::from(number - 1) * count;
        (first, first + count)
    }

    fn copies(&self, site: &Site, numbers: std::ops::RangeInclusive<u32>) -> Fallible<()> {
        let registry = site.registry();
        for number in numbers {
            let job = JobId::new(self.job.name().clone(), number);
            let path = |ending: &str| registry.join(format!("{}.{ending}", job.file_stem()));
            let mut lines = self.lines.clone();
            let mut bytes = Vec::new();
            let (first, behind) = self.ids(number);
            for (line, id) in lines.iter_mut().zip(first..behind) {
                line.id = id;
                line.job = job.clone();
                if let Some(EventBody::Queued(queued)) = line.event.as_mut().map(|event| &mut event.body) {
                    queued.log_path = path("log").display().to_string();
                    queued.events_path = path("events.jsonl").display().to_string();
                }
                bytes.extend(line.to_bytes()?);
            }
            let record = JobRecord::rebuild(&lines).ok_or("the job has no first event")?;
            let spec = JobSpec { job: job.clone(), ..self.spec.clone() };
            fs::write(path("spec"), serde_json::to_vec(&spec)?)?;
            fs::write(path("log"), &self.log)?;
            fs::write(path("events.jsonl"), bytes)?;
            fs::write(path("json"), record.to_bytes()?)?;
        }
        Ok(())
    }
}
