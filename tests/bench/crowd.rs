//! Sites for the measurements: an empty one, and one whose registry has 10,000 ended jobs with a million events.

use std::env;
use std::fs;

use common::event::EventBody;
use common::event_line::EventLine;
use common::ids::JobId;
use common::job::JobSpec;
use common::record::{JobRecord, State};
use relay_tests::harness::{Engine, Site};

use crate::Fallible;

/// Number of ended jobs in a full registry.
pub(crate) const JOBS: u32 = 10_000;
/// Number of commands of each ended job. Each gives four events, which makes a hundred events per job with the others.
const COMMANDS: u32 = 23;

/// Creates a site of engine `local` that runs this many jobs at once. As Codex it uses this benchmark's own
/// program, which imitates Codex.
pub(crate) fn empty_site(max_jobs: u32) -> Fallible<Site> {
    let site = Site::new(Engine::Local);
    let this_program = env::current_exe()?;
    let codex = format!("program = \"{}\"\nsandbox = \"off\"", this_program.display());
    site.configure(&format!("max_jobs = {max_jobs}\n[codex]\n{codex}\n"));
    // With a custom provider, the agent requires no credentials.
    site.write_codex("config.toml", "model_provider = \"none\"\n");
    Ok(site)
}

/// Launches a Codex job, which the stand-in runs; returns the job's id.
pub(crate) fn launch(site: &Site, prompt: &str) -> String {
    site.relay(&["launch", "-q", "--share", "-w", "workspace-projects/demo", prompt]).trim().to_owned()
}

/// Fills a registry with [`JOBS`] ended jobs: runs one job and writes copies of its files under other numbers. The
/// relay is down afterwards and has not seen the copies. Returns the number of events.
pub(crate) fn fill_with_jobs(site: &Site) -> Fallible<u64> {
    let job = launch(site, &format!("flood {COMMANDS}"));
    let record = site.ended(&job);
    if record.state != State::Completed {
        return Err(format!("the stand-in's job ended as {:?}: {:?}", record.state, record.error).into());
    }
    site.relay(&["down"]);
    let original = OriginalJob::read(site, &job)?;
    let events = original.lines.len() as u64;
    let middle = JOBS / 2;
    // In two threads, because writing a million events takes seconds.
    std::thread::scope(|scope| {
        let first_half = scope.spawn(|| original.write_copies(site, 2..=middle).map_err(|e| e.to_string()));
        original.write_copies(site, middle + 1..=JOBS)?;
        first_half.join().map_err(|_| "the copying thread panicked")??;
        Fallible::Ok(())
    })?;
    let (next_id, _) = original.event_ids(JOBS + 1);
    site.write("platform/workers/event-ids", &next_id.to_string());
    site.write(&format!("platform/workers/names/{}", original.job.name()), &JOBS.to_string());
    // So that the kernel writes none of these files to the disk during a measurement.
    rustix::fs::sync();
    Ok(events * u64::from(JOBS))
}

/// Files of the job that really ran.
struct OriginalJob {
    job: JobId,
    lines: Vec<EventLine>,
    spec: JobSpec,
    log: Vec<u8>,
}

impl OriginalJob {
    fn read(site: &Site, job: &str) -> Fallible<Self> {
        let job: JobId = job.parse()?;
        let file = |ending: &str| fs::read(site.registry().join(format!("{}.{ending}", job.file_stem())));
        let spec = serde_json::from_slice(&file("spec")?)?;
        Ok(Self { lines: site.events(&job.to_string()), spec, log: file("log")?, job })
    }

    /// Returns the range of the event ids of a copy: the first id, and the id after the last.
    fn event_ids(&self, number: u32) -> (u64, u64) {
        let count = self.lines.len() as u64;
        let first = 1 + u64::from(number - 1) * count;
        (first, first + count)
    }

    fn write_copies(&self, site: &Site, numbers: std::ops::RangeInclusive<u32>) -> Fallible<()> {
        let registry = site.registry();
        for number in numbers {
            let job = JobId::new(self.job.name().clone(), number);
            let path = |ending: &str| registry.join(format!("{}.{ending}", job.file_stem()));
            let mut lines = self.lines.clone();
            let mut bytes = Vec::new();
            let (first, end) = self.event_ids(number);
            for (line, id) in lines.iter_mut().zip(first..end) {
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
