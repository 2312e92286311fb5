//! The sole writer of event logs, records and streamed logs.
//!
//! A thread, because it waits for disks. It takes whatever commands have gathered, appends their events to the logs,
//! makes each log durable once, and only then refreshes the records, hands out receipts and tells the core: disk, ack,
//! publish. A busy agent thus shares one fsync among many events, a quiet one waits for nothing.
//!
//! * [`job`]: one open job. * [`ids`]: event ids. * [`repair`]: one job's files, made whole.
//! * `recover`: what a start finds. * [`archive`]: ended jobs move away.

mod archive;
mod ids;
mod job;
mod recover;
mod repair;

use std::collections::BTreeMap;
use std::io;

use common::event::{Event, EventBody};
use common::ids::JobId;
use common::record::JobRecord;
use common::wire::{Durable, JobProgress};
use tokio::sync::{mpsc, oneshot};

use self::archive::Archive;
use self::ids::EventIds;
use self::job::OpenJob;
use super::board::Board;
use super::subscribe::Feed;
use crate::registry::Registry;

/// Commands that may wait: a full batch (256 events) from each of a few connections. Whoever sends one more waits.
const QUEUE: usize = 64;
/// Most commands that share one fsync, so that a flood can't keep the first one waiting for its receipt.
const GROUP: usize = 64;

/// What an agent is told once its events are durable.
#[derive(Debug, Clone, Default)]
pub(super) struct Receipt {
    /// The run they belong to.
    pub(super) epoch: u32,
    /// Every event up to this one.
    pub(super) seq: u64,
    /// The log up to this offset.
    pub(super) output: u64,
    /// Why the connection can't go on: the agent has to come back and begin at what is durable.
    pub(super) problem: Option<String>,
}

/// What the writer is asked.
pub(super) enum Command {
    /// A record that the command line has created: log its first event.
    Adopt(JobId),
    /// Events of an agent.
    Events { job: JobId, epoch: u32, first_seq: u64, batch: Vec<Event>, receipts: Board<JobId, Receipt> },
    /// Output of a worker.
    Output { job: JobId, epoch: u32, offset: u64, bytes: Vec<u8>, receipts: Board<JobId, Receipt> },
    /// An event that the relay itself saw.
    Own { job: JobId, body: Box<EventBody> },
    /// The agent has the job's environment: forget it here.
    DropEnv(JobId),
    /// Move the time limit of a job that no agent has yet.
    MoveLimit { job: JobId, job_ms: u64 },
    /// What is durable of these jobs.
    Durable { jobs: Vec<JobProgress>, reply: oneshot::Sender<Vec<Durable>> },
    /// Everything sent before is on disk when the reply comes.
    Flush(oneshot::Sender<()>),
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub(super) struct WriterHandle {
    commands: mpsc::Sender<Command>,
}

impl WriterHandle {
    /// Sends a command; waits while the writer is behind.
    pub(super) async fn send(&self, command: Command) {
        // It ends with the process alone; a command that comes later has nobody to serve.
        let _ = self.commands.send(command).await;
    }
}

/// The state that the core is told of: newest record per job that changed.
pub(super) type Changes = Board<JobId, JobRecord>;

struct Writer {
    registry: Registry,
    ids: EventIds,
    archive: Archive,
    open: BTreeMap<JobId, OpenJob>,
    changes: Changes,
    feed: Feed,
}

/// Repairs the registry, then starts the writer. Also returns the jobs that have not ended.
///
/// # Errors
/// When the registry can't be read or repaired.
pub(super) fn start(
    registry: Registry,
    changes: Changes,
    feed: Feed,
) -> io::Result<(WriterHandle, Vec<JobRecord>)> {
    let mut ids = EventIds::load(&registry)?;
    let found = recover::recover(&registry, &mut ids)?;
    let mut archive = Archive::new(found.ended);
    archive.trim(&registry);
    feed.publish(feed.gather(), ids.newest());
    let mut writer = Writer { registry, ids, archive, open: BTreeMap::new(), changes, feed };
    let (commands, mut queue) = mpsc::channel(QUEUE);
    std::thread::Builder::new().name("writer".to_owned()).spawn(move || {
        let mut group = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            writer.write(group.drain(..));
        }
    })?;
    Ok((WriterHandle { commands }, found.active))
}

impl Writer {
    fn write(&mut self, group: impl Iterator<Item = Command>) {
        let mut replies = Vec::new();
        for command in group {
            if let Err(problem) = self.apply(command, &mut replies) {
                tracing::error!("the registry could not take a command: {problem}");
            }
        }
        self.commit();
        for reply in replies {
            // Whoever asked may have gone away.
            let _ = reply.send(());
        }
    }

    fn apply(&mut self, command: Command, replies: &mut Vec<oneshot::Sender<()>>) -> io::Result<()> {
        match command {
            Command::Adopt(job) => {
                self.job(&job)?;
            }
            Command::Events { job, epoch, first_seq, batch, receipts } => {
                let taken = self.with_job(&job, |open, ids| open.take_events(epoch, first_seq, batch, ids));
                self.promise(&job, epoch, taken, &receipts);
            }
            Command::Output { job, epoch, offset, bytes, receipts } => {
                let taken = self.with_job(&job, |open, _| open.take_output(epoch, offset, &bytes));
                self.promise(&job, epoch, taken, &receipts);
            }
            Command::Own { job, body } => {
                self.with_job(&job, |open, ids| {
                    open.take_own(*body, ids);
                    Ok(())
                })?;
            }
            Command::DropEnv(job) => recover::drop_env(&self.registry, &job)?,
            Command::MoveLimit { job, job_ms } => {
                recover::move_limit(&self.registry, &job, job_ms)?;
                self.with_job(&job, |open, ids| {
                    open.take_own(EventBody::Extended { n: None, limit_ms: job_ms }, ids);
                    Ok(())
                })?;
            }
            Command::Durable { jobs, reply } => {
                // Without an answer the connection ends and the agent asks again: a wrong one could end its jobs.
                let durable: io::Result<Vec<Durable>> =
                    jobs.iter().map(|progress| self.durable(progress)).collect();
                let _ = reply.send(durable?);
            }
            Command::Flush(reply) => replies.push(reply),
        }
        Ok(())
    }

    /// The open job; opens it if it has not ended.
    fn job(&mut self, job: &JobId) -> io::Result<&mut OpenJob> {
        if !self.open.contains_key(job) {
            let opened = OpenJob::open(&self.registry, job, &mut self.ids)?;
            self.open.insert(job.clone(), opened);
        }
        self.open.get_mut(job).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn with_job<T>(
        &mut self,
        job: &JobId,
        act: impl FnOnce(&mut OpenJob, &mut EventIds) -> io::Result<T>,
    ) -> io::Result<T> {
        self.job(job)?;
        match self.open.get_mut(job) {
            Some(open) => act(open, &mut self.ids),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Notes who wants a receipt after the commit. What could not be taken is told at once.
    fn promise(&mut self, job: &JobId, epoch: u32, taken: io::Result<()>, receipts: &Board<JobId, Receipt>) {
        match (taken, self.open.get_mut(job)) {
            (Ok(()), Some(open)) => open.promise(receipts),
            (Err(e), Some(open)) => {
                let receipt = Receipt { problem: Some(e.to_string()), ..open.receipt() };
                receipts.post(job.clone(), receipt);
            }
            // The agent comes back and is told that the registry wants nothing more of it.
            (_, None) => {
                let problem = Some("it is unknown here, or has ended".to_owned());
                receipts.post(job.clone(), Receipt { epoch, problem, ..Receipt::default() });
            }
        }
    }

    fn durable(&mut self, progress: &JobProgress) -> io::Result<Durable> {
        let JobProgress { job, epoch, .. } = progress;
        let known = match self.job(job) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            open => Some(open?).filter(|open| !open.record().state.is_final()),
        };
        Ok(match known {
            Some(open) if open.record().epoch <= *epoch => {
                let same = open.record().epoch == *epoch;
                let receipt = open.receipt();
                Durable {
                    job: job.clone(),
                    epoch: *epoch,
                    seq: if same { receipt.seq } else { 0 },
                    output: receipt.output,
                    closed: false,
                }
            }
            _ => Durable { job: job.clone(), epoch: *epoch, seq: 0, output: 0, closed: true },
        })
    }

    /// Disk, ack, publish.
    fn commit(&mut self) {
        let mut done = Vec::new();
        let mut news = self.feed.gather();
        for (job, open) in &mut self.open {
            let committed = open.commit(&self.registry);
            news.add(job, &open.take_committed());
            match committed {
                Ok(true) => {
                    self.changes.post(job.clone(), open.record().clone());
                    if open.record().state.is_final() {
                        done.push(job.clone());
                    }
                }
                Ok(false) => {}
                Err(e) => {
                    tracing::error!("{job}: its log could not be written: {e}");
                    open.fail(&e);
                    // Opened again by the next command, which repairs what was half-written.
                    done.push(job.clone());
                }
            }
        }
        self.feed.publish(news, self.ids.newest());
        for job in done {
            if let Some(open) = self.open.remove(&job)
                && let Some(finished_at) = open.record().finished_at
            {
                self.archive.add(finished_at, job);
            }
        }
        self.archive.trim(&self.registry);
    }
}
