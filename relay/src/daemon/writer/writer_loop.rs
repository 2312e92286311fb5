//! State and main loop of the writer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread::JoinHandle;
use std::time::Instant;

use common::event::EventBody;
use common::ids::JobId;
use common::record::{JobRecord, SCHEMA, State};
use common::wire::Durable;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::archive::Archive;
use super::command::{Changes, Command, WriterHandle};
use super::disk_full::DiskSpace;
use super::ids::EventIds;
use super::job::OpenJob;
use super::ownership::JobOwnership;
use super::quarantine::Quarantine;
use super::spec;
use crate::daemon::core::ConnectionId;
use crate::daemon::subscribe::Broadcast;
use crate::registry::{Registry, layout, read};
use crate::time::Clock;

/// Capacity of the command queue: a full batch (256 events) from each of a few connections. Further senders wait.
const QUEUE_CAPACITY: usize = 64;
/// Maximum number of commands in one commit, so that a flood can't delay the receipt of the first one.
const MAX_GROUP: usize = 64;

pub(in crate::daemon) struct Writer {
    pub(super) registry: Registry,
    pub(super) clock: Clock,
    pub(super) ids: EventIds,
    pub(super) archive: Archive,
    pub(super) disk: DiskSpace,
    pub(super) quarantine: Quarantine,
    pub(super) open: BTreeMap<JobId, OpenJob>,
    pub(super) ownership: JobOwnership,
    /// Open jobs that the next commit must process.
    pub(super) touched: BTreeSet<JobId>,
    /// Open jobs whose record is refreshed later, with the time.
    pub(super) due: BTreeMap<JobId, Instant>,
    /// Jobs whose log must be rewritten before anything in it is trusted.
    pub(super) poisoned: BTreeSet<JobId>,
    /// The relay's own events that must be recorded and could not be yet.
    pub(super) retry_queue: Vec<(JobId, EventBody)>,
    /// Time of their next attempt.
    pub(super) retry_due: Option<Instant>,
    /// Answers that wait for the commit, with the jobs that they are about.
    pub(super) answers: Vec<(ConnectionId, Vec<Durable>, oneshot::Sender<Vec<Durable>>)>,
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    pub(super) changes: Changes,
    pub(super) broadcast: Broadcast,
}

/// Repairs the registry, then starts the writer's thread, which ends after the last handle is dropped. Also returns the
/// jobs that have not ended.
pub(in crate::daemon) fn start(
    registry: Registry,
    clock: Clock,
    changes: Changes,
    broadcast: Broadcast,
) -> io::Result<(WriterHandle, JoinHandle<()>, Vec<JobRecord>)> {
    let (writer, active) = Writer::open(registry, clock, changes, broadcast, Instant::now())?;
    let (commands, queue) = mpsc::channel(QUEUE_CAPACITY);
    // Used for its timer only. It is separate, because the daemon's runtime ends before this thread does.
    let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread =
        std::thread::Builder::new().name("writer".to_owned()).spawn(move || run(writer, queue, &timer))?;
    Ok((WriterHandle { commands }, thread, active))
}

fn run(mut writer: Writer, mut queue: mpsc::Receiver<Command>, timer: &tokio::runtime::Runtime) {
    let mut group = Vec::with_capacity(MAX_GROUP);
    loop {
        let taken = match writer.due() {
            None => queue.blocking_recv_many(&mut group, MAX_GROUP),
            // Cancel-safe: nothing was taken if the timeout expires.
            Some(due) => {
                let next = async { timeout_at(due.into(), queue.recv_many(&mut group, MAX_GROUP)).await };
                let Ok(taken) = timer.block_on(next) else {
                    writer.tick(Instant::now());
                    continue;
                };
                taken
            }
        };
        if taken == 0 {
            return writer.finish();
        }
        writer.write(group.drain(..), Instant::now());
    }
}

impl Writer {
    /// Repairs the registry. Also returns the jobs that have not ended.
    pub(in crate::daemon) fn open(
        registry: Registry,
        clock: Clock,
        changes: Changes,
        broadcast: Broadcast,
        now: Instant,
    ) -> io::Result<(Self, Vec<JobRecord>)> {
        let (mut ended, others) = split_jobs(&registry)?;
        let mut writer = Self {
            ids: EventIds::load(&registry)?,
            archive: Archive::new(ended.clone()),
            disk: DiskSpace::new(&registry, now),
            quarantine: Quarantine::default(),
            open: BTreeMap::new(),
            ownership: JobOwnership::default(),
            touched: BTreeSet::new(),
            due: BTreeMap::new(),
            poisoned: BTreeSet::new(),
            retry_queue: Vec::new(),
            retry_due: None,
            answers: Vec::new(),
            flushes: Vec::new(),
            changes,
            broadcast,
            registry,
            clock,
        };
        let mut unreadable = Vec::new();
        for job in others {
            match writer.open_job(&job) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    writer.add_ended(&job);
                    ended.push((Timestamp::UNIX_EPOCH, job));
                }
                Err(e) => {
                    tracing::error!("{job} can't be recovered: {e}");
                    unreadable.push(job);
                }
                Ok(_) => {}
            }
        }
        writer.commit(now);
        // A killed relay may have left environment values of jobs that an agent has accepted or that have ended.
        for (_, job) in &ended {
            spec::forget_env(&writer.registry, job);
        }
        for open in writer.open.values().filter(|open| open.record().state != State::Queued) {
            spec::forget_env(&writer.registry, &open.record().job);
        }
        writer.archive.trim(&writer.registry);
        let active: Vec<JobRecord> = writer.open.values().map(|open| open.record().clone()).collect();
        let queued = active.iter().filter(|record| record.state == State::Queued);
        // An agent may hold a job whose record, once it can be read, names no agent.
        writer.ownership = JobOwnership::new(queued.map(|record| record.job.clone()).chain(unreadable));
        Ok((writer, active))
    }

    /// Applies a group of commands and commits.
    pub(in crate::daemon) fn write(&mut self, group: impl IntoIterator<Item = Command>, now: Instant) {
        for command in group {
            if let Err(problem) = self.apply(command, now) {
                tracing::error!("the registry could not take a command: {problem}");
            }
        }
        self.commit(now);
        if !self.flushes.is_empty() {
            self.refresh_all(now);
            for reply in self.flushes.drain(..) {
                // The receiver may have gone away.
                let _ = reply.send(());
            }
        }
    }

    /// Returns the time at which [`Writer::tick`] has work to do.
    pub(in crate::daemon) fn due(&self) -> Option<Instant> {
        let due = self.due.values().copied().chain(self.disk.due()).chain(self.quarantine.due());
        due.chain(self.retry_due).min()
    }

    /// Does the work that is due: records, checks for free space, retries.
    pub(in crate::daemon) fn tick(&mut self, now: Instant) {
        let due: Vec<JobId> =
            self.due.iter().filter(|(_, at)| **at <= now).map(|(job, _)| job.clone()).collect();
        let ended = self.refresh(&due, now);
        self.archive_ended(&ended);
        if self.disk.due().is_some_and(|due| due <= now) {
            self.disk.check(now);
        }
        for job in self.quarantine.due_jobs(now) {
            let opened = self.open_job(&job).map(|_| ());
            // An agent whose job has ended meanwhile is notified when it reconnects.
            let is_readable = opened.is_ok() || is_gone(&opened);
            self.quarantine.checked(&job, is_readable, now);
        }
        if self.retry_due.is_some_and(|due| due <= now) {
            self.retry_queued(now);
        }
    }

    /// Writes every record before the thread ends: no further command will come.
    fn finish(&mut self) {
        self.refresh_all(Instant::now());
    }
}

/// Returns true if a job is unknown or has ended.
fn is_gone(opened: &io::Result<()>) -> bool {
    opened.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// Ended jobs with their end times.
type EndedJobs = Vec<(Timestamp, JobId)>;

/// Splits the jobs of the registry into ended ones that are not in the archive, with their end times, and those whose
/// record shows no end or can't be read. Reads every record, and no log: a record that shows an end was written after
/// its log.
fn split_jobs(registry: &Registry) -> io::Result<(EndedJobs, Vec<JobId>)> {
    let mut jobs: BTreeSet<JobId> = read::jobs(registry)?.into_iter().collect();
    jobs.extend(registry.folder().names()?.iter().filter_map(|name| layout::job_of_events(name)));
    let (mut ended, mut others) = (Vec::new(), Vec::new());
    for job in jobs {
        let record = read::load(registry, &job).ok().map(|stored| stored.record);
        match record.filter(|record| record.schema <= SCHEMA).and_then(|record| record.finished_at) {
            Some(finished_at) => ended.push((finished_at, job)),
            None => others.push(job),
        }
    }
    Ok((ended, others))
}
