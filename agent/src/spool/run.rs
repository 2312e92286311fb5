//! One run of a job in the spool.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::event::{Event, EventBody};
use common::ids::JobId;
use jiff::{Timestamp, Unit};
use tokio::sync::Notify;

use super::events::EventLog;
use super::output::Output;

/// A run: a job and the number of its run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RunId {
    /// Which job.
    pub(crate) job: JobId,
    /// Its run, from 1.
    pub(crate) epoch: u32,
}

impl RunId {
    /// Its folder's name.
    pub(super) fn folder(&self) -> String {
        format!("{}.{}", self.job.stem(), self.epoch)
    }

    /// The run of a folder.
    pub(super) fn from_folder(name: &str) -> Option<Self> {
        let (stem, epoch) = name.rsplit_once('.')?;
        let run = Self { job: stem.parse().ok()?, epoch: epoch.parse().ok()? };
        (run.folder() == name).then_some(run)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (run {})", self.job, self.epoch)
    }
}

/// A run's folder. Its lock is held for single file calls only, never across a wait.
#[derive(Debug)]
pub(crate) struct JobSpool {
    run: RunId,
    dir: PathBuf,
    bell: Arc<Notify>,
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Files {
    events: EventLog,
    output: Output,
    acked: u64,
    finished: bool,
    /// An earlier process left it without an end.
    interrupted: bool,
    /// The disk was full, and that was said.
    full: bool,
}

impl JobSpool {
    /// Makes the folder of a run with its spec on disk.
    ///
    /// # Errors
    /// What the file system says; nothing is left then.
    pub(super) fn create(root: &Path, run: RunId, spec: &str, bell: Arc<Notify>) -> io::Result<Self> {
        let dir = root.join(run.folder());
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let files = write_spec(&dir, spec).and_then(|()| {
            let events = EventLog::create(&dir.join("events"))?;
            Ok(Files {
                events,
                output: Output::open(&dir.join("output"))?,
                acked: 0,
                finished: false,
                interrupted: false,
                full: false,
            })
        });
        if files.is_err() {
            let _ = fs::remove_dir_all(&dir);
        }
        Ok(Self { run, dir, bell, files: Mutex::new(files?) })
    }

    /// Opens the folder of a run that an earlier process left.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(root: &Path, run: RunId, bell: Arc<Notify>) -> io::Result<Self> {
        let dir = root.join(run.folder());
        let (events, last) = EventLog::open(&dir.join("events"))?;
        let finished = last.is_some_and(|event| matches!(event.body, EventBody::Finished { .. }));
        let output = Output::open(&dir.join("output"))?;
        let files = Files { events, output, acked: 0, finished, interrupted: !finished, full: false };
        Ok(Self { run, dir, bell, files: Mutex::new(files) })
    }

    /// Its name.
    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// Where the shim of its command tells what it did after the agent's death.
    pub(crate) fn testament(&self) -> PathBuf {
        self.dir.join("shim")
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        // Each change is one call of one file: after a panic between two of them the state is still whole.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event, with the time of now. Nothing follows `finished`, and that one is waited for until it is on
    /// the disk.
    pub(crate) fn append(&self, body: EventBody) {
        let at = Timestamp::now().round(Unit::Millisecond).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut files = self.files();
        if files.finished {
            return;
        }
        let last = matches!(body, EventBody::Finished { .. });
        if last {
            files.output.close();
        }
        let durable = matches!(body, EventBody::Finished { .. } | EventBody::Accepted { .. });
        match files.events.append(&Event { at, body }) {
            Ok(written) => {
                if !written && !files.full {
                    tracing::error!("{}: the spool can't be written; events wait in memory", self.run);
                }
                files.full = !written;
            }
            Err(error) => tracing::error!("{}: an event could not be kept: {error}", self.run),
        }
        files.finished = last;
        if durable && let Err(error) = files.events.sync() {
            tracing::error!("{}: the spool can't be synchronised: {error}", self.run);
        }
        drop(files);
        self.bell.notify_one();
    }

    /// Appends to the log.
    pub(crate) fn append_output(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.files().output.append(bytes);
            self.bell.notify_one();
        }
    }

    /// Sequence of the newest event.
    pub(crate) fn last_seq(&self) -> u64 {
        self.files().events.last_seq()
    }

    /// Where the log ends.
    pub(crate) fn output_end(&self) -> u64 {
        self.files().output.end()
    }

    /// Whether the run is over.
    pub(crate) fn finished(&self) -> bool {
        self.files().finished
    }

    /// Whether it is over and the relay has all of it.
    pub(crate) fn delivered(&self) -> bool {
        let files = self.files();
        files.finished && files.acked >= files.events.last_seq() && files.output.all_acked()
    }

    /// Events from `first` on, bounded in number and size.
    ///
    /// # Errors
    /// The file can't be read, or holds other bytes than were written.
    pub(crate) fn read(&self, first: u64, most: usize, bytes: usize) -> io::Result<Vec<Event>> {
        self.files().events.read(first, most, bytes)
    }

    /// A piece of the log.
    ///
    /// # Errors
    /// The file can't be read.
    pub(crate) fn read_output(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        self.files().output.read(offset, most)
    }

    /// The relay has every event up to `seq`.
    pub(crate) fn ack(&self, seq: u64) {
        let mut files = self.files();
        files.acked = files.acked.max(seq);
    }

    /// The relay has the log up to `offset`.
    pub(crate) fn ack_output(&self, offset: u64) {
        self.files().output.ack(offset);
    }

    /// The relay wants more of this run, though it holds `durable` events of it: makes sure that it gets its end.
    pub(crate) fn continue_after(&self, durable: u64) {
        let mut files = self.files();
        let last = files.events.last_seq();
        if files.finished && durable >= last {
            files.events.renumber_last(durable);
        } else if files.interrupted && durable > last {
            // Its end is still to be appended.
            files.events.renumber_last(durable - 1);
        }
    }

    /// Deletes the folder.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!("{} can't be deleted: {error}", self.dir.display());
        }
    }
}

fn write_spec(dir: &Path, spec: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(dir.join("spec.json"))?;
    file.write_all(spec.as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_its_run_in_one_spelling() {
        let run = RunId { job: "abe-smoke#2".parse().unwrap(), epoch: 3 };
        assert_eq!(run.folder(), "abe-smoke.2.3");
        assert_eq!(RunId::from_folder("abe-smoke.2.3"), Some(run));
        for foreign in ["abe-smoke.2", "abe-smoke#2.3", "abe-smoke.2.03", "lost+found", "a.b.c"] {
            assert_eq!(RunId::from_folder(foreign), None, "{foreign}");
        }
    }
}
