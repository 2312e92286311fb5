//! Many agents, each with a job that runs until the test ends it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::ids::JobId;
use common::wire::{JobProgress, RelayFrame};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::link::{backoff, begun, completed, hello};
use super::{Door, Ended, Link};

/// Capacity of the report queue: each agent has one job, and its few reports are received immediately.
const REPORTS: usize = 4096;

/// Report of an agent of the crowd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The agent received the welcome at this time.
    Welcomed(Instant),
    /// The job of the agent runs.
    Running(JobId),
    /// The end of the job was acknowledged, this long after it was sent.
    Acked(Duration),
}

/// Agents with one slot each, which reconnect as real ones do when they lose their connection. They end when this is
/// dropped.
#[derive(Debug)]
pub struct Crowd {
    reports: mpsc::Receiver<Report>,
    /// Signals to end the job of an agent.
    orders: Vec<Arc<Notify>>,
    tasks: JoinSet<()>,
}

impl Crowd {
    /// Creates `size` agents, which begin to connect.
    pub fn start(door: &Door, size: usize) -> Self {
        let (sender, reports) = mpsc::channel(REPORTS);
        let orders: Vec<Arc<Notify>> = (0..size).map(|_| Arc::default()).collect();
        let mut tasks = JoinSet::new();
        for (number, order) in orders.iter().enumerate() {
            let (door, mut agent) = (door.clone(), Agent::new(number, sender.clone(), Arc::clone(order)));
            tasks.spawn(async move { agent.run(&door).await });
        }
        Self { reports, orders, tasks }
    }

    /// Waits for the next report.
    pub async fn report(&mut self) -> Report {
        self.reports.recv().await.unwrap_or_else(|| panic!("the {} agents have ended", self.tasks.len()))
    }

    /// Ends the job of an agent; numbers beyond the last agent wrap around.
    pub fn end_one(&self, number: usize) {
        if let Some(order) = self.orders.get(number % self.orders.len().max(1)) {
            order.notify_one();
        }
    }
}

struct Agent {
    name: String,
    reports: mpsc::Sender<Report>,
    orders: Arc<Notify>,
    /// Jobs of the agent and the events sent for each. At most one job runs.
    jobs: BTreeMap<JobId, Run>,
    /// True if the running job, or the next one, should end.
    ending: bool,
    random: RandomState,
}

struct Run {
    epoch: u32,
    events: u64,
    /// Time at which the end was sent.
    finished: Option<Instant>,
}

/// Input of an agent.
enum Input {
    Frame(Result<RelayFrame, Ended>),
    Order,
}

impl Agent {
    fn new(number: usize, reports: mpsc::Sender<Report>, orders: Arc<Notify>) -> Self {
        let name = format!("crowd-{number:04}");
        Self { name, reports, orders, jobs: BTreeMap::new(), ending: false, random: RandomState::new() }
    }

    async fn run(&mut self, door: &Door) {
        let mut tries = 0;
        loop {
            let hello = hello(&self.name, 1, self.progress());
            if let Ok((mut link, durable)) = Link::welcomed(door, hello).await {
                tries = 0;
                self.tell(Report::Welcomed(Instant::now())).await;
                for held in durable.iter().filter(|held| held.closed) {
                    self.jobs.remove(&held.job);
                }
                let _ = self.serve(&mut link).await;
            }
            #[expect(clippy::cast_possible_truncation, reason = "any 32 bits are random enough")]
            let random = self.random.hash_one((&self.name, tries, Instant::now())) as u32;
            tokio::time::sleep(backoff(tries, random)).await;
            tries += 1;
        }
    }

    fn progress(&self) -> Vec<JobProgress> {
        let progress = |(job, run): (&JobId, &Run)| JobProgress {
            job: job.clone(),
            epoch: run.epoch,
            last_seq: run.events,
        };
        self.jobs.iter().map(progress).collect()
    }

    async fn serve(&mut self, link: &mut Link) -> Result<(), Ended> {
        loop {
            self.end_job(link).await?;
            // Cancel-safe: a half-read message stays in the socket, and an order that was not received stays queued. An
            // interrupted pong is sent with the next frame.
            let input = tokio::select! {
                frame = link.next() => Input::Frame(frame),
                () = self.orders.notified() => Input::Order,
            };
            match input {
                Input::Order => self.ending = true,
                Input::Frame(frame) => self.take(link, frame?).await?,
            }
        }
    }

    async fn take(&mut self, link: &mut Link, frame: RelayFrame) -> Result<(), Ended> {
        match frame {
            RelayFrame::Start { job, epoch, .. } => {
                let bodies = begun(&self.name);
                let events = bodies.len() as u64;
                link.events(&job, epoch, 1, bodies).await?;
                self.jobs.insert(job, Run { epoch, events, finished: None });
            }
            RelayFrame::Ack { job, seq, .. } => {
                let Some(run) = self.jobs.get(&job).filter(|run| seq >= run.events) else { return Ok(()) };
                match run.finished {
                    Some(at) => {
                        self.jobs.remove(&job);
                        self.tell(Report::Acked(at.elapsed())).await;
                    }
                    None => self.tell(Report::Running(job)).await,
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the running job if that was ordered.
    async fn end_job(&mut self, link: &mut Link) -> Result<(), Ended> {
        let running = self.jobs.iter_mut().find(|(_, run)| run.finished.is_none());
        let Some((job, run)) = running.filter(|_| self.ending) else { return Ok(()) };
        self.ending = false;
        run.finished = Some(Instant::now());
        run.events += 1;
        link.events(job, run.epoch, run.events, vec![completed()]).await
    }

    async fn tell(&self, report: Report) {
        // Ignored if the test receives no more reports.
        let _ = self.reports.send(report).await;
    }
}
