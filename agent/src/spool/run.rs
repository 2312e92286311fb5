//! Data of one run of a job in the spool.

#![cfg_attr(not(feature = "internals"), expect(unreachable_pub, reason = "the simulation uses runs, too"))]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::event::{Event, EventBody};
use common::time_scale::TimeScale;
use tokio::sync::Notify;

use super::events::{EventLog, WriteResult};
use super::limits::SpoolLimits;
use super::output::OutputLog;
use super::recovery::RecoveredEvents;
use super::run_id::RunId;
use crate::mask::Masker;
use crate::relay_time::RelayTime;

const SPEC_FILE: &str = "spec.json";
/// Name of a file whose length is the number of recoveries that were begun.
const RECOVERIES_FILE: &str = "recoveries";

/// A run and its folder. The lock on its files is held only for single file calls, never across an await.
#[derive(Debug)]
pub struct JobSpool {
    pub(super) run: RunId,
    dir: PathBuf,
    data_appended: Arc<Notify>,
    /// Masker that all events go through.
    mask: Arc<Masker>,
    pub(super) time: Arc<RelayTime>,
    /// Time scale of the run's events. `None` for a run of an earlier process, whose last events use the current scale.
    scale: Option<TimeScale>,
    files: Mutex<RunFiles>,
}

#[derive(Debug)]
pub(super) struct RunFiles {
    pub(super) events: EventLog,
    pub(super) output: OutputLog,
    pub(super) is_finished: bool,
    /// Final events of the run, kept in memory so that they are reported whatever happens to the files.
    pub(super) final_events: Vec<Event>,
    pub(super) disk_state: DiskState,
    /// Number of events that were dropped for lack of space, and whose loss was not reported yet.
    unreported_count: u64,
    /// True if everything was synced to the disk.
    is_synced: bool,
}

/// Problems of the disk that were logged or reported.
#[derive(Debug, Default)]
pub(super) struct DiskState {
    /// True if a full disk was logged.
    is_full_logged: bool,
    /// True if a disk failure was reported.
    is_failure_reported: bool,
    /// Monotonic time before which unreadable files are not read again.
    pub(super) repair_after: Option<Duration>,
}

impl RunFiles {
    fn new(events: EventLog, output: OutputLog) -> Self {
        Self {
            events,
            output,
            is_finished: false,
            final_events: Vec::new(),
            disk_state: DiskState::default(),
            unreported_count: 0,
            is_synced: false,
        }
    }
}

impl JobSpool {
    /// Creates the folder of a run, with the spec on disk and space reserved for the final events.
    ///
    /// # Errors
    /// The file system failed; nothing is left behind.
    pub(super) fn create(
        root: &Path,
        run: RunId,
        spec: &str,
        mask: Arc<Masker>,
        data_appended: Arc<Notify>,
        time: Arc<RelayTime>,
    ) -> io::Result<Self> {
        let dir = root.join(run.folder_name());
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let files = EventLog::create(&dir, &run, SpoolLimits::DEFAULT).and_then(|events| {
            let output = OutputLog::open(&dir.join("output"))?;
            write_spec(&dir, spec)?;
            // Makes the folder's name durable.
            File::open(root)?.sync_all()?;
            Ok(RunFiles::new(events, output))
        });
        if files.is_err() {
            let _ = fs::remove_dir_all(&dir);
        }
        let scale = Some(time.scale());
        Ok(Self { run, dir, data_appended, mask, time, scale, files: Mutex::new(files?) })
    }

    /// Opens the folder of a run that an earlier process started. If that process died before it had accepted the job,
    /// the folder is deleted, and the relay starts the job again.
    pub(super) fn open(
        root: &Path,
        run: RunId,
        data_appended: Arc<Notify>,
        time: Arc<RelayTime>,
    ) -> io::Result<Option<Self>> {
        let dir = root.join(run.folder_name());
        // The spec is the last file that is created.
        if !dir.join(SPEC_FILE).exists() {
            fs::remove_dir_all(&dir)?;
            return Ok(None);
        }
        let (events, recovered) = EventLog::open(&dir, &run, SpoolLimits::DEFAULT)?;
        let mut files = RunFiles::new(events, OutputLog::open(&dir.join("output"))?);
        files.is_finished = is_final_event(recovered.last_event.as_ref());
        files.final_events = recovered.last_event.clone().filter(|_| files.is_finished).into_iter().collect();
        // Only the earlier process had the secret values, so there is nothing to mask.
        let mask = Arc::default();
        let spool = Self { run, dir, data_appended, mask, time, scale: None, files: Mutex::new(files) };
        spool.report_damage(&mut spool.lock_files(), recovered);
        if spool.last_seq() == 0 {
            spool.remove();
            return Ok(None);
        }
        Ok(Some(spool))
    }

    /// Appends the report of damage to the events, and the run's final events if they were found after the damage.
    pub(super) fn report_damage(&self, files: &mut RunFiles, recovered: RecoveredEvents) {
        let Some(message) = recovered.damage_report else { return };
        tracing::error!("{}: {message}", self.run);
        self.push_event(files, &self.stamp_event(EventBody::Warning { message }));
        for event in recovered.final_events {
            files.is_finished = matches!(event.body, EventBody::Finished { .. });
            self.push_event(files, &event);
        }
        self.flush(files);
        self.sync(files);
    }

    /// Returns the id of the run.
    pub fn run_id(&self) -> &RunId {
        &self.run
    }

    /// Returns the stored spec, without the values of its environment.
    pub(crate) fn stored_spec(&self) -> Option<String> {
        fs::read_to_string(self.dir.join(SPEC_FILE)).ok()
    }

    /// Counts, on the disk, that an agent process begins to recover this run; returns the number so far. The number is
    /// the length of a file without data, so that a full disk can store it.
    ///
    /// # Errors
    /// The file system failed.
    pub(crate) fn count_recovery(&self) -> io::Result<u64> {
        let path = self.dir.join(RECOVERIES_FILE);
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        let count = file.metadata()?.len() + 1;
        file.set_len(count)?;
        file.sync_all()?;
        Ok(count)
    }

    /// Returns the path of the shim's exit report.
    pub(crate) fn orphan_report(&self) -> PathBuf {
        self.dir.join("shim")
    }

    pub(super) fn lock_files(&self) -> MutexGuard<'_, RunFiles> {
        // Each change is one system call on one file, so the state is consistent even after a panic.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event with the current time. `finished` is synced to the disk before this function returns, and events
    /// after it are dropped.
    pub fn append(&self, body: EventBody) {
        self.append_all([body]);
    }

    /// Appends events with one write. The uplink is notified when they are in the file.
    pub(crate) fn append_all(&self, bodies: impl IntoIterator<Item = EventBody>) {
        self.store_events(bodies.into_iter().map(|body| self.stamp_event(self.mask.mask_event(body))));
    }

    pub(super) fn stamp_event(&self, body: EventBody) -> Event {
        Event { at: self.time.now(self.scale), body }
    }

    fn store_events(&self, events: impl IntoIterator<Item = Event>) {
        let mut files = self.lock_files();
        let previous_seq = files.events.last_seq();
        let mut must_sync = false;
        for event in events {
            if files.is_finished {
                break;
            }
            must_sync |= matches!(event.body, EventBody::Finished { .. } | EventBody::Accepted { .. });
            files.is_finished = matches!(event.body, EventBody::Finished { .. });
            if files.is_finished {
                files.output.close();
            }
            match event.body {
                EventBody::Cleanup { .. } => files.final_events = vec![event.clone()],
                EventBody::Finished { .. } => files.final_events.push(event.clone()),
                _ => {}
            }
            self.push_event(&mut files, &event);
        }
        self.flush(&mut files);
        if must_sync {
            files.is_synced = self.sync(&mut files);
        }
        let has_appended = files.events.last_seq() != previous_seq;
        drop(files);
        if has_appended {
            self.data_appended.notify_one();
        }
    }

    /// Queues an event. If there is no space, the event is dropped and counted. A warning with that count precedes the
    /// next event for which there is space.
    pub(super) fn push_event(&self, files: &mut RunFiles, event: &Event) {
        let is_final = matches!(event.body, EventBody::Cleanup { .. } | EventBody::Finished { .. });
        if files.unreported_count > 0 {
            let message = format!(
                "{} events of this run are missing here: the agent's disk was full",
                files.unreported_count
            );
            let warning = self.stamp_event(EventBody::Warning { message });
            if files.events.push(&warning, is_final).unwrap_or(false) {
                files.unreported_count = 0;
            }
        }
        let mut pushed = files.events.push(event, is_final);
        if matches!(pushed, Ok(false)) {
            self.flush(files);
            pushed = files.events.push(event, is_final);
        }
        match pushed {
            Ok(true) => {}
            Ok(false) => files.unreported_count += 1,
            Err(error) => {
                tracing::error!("{}: an event can't be encoded: {error}", self.run);
                files.unreported_count += 1;
            }
        }
    }

    pub(super) fn flush(&self, files: &mut RunFiles) {
        let written = files.events.flush(files.is_finished);
        if let Err(error) = &written
            && !files.disk_state.is_full_logged
        {
            tracing::error!("{}: the spool can't be written, events wait in memory: {error}", self.run);
        }
        files.disk_state.is_full_logged = written.is_err();
        if let Ok(WriteResult::Rewritten(error)) = written {
            self.report_broken_disk(files, &error);
        }
    }

    /// Syncs events and output to the disk; returns true on success.
    pub(super) fn sync(&self, files: &mut RunFiles) -> bool {
        let synced = files.events.sync();
        if files.is_finished {
            files.events.close();
        }
        match synced {
            Ok(WriteResult::Written) => true,
            Ok(WriteResult::Rewritten(error)) => {
                self.report_broken_disk(files, &error);
                true
            }
            Err(error) => {
                tracing::error!("{}: the spool can't be synchronised: {error}", self.run);
                false
            }
        }
    }

    /// Reports once that the disk failed and that the spool continues in a new file.
    fn report_broken_disk(&self, files: &mut RunFiles, error: &io::Error) {
        tracing::error!("{}: the spool could not be written, it continues in a new file: {error}", self.run);
        if !files.disk_state.is_failure_reported && !files.is_finished {
            files.disk_state.is_failure_reported = true;
            let message = format!("the agent's disk has failed, its spool continues in a new file: {error}");
            self.push_event(files, &self.stamp_event(EventBody::Warning { message }));
            self.flush(files);
        }
    }

    /// Writes the pending events if a full disk has space again.
    pub(crate) fn retry_pending(&self) {
        let mut files = self.lock_files();
        if files.events.has_pending() {
            self.flush(&mut files);
        }
    }

    /// Returns true if so much data waits for the disk or the relay that reading from the worker must pause.
    pub(crate) fn is_congested(&self) -> bool {
        self.lock_files().events.is_congested()
    }

    /// Returns true if everything up to the last `accepted` or `finished` is on the disk.
    pub(crate) fn is_durable(&self) -> bool {
        self.lock_files().is_synced
    }

    /// Appends to the log of the run.
    pub fn append_output(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.lock_files().output.append(bytes, self.time.monotonic());
            self.data_appended.notify_one();
        }
    }

    /// Returns the sequence number of the newest event.
    pub fn last_seq(&self) -> u64 {
        self.lock_files().events.last_seq()
    }

    /// Returns the offset of the log's end.
    pub fn output_end(&self) -> u64 {
        self.lock_files().output.end_offset()
    }

    /// Returns true if the run is over.
    pub fn is_finished(&self) -> bool {
        self.lock_files().is_finished
    }

    /// Deletes the folder of the run.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!("{} can't be deleted: {error}", self.dir.display());
        }
    }
}

pub(super) fn is_final_event(event: Option<&Event>) -> bool {
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
