//! The writer: its state, its thread and its loop.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread::JoinHandle;
use std::time::Instant;

use common::event::EventBody;
use common::ids::JobId;
use common::record::{JobRecord, SCHEMA_VERSION, State};
use common::wire::Durable;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::archive::ArchiveQueue;
use super::command::{Changes, WriterCommand, WriterHandle};
use super::disk_full::DiskFullState;
use super::ids::EventIds;
use super::job::OpenJob;
use super::ownership::JobOwnership;
use super::quarantine::Quarantine;
use super::spec;
use crate::daemon::core::ConnectionId;
use crate::daemon::subscribe::Broadcast;
use crate::registry::{Registry, layout, read};
use crate::time::Clock;

/// Capacity of the command queue. Senders wait while it is full.
const QUEUE_CAPACITY: usize = 64;
/// Maximum number of commands in one commit, so that a flood can't delay the receipt for the first command.
const MAX_COMMIT_COMMANDS: usize = 64;

pub(in crate::daemon) struct Writer {
    pub(super) registry: Registry,
    pub(super) clock: Clock,
    pub(super) event_ids: EventIds,
    pub(super) archive_queue: ArchiveQueue,
    pub(super) disk_full_state: DiskFullState,
    pub(super) quarantine: Quarantine,
    pub(super) open_jobs: BTreeMap<JobId, OpenJob>,
    pub(super) ownership: JobOwnership,
    /// Open jobs that the next commit must process.
    pub(super) jobs_to_commit: BTreeSet<JobId>,
    /// Open jobs whose record must be written, each with the time at which that is due.
    pub(super) refresh_due: BTreeMap<JobId, Instant>,
    /// Jobs whose logs are untrusted until they are rewritten.
    pub(super) untrusted_logs: BTreeSet<JobId>,
    /// The relay's own events that could not be recorded yet.
    pub(super) retry_queue: Vec<(JobId, EventBody)>,
    /// Time at which the events in `retry_queue` are recorded.
    pub(super) retry_due: Option<Instant>,
    /// Answers about durable states, which wait for the commit.
    pub(super) pending_answers: Vec<(ConnectionId, Vec<Durable>, oneshot::Sender<Vec<Durable>>)>,
    /// Answers to flushes, which wait for the commit.
    pub(super) pending_flushes: Vec<oneshot::Sender<()>>,
    pub(super) changes: Changes,
    pub(super) broadcast: Broadcast,
}

/// Repairs the registry, then starts the writer's thread, which ends after the last handle is dropped. Also returns the
/// jobs that have not ended.
pub(in crate::daemon) fn start_writer(
    registry: Registry,
    clock: Clock,
    changes: Changes,
    broadcast: Broadcast,
) -> io::Result<(WriterHandle, JoinHandle<()>, Vec<JobRecord>)> {
    let (writer, unfinished_jobs) = Writer::open(registry, clock, changes, broadcast, Instant::now())?;
    let (commands, queue) = mpsc::channel(QUEUE_CAPACITY);
    // This runtime provides only a timer. It is separate, because the daemon's runtime ends before this thread.
    let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new()
        .name("writer".to_owned())
        .spawn(move || run_writer(writer, queue, &timer))?;
    Ok((WriterHandle { commands }, thread, unfinished_jobs))
}

fn run_writer(mut writer: Writer, mut queue: mpsc::Receiver<WriterCommand>, timer: &tokio::runtime::Runtime) {
    let mut group = Vec::with_capacity(MAX_COMMIT_COMMANDS);
    loop {
        let count = match writer.next_due() {
            None => queue.blocking_recv_many(&mut group, MAX_COMMIT_COMMANDS),
            // Cancel-safe: nothing was received if the timeout expires.
            Some(due) => {
                let next =
                    async { timeout_at(due.into(), queue.recv_many(&mut group, MAX_COMMIT_COMMANDS)).await };
                let Ok(count) = timer.block_on(next) else {
                    writer.run_due_work(Instant::now());
                    continue;
                };
                count
            }
        };
        if count == 0 {
            return writer.write_all_records();
        }
        writer.apply_and_commit(group.drain(..), Instant::now());
    }
}

impl Writer {
    /// Opens the registry and repairs it. Also returns the jobs that have not ended.
    pub(in crate::daemon) fn open(
        registry: Registry,
        clock: Clock,
        changes: Changes,
        broadcast: Broadcast,
        now: Instant,
    ) -> io::Result<(Self, Vec<JobRecord>)> {
        let (mut ended_jobs, other_jobs) = split_jobs(&registry)?;
        let mut writer = Self {
            event_ids: EventIds::load(&registry)?,
            archive_queue: ArchiveQueue::new(ended_jobs.clone()),
            disk_full_state: DiskFullState::new(&registry, now),
            quarantine: Quarantine::default(),
            open_jobs: BTreeMap::new(),
            ownership: JobOwnership::default(),
            jobs_to_commit: BTreeSet::new(),
            refresh_due: BTreeMap::new(),
            untrusted_logs: BTreeSet::new(),
            retry_queue: Vec::new(),
            retry_due: None,
            pending_answers: Vec::new(),
            pending_flushes: Vec::new(),
            changes,
            broadcast,
            registry,
            clock,
        };
        let mut unreadable = Vec::new();
        for job in other_jobs {
            match writer.open_job(&job) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    writer.add_to_archive_queue(&job);
                    ended_jobs.push((Timestamp::UNIX_EPOCH, job));
                }
                Err(e) => {
                    tracing::error!("{job} can't be recovered: {e}");
                    unreadable.push(job);
                }
                Ok(_) => {}
            }
        }
        writer.commit(now);
        // A killed relay may have left environment values in the specs of jobs that were accepted or have ended.
        for (_, job) in &ended_jobs {
            spec::remove_env_values_or_log(&writer.registry, job);
        }
        for open_job in writer.open_jobs.values().filter(|open_job| open_job.record().state != State::Queued)
        {
            spec::remove_env_values_or_log(&writer.registry, &open_job.record().job);
        }
        writer.archive_queue.archive_oldest(&writer.registry);
        let unfinished_jobs: Vec<JobRecord> =
            writer.open_jobs.values().map(|open_job| open_job.record().clone()).collect();
        let queued = unfinished_jobs.iter().filter(|record| record.state == State::Queued);
        // No record that could be read names the agent of these jobs: the first agent that reports such a job owns it.
        writer.ownership = JobOwnership::new(queued.map(|record| record.job.clone()).chain(unreadable));
        Ok((writer, unfinished_jobs))
    }

    /// Applies a group of commands and commits.
    pub(in crate::daemon) fn apply_and_commit(
        &mut self,
        group: impl IntoIterator<Item = WriterCommand>,
        now: Instant,
    ) {
        for command in group {
            if let Err(problem) = self.apply_command(command, now) {
                tracing::error!("a command could not be applied to the registry: {problem}");
            }
        }
        self.commit(now);
        if !self.pending_flushes.is_empty() {
            self.refresh_all_records(now);
            for reply in self.pending_flushes.drain(..) {
                // Sending fails if the receiver has given up.
                let _ = reply.send(());
            }
        }
    }

    /// Returns the time at which [`Writer::run_due_work`] has work to do.
    pub(in crate::daemon) fn next_due(&self) -> Option<Instant> {
        let due = self
            .refresh_due
            .values()
            .copied()
            .chain(self.disk_full_state.next_check())
            .chain(self.quarantine.next_check());
        due.chain(self.retry_due).min()
    }

    /// Runs the work that is due: writes records, checks the disk and quarantined jobs, and retries events.
    pub(in crate::daemon) fn run_due_work(&mut self, now: Instant) {
        let due: Vec<JobId> =
            self.refresh_due.iter().filter(|(_, at)| **at <= now).map(|(job, _)| job.clone()).collect();
        let ended = self.refresh_records(&due, now);
        self.archive_ended(&ended);
        if self.disk_full_state.next_check().is_some_and(|due| due <= now) {
            self.disk_full_state.check_free_space(now);
        }
        for job in self.quarantine.due_jobs(now) {
            let opened = self.open_job(&job).map(|_| ());
            // A job that has ended needs no further check: its agent learns of the end when it reconnects.
            let is_readable = opened.is_ok() || is_ended_or_unknown(&opened);
            self.quarantine.on_check(&job, is_readable, now);
        }
        if self.retry_due.is_some_and(|due| due <= now) {
            self.retry_queued(now);
        }
    }

    /// Writes every record before the thread ends.
    fn write_all_records(&mut self) {
        self.refresh_all_records(Instant::now());
    }
}

/// Returns true if a job could not be opened because it is unknown or has ended.
fn is_ended_or_unknown(opened: &io::Result<()>) -> bool {
    opened.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// Ended jobs, each with the time of its end.
type EndedJobs = Vec<(Timestamp, JobId)>;

/// Splits the jobs of the registry, without the archive, into ended jobs with their end times, and jobs whose record
/// has no end state or can't be read. Reads every record but no log: a record with an end state was written after its
/// log was complete.
fn split_jobs(registry: &Registry) -> io::Result<(EndedJobs, Vec<JobId>)> {
    let mut jobs: BTreeSet<JobId> = read::jobs_in_folder(registry)?.into_iter().collect();
    jobs.extend(registry.folder().names()?.iter().filter_map(|name| layout::job_of_events(name)));
    let (mut ended_jobs, mut other_jobs) = (Vec::new(), Vec::new());
    for job in jobs {
        let record = read::load_record(registry, &job).ok().map(|stored| stored.record);
        match record.filter(|record| record.schema <= SCHEMA_VERSION).and_then(|record| record.finished_at) {
            Some(finished_at) => ended_jobs.push((finished_at, job)),
            None => other_jobs.push(job),
        }
    }
    Ok((ended_jobs, other_jobs))
}
