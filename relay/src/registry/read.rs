//! Reads records, resolves references to jobs, and lists jobs. Readers never lock.

use std::io;

use common::ids::{JobId, JobName};
use common::job::JobSpec;
use common::place::PlaceSpec;
use common::record::{JobRecord, SCHEMA_VERSION};

use super::event_log::{self, ScanResult};
use super::{Registry, layout};
use crate::exit::Failure;
use crate::files::refused::RefusedEntry;

/// Maximum size of a spec, in bytes: a prompt has at most 1 MiB, the size of the frame that carries it, and JSON
/// escapes enlarge it.
pub const MAX_FILE_SIZE: u64 = 8 << 20;
/// Maximum size of a record, in bytes: the limit of an event line. The largest plan takes some 1.2 MiB, and the other
/// fields of a record are small.
pub const MAX_RECORD_SIZE: u64 = common::event_line::MAX_LINE as u64;

/// A record as stored on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// The record, with the current paths of the job's files.
    pub record: JobRecord,
    /// Location of the job's files: the registry or its archive.
    pub registry: Registry,
}

/// Reads one job's record, from the registry or its archive.
///
/// # Errors
/// `NotFound` for an unknown job, `InvalidData` for a record that can't be read.
pub fn load_record(registry: &Registry, job: &JobId) -> io::Result<StoredRecord> {
    match load_record_from(registry, job) {
        // The registry is searched twice, because the daemon may have moved the record between two look-ups.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            load_record_from(&registry.archive_registry(), job).or_else(|_| load_record_from(registry, job))
        }
        found => found,
    }
}

fn load_record_from(home: &Registry, job: &JobId) -> io::Result<StoredRecord> {
    let file = home.record(job);
    let mut record: JobRecord = serde_json::from_slice(&file.read(MAX_RECORD_SIZE)?)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", file.display())))?;
    if record.schema <= SCHEMA_VERSION {
        record.log_path = home.log(job).display().to_string();
        record.events_path = home.events(job).display().to_string();
    }
    Ok(StoredRecord { record, registry: home.clone() })
}

/// State of a job that the daemon finds in the registry.
#[derive(Debug)]
pub struct FoundJob {
    /// The newest state of the job.
    pub record: JobRecord,
    /// True if the log shows the end of the job, but the record on disk does not.
    pub is_record_stale: bool,
}

/// Reads the newest state of a job. A record that shows the end of the job is the newest state; otherwise the record is
/// rebuilt from the log, which shows every change first. A new job has no log.
///
/// # Errors
/// Same as [`load_record`]. If the log can't be used, the record on disk is returned.
pub fn find_job(registry: &Registry, job: &JobId) -> io::Result<FoundJob> {
    let stored = load_record(registry, job)?.record;
    let found = |record, is_record_stale| FoundJob { record, is_record_stale };
    let log = registry.events(job);
    if stored.state.is_final() || stored.schema > SCHEMA_VERSION || !log.exists() {
        return Ok(found(stored, false));
    }
    let mut rebuilt: Option<JobRecord> = None;
    let mut line_count = 0;
    let scan = event_log::scan_log(&log, |_, line| {
        line_count += 1;
        match &mut rebuilt {
            Some(record) => record.apply_line(&line),
            None if line_count == 1 => rebuilt = JobRecord::rebuild([&line]),
            None => {}
        }
    });
    Ok(match (scan, rebuilt) {
        (Ok(ScanResult { newer_version: None, .. }), Some(record)) => {
            let is_record_stale = record.state.is_final();
            found(record, is_record_stale)
        }
        _ => found(stored, false),
    })
}

/// Returns the place in a job's spec, which describes the job's clone; `None` if the job works in its workspace, or if
/// the spec can't be read.
pub fn place_of(home: &Registry, job: &JobId) -> Option<PlaceSpec> {
    let bytes = home.spec(job).read(MAX_FILE_SIZE).ok()?;
    serde_json::from_slice::<JobSpec>(&bytes).ok()?.place
}

/// Returns every job with a record in the folder of a registry or of an archive, in no particular order.
///
/// # Errors
/// Returns an error if the folder can't be read. An absent folder has no jobs.
pub fn jobs_in_folder(registry: &Registry) -> io::Result<Vec<JobId>> {
    let names = registry.folder().names()?;
    Ok(names.iter().filter_map(|name| layout::job_of_record(name)).collect())
}

/// Returns every job with a record in the registry or its archive. An archive that is refused counts as empty.
fn all_jobs(registry: &Registry) -> io::Result<Vec<JobId>> {
    let mut jobs = jobs_in_folder(registry)?;
    match jobs_in_folder(&registry.archive_registry()) {
        Err(e) if RefusedEntry::from_error(&e).is_some() => {}
        archived => jobs.extend(archived?),
    }
    Ok(jobs)
}

/// Returns the records of the registry (not the archive). A session may create many large records, so each is read on
/// demand. A caller should keep only the fields that it needs.
pub fn read_records(registry: &Registry) -> io::Result<RecordReader> {
    Ok(RecordReader { registry: registry.clone(), jobs: jobs_in_folder(registry)? })
}

#[derive(Debug)]
pub struct RecordReader {
    registry: Registry,
    jobs: Vec<JobId>,
}

impl RecordReader {
    /// Iterates over the readable records, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = StoredRecord> {
        self.jobs.iter().filter_map(|job| load_record_from(&self.registry, job).ok())
    }
}

/// Returns the highest number of a job with this name in the registry and its archive; 0 if there is no such job.
pub fn highest_number(registry: &Registry, name: &JobName) -> io::Result<u32> {
    let jobs = all_jobs(registry)?;
    Ok(jobs.iter().filter(|job| job.name() == name).map(JobId::number).max().unwrap_or(0))
}

/// Resolves a job reference: `NAME#N`, `NAME.N`, `NAME` (the newest job with this name), or a unique prefix of a name.
///
/// # Errors
/// Exit code 3 if there is no such job, 2 for an ambiguous prefix; that message names the matches.
pub fn resolve_job(registry: &Registry, text: &str) -> Result<JobId, Failure> {
    let unknown = || {
        let shown = common::text_format::one_line(text, 60);
        Failure::no_such_job(format!("no job '{shown}': `relay status -a` lists them"))
    };
    let unreadable = |e: &io::Error| registry.not_readable(e);
    if let Ok(job) = text.parse::<JobId>() {
        return match load_record(registry, &job) {
            Ok(_) => Ok(job),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(unknown()),
            Err(e) => Err(unreadable(&e)),
        };
    }
    if text.is_empty() {
        return Err(unknown());
    }
    let mut names = job_names(registry).map_err(|e| unreadable(&e))?;
    if let Some(exact) = names.iter().find(|name| name.as_str() == text) {
        names = vec![exact.clone()];
    } else {
        names.retain(|name| name.as_str().starts_with(text));
    }
    match names.as_slice() {
        [] => Err(unknown()),
        [name] => match highest_number(registry, name).map_err(|e| unreadable(&e))? {
            0 => Err(unknown()),
            number => Ok(JobId::new(name.clone(), number)),
        },
        matches => {
            let list: Vec<_> = matches.iter().take(10).map(JobName::as_str).collect();
            Err(Failure::usage(format!("'{text}' means more than one job: {}", list.join(", "))))
        }
    }
}

fn job_names(registry: &Registry) -> io::Result<Vec<JobName>> {
    let jobs = all_jobs(registry)?;
    let mut names: Vec<JobName> = jobs.iter().map(|job| job.name().clone()).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Returns the newest job.
///
/// # Errors
/// Exit code 3 if there is no job.
pub fn newest_job(registry: &Registry) -> Result<StoredRecord, Failure> {
    latest_link_target(registry)
        .and_then(|job| load_record(registry, &job))
        .or_else(|_| {
            let records = read_records(registry)?;
            let newest = records.iter().max_by(|a, b| {
                (a.record.created_at, &a.record.job).cmp(&(b.record.created_at, &b.record.job))
            });
            newest.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        })
        .map_err(|_| Failure::no_such_job("no job yet: start one with `relay launch -w DIR \"task\"`"))
}

/// Returns the job that the link `latest` points to.
pub fn latest_link_target(registry: &Registry) -> io::Result<JobId> {
    let target = registry.latest().read_link()?;
    layout::job_of_record(&target)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "'latest' does not point to a record"))
}

#[cfg(test)]
mod tests {
    use common::event::{MAX_LIST, MAX_TEXT, MAX_TITLE, PlanItem};
    use common::record::MAX_STEPS;
    use common::warnings::MAX_NEWEST;

    use super::*;
    use crate::render::samples;

    #[test]
    fn the_largest_record_is_within_the_size_limit() {
        let mut record = samples::failed_record();
        // JSON writes each of these as six bytes.
        let text = |bytes: usize| "\u{1}".repeat(bytes);
        record.plan = vec![PlanItem { text: text(MAX_TEXT), completed: false }; MAX_LIST];
        let mut step = record.steps[0].clone();
        step.title = text(MAX_TITLE);
        record.steps = vec![step; MAX_STEPS];
        let mut error = record.error.unwrap();
        error.message = text(MAX_TEXT);
        record.error = Some(error);
        for text_field in [&mut record.message, &mut record.warning, &mut record.summary] {
            *text_field = Some(text(MAX_TEXT));
        }
        record.warnings.newest = vec![text(500); MAX_NEWEST];
        for path in [&mut record.workspace, &mut record.log_path, &mut record.events_path] {
            *path = text(4096);
        }
        let len = record.to_bytes().unwrap().len() as u64;
        assert!(len > MAX_RECORD_SIZE / 2 && len < MAX_RECORD_SIZE * 3 / 4, "{len}");
    }
}
