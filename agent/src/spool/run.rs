//! One run of a job in the spool.

#![cfg_attr(not(feature = "internals"), expect(unreachable_pub, reason = "the simulation uses it, too"))]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::event::{Event, EventBody};
use common::time_scale::TimeScale;
use tokio::sync::Notify;

use super::events::{EventLog, Written};
use super::limits::SpoolLimits;
use super::output::Output;
use super::recovery::Recovered;
use super::run_id::RunId;
use crate::mask::Masker;
use crate::relay_time::RelayTime;

/// File with the job, as it was started.
const SPEC_FILE: &str = "spec.json";

/// Folder of a run. Its lock is held for single file calls only, never across a wait.
#[derive(Debug)]
pub struct JobSpool {
    pub(super) run: RunId,
    dir: PathBuf,
    appended: Arc<Notify>,
    /// Masker of every event.
    mask: Arc<Masker>,
    pub(super) time: Arc<RelayTime>,
    /// Scale of the run's times; `None` for a run of an earlier process, whose end is stamped with the present scale.
    scale: Option<TimeScale>,
    files: Mutex<Files>,
}

#[derive(Debug)]
pub(super) struct Files {
    pub(super) events: EventLog,
    pub(super) output: Output,
    pub(super) finished: bool,
    /// Last events of the run, once there are any: they are reported whatever happens to the files.
    pub(super) end: Vec<Event>,
    pub(super) disk: DiskState,
    /// Events that found no space and have not been reported yet.
    missing: u64,
    /// True if the last sync to the disk covered everything that was there.
    durable: bool,
}

/// Problems of the disk.
#[derive(Debug, Default)]
pub(super) struct DiskState {
    /// The disk was full, and that was logged.
    full: bool,
    /// The disk did not work, and that was reported.
    broken: bool,
    /// The files can't be read, and are not read again before this monotonic time.
    pub(super) repair_after: Option<Duration>,
}

impl Files {
    fn new(events: EventLog, output: Output) -> Self {
        let (finished, end, disk) = (false, Vec::new(), DiskState::default());
        Self { events, output, finished, end, disk, missing: 0, durable: false }
    }
}

impl JobSpool {
    /// Creates the folder of a run with its spec on disk, and space for its end.
    ///
    /// # Errors
    /// The file system failed; nothing is left behind.
    pub(super) fn create(
        root: &Path,
        run: RunId,
        spec: &str,
        mask: Arc<Masker>,
        appended: Arc<Notify>,
        time: Arc<RelayTime>,
    ) -> io::Result<Self> {
        let dir = root.join(run.folder());
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let files = EventLog::create(&dir, &run, SpoolLimits::PRODUCT).and_then(|events| {
            let output = Output::open(&dir.join("output"))?;
            write_spec(&dir, spec)?;
            // Makes the folder's name durable.
            File::open(root)?.sync_all()?;
            Ok(Files::new(events, output))
        });
        if files.is_err() {
            let _ = fs::remove_dir_all(&dir);
        }
        let scale = Some(time.scale());
        Ok(Self { run, dir, appended, mask, time, scale, files: Mutex::new(files?) })
    }

    /// Opens the folder of a run of an earlier process. If that process died before it had accepted the job, there is
    /// nothing to go on with: the folder is deleted, and the relay starts the job again.
    pub(super) fn open(
        root: &Path,
        run: RunId,
        appended: Arc<Notify>,
        time: Arc<RelayTime>,
    ) -> io::Result<Option<Self>> {
        let dir = root.join(run.folder());
        // The spec is created last.
        if !dir.join(SPEC_FILE).exists() {
            fs::remove_dir_all(&dir)?;
            return Ok(None);
        }
        let (events, found) = EventLog::open(&dir, &run, SpoolLimits::PRODUCT)?;
        let mut files = Files::new(events, Output::open(&dir.join("output"))?);
        files.finished = is_end(found.last.as_ref());
        files.end = found.last.clone().filter(|_| files.finished).into_iter().collect();
        // The secret values are gone with the process that had them, and so is everything that could reveal them.
        let mask = Arc::default();
        let spool = Self { run, dir, appended, mask, time, scale: None, files: Mutex::new(files) };
        spool.report_damage(&mut spool.files(), found);
        if spool.last_seq() == 0 {
            spool.remove();
            return Ok(None);
        }
        Ok(Some(spool))
    }

    /// Appends the report of damage, and the run's end if that was found after it.
    pub(super) fn report_damage(&self, files: &mut Files, found: Recovered) {
        let Some(message) = found.damage else { return };
        tracing::error!("{}: {message}", self.run);
        self.push(files, &self.stamped(EventBody::Warning { message }));
        for event in found.end {
            files.finished = matches!(event.body, EventBody::Finished { .. });
            self.push(files, &event);
        }
        self.flush(files);
        self.sync(files);
    }

    /// Returns the id of the run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Returns the path of the shim's report on what it did after the agent's death.
    pub(crate) fn exit_report(&self) -> PathBuf {
        self.dir.join("shim")
    }

    pub(super) fn files(&self) -> MutexGuard<'_, Files> {
        // Each change is one call on one file: after a panic between two of them the state is still consistent.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event with the current time. Nothing follows `finished`, which is synced to the disk before this
    /// returns.
    pub fn append(&self, body: EventBody) {
        self.append_all([body]);
    }

    /// Appends events with one write. The uplink is notified when they are in the file.
    pub(crate) fn append_all(&self, bodies: impl IntoIterator<Item = EventBody>) {
        self.store(bodies.into_iter().map(|body| self.stamped(self.mask.event(body))));
    }

    pub(super) fn stamped(&self, body: EventBody) -> Event {
        Event { at: self.time.now(self.scale), body }
    }

    fn store(&self, events: impl IntoIterator<Item = Event>) {
        let mut files = self.files();
        let before = files.events.last_seq();
        let mut durable = false;
        for event in events {
            if files.finished {
                break;
            }
            durable |= matches!(event.body, EventBody::Finished { .. } | EventBody::Accepted { .. });
            files.finished = matches!(event.body, EventBody::Finished { .. });
            if files.finished {
                files.output.close();
            }
            match event.body {
                EventBody::Cleanup { .. } => files.end = vec![event.clone()],
                EventBody::Finished { .. } => files.end.push(event.clone()),
                _ => {}
            }
            self.push(&mut files, &event);
        }
        self.flush(&mut files);
        if durable {
            files.durable = self.sync(&mut files);
        }
        let appended = files.events.last_seq() != before;
        drop(files);
        if appended {
            self.appended.notify_one();
        }
    }

    /// Puts an event into the file's queue. An event without space is counted, and the next one with space follows a
    /// warning with the count.
    pub(super) fn push(&self, files: &mut Files, event: &Event) {
        let last = matches!(event.body, EventBody::Cleanup { .. } | EventBody::Finished { .. });
        if files.missing > 0 {
            let message =
                format!("{} events of this run are missing here: the agent's disk was full", files.missing);
            let warning = self.stamped(EventBody::Warning { message });
            if files.events.push(&warning, last).unwrap_or(false) {
                files.missing = 0;
            }
        }
        let mut pushed = files.events.push(event, last);
        if matches!(pushed, Ok(false)) {
            self.flush(files);
            pushed = files.events.push(event, last);
        }
        match pushed {
            Ok(true) => {}
            Ok(false) => files.missing += 1,
            Err(error) => {
                tracing::error!("{}: an event has no bytes: {error}", self.run);
                files.missing += 1;
            }
        }
    }

    pub(super) fn flush(&self, files: &mut Files) {
        let written = files.events.flush(files.finished);
        if let Err(error) = &written
            && !files.disk.full
        {
            tracing::error!("{}: the spool can't be written, events wait in memory: {error}", self.run);
        }
        files.disk.full = written.is_err();
        if let Ok(Written::Rewritten(error)) = written {
            self.report_broken_disk(files, &error);
        }
    }

    /// Waits until everything is on the disk; returns true if it is.
    pub(super) fn sync(&self, files: &mut Files) -> bool {
        let synced = files.events.sync();
        if files.finished {
            files.events.close();
        }
        match synced {
            Ok(Written::Whole) => true,
            Ok(Written::Rewritten(error)) => {
                self.report_broken_disk(files, &error);
                true
            }
            Err(error) => {
                tracing::error!("{}: the spool can't be synchronised: {error}", self.run);
                false
            }
        }
    }

    /// Reports once that the disk did not work and that the spool went on in a new file.
    fn report_broken_disk(&self, files: &mut Files, error: &io::Error) {
        tracing::error!("{}: the spool could not be written, it goes on in a new file: {error}", self.run);
        if !files.disk.broken && !files.finished {
            files.disk.broken = true;
            let message = format!("the agent's disk has trouble, its spool goes on in a new file: {error}");
            self.push(files, &self.stamped(EventBody::Warning { message }));
            self.flush(files);
        }
    }

    /// Writes the events that wait for a full disk, if it has space by now.
    pub(crate) fn retry(&self) {
        let mut files = self.files();
        if files.events.has_pending() {
            self.flush(&mut files);
        }
    }

    /// Returns true if so much waits for the disk or the relay that nothing more should be read from the worker.
    pub(crate) fn is_congested(&self) -> bool {
        self.files().events.is_congested()
    }

    /// Returns true if everything up to the last `accepted` or `finished` is on the disk.
    pub(crate) fn is_durable(&self) -> bool {
        self.files().durable
    }

    /// Appends to the log.
    pub fn append_output(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.files().output.append(bytes, self.time.monotonic());
            self.appended.notify_one();
        }
    }

    /// Returns the sequence of the newest event.
    pub fn last_seq(&self) -> u64 {
        self.files().events.last_seq()
    }

    /// Returns the offset of the log's end.
    pub fn output_end(&self) -> u64 {
        self.files().output.end()
    }

    /// Returns true if the run is over.
    pub fn is_finished(&self) -> bool {
        self.files().finished
    }

    /// Deletes the folder.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!("{} can't be deleted: {error}", self.dir.display());
        }
    }
}

pub(super) fn is_end(event: Option<&Event>) -> bool {
    event.is_some_and(|event| matches!(event.body, EventBody::Finished { .. }))
}

fn write_spec(dir: &Path, spec: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(dir.join(SPEC_FILE))?;
    file.write_all(spec.as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
