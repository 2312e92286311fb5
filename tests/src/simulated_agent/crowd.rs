//! A crowd: many simulated agents, each with a job that runs until the test ends the job.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::ids::JobId;
use common::wire::{JobProgress, RelayFrame};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::connection::{backoff, completed_event, first_events, hello};
use super::{Connection, ConnectionEnd, Endpoint};

/// Capacity of the queue of reports. Each agent has one job, and the test receives its few reports at once.
const MAX_REPORTS: usize = 4096;

/// Report of an agent of a crowd to the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The agent received the welcome at this time.
    Welcomed(Instant),
    /// The agent's job runs.
    Running(JobId),
    /// The relay acknowledged the outcome of the agent's job, this long after the agent had sent it.
    Acked(Duration),
}

/// A crowd of simulated agents with one slot each, which reconnect. Dropping the crowd ends its agents.
#[derive(Debug)]
pub struct Crowd {
    reports: mpsc::Receiver<Report>,
    /// Signal of each agent to end its job.
    end_signals: Vec<Arc<Notify>>,
    tasks: JoinSet<()>,
}

impl Crowd {
    /// Starts `size` agents, which begin to connect.
    pub fn start(endpoint: &Endpoint, size: usize) -> Self {
        let (sender, reports) = mpsc::channel(MAX_REPORTS);
        let end_signals: Vec<Arc<Notify>> = (0..size).map(|_| Arc::default()).collect();
        let mut tasks = JoinSet::new();
        for (number, end_signal) in end_signals.iter().enumerate() {
            let (endpoint, mut agent) =
                (endpoint.clone(), Agent::new(number, sender.clone(), Arc::clone(end_signal)));
            tasks.spawn(async move { agent.run(&endpoint).await });
        }
        Self { reports, end_signals, tasks }
    }

    /// Waits for the next report.
    pub async fn report(&mut self) -> Report {
        self.reports.recv().await.unwrap_or_else(|| panic!("the {} agents have ended", self.tasks.len()))
    }

    /// Ends the job of the agent with this number; numbers beyond the last agent wrap around.
    pub fn end_job_of(&self, number: usize) {
        if let Some(end_signal) = self.end_signals.get(number % self.end_signals.len().max(1)) {
            end_signal.notify_one();
        }
    }
}

/// One agent of a crowd.
struct Agent {
    name: String,
    reports: mpsc::Sender<Report>,
    end_signal: Arc<Notify>,
    /// Jobs of the agent, each with its run. At most one job runs.
    jobs: BTreeMap<JobId, Run>,
    /// True if the running job, or the next one, should end.
    should_end: bool,
    random: RandomState,
}

struct Run {
    epoch: u32,
    /// Number of events that were sent.
    events: u64,
    /// Time at which the outcome was sent.
    outcome_sent: Option<Instant>,
}

/// Input of an agent.
enum Input {
    Frame(Result<RelayFrame, ConnectionEnd>),
    EndSignal,
}

impl Agent {
    fn new(number: usize, reports: mpsc::Sender<Report>, end_signal: Arc<Notify>) -> Self {
        let name = format!("crowd-{number:04}");
        Self {
            name,
            reports,
            end_signal,
            jobs: BTreeMap::new(),
            should_end: false,
            random: RandomState::new(),
        }
    }

    async fn run(&mut self, endpoint: &Endpoint) {
        let mut tries = 0;
        loop {
            let hello = hello(&self.name, 1, self.progress());
            if let Ok((mut connection, durable)) = Connection::handshake(endpoint, hello).await {
                tries = 0;
                self.report(Report::Welcomed(Instant::now())).await;
                for held in durable.iter().filter(|held| held.closed) {
                    self.jobs.remove(&held.job);
                }
                let _ = self.serve(&mut connection).await;
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

    async fn serve(&mut self, connection: &mut Connection) -> Result<(), ConnectionEnd> {
        loop {
            self.end_job(connection).await?;
            // Cancel-safe: a half-read message stays in the socket, and a signal that was not received stays set. An
            // interrupted pong is sent with the next frame.
            let input = tokio::select! {
                frame = connection.next() => Input::Frame(frame),
                () = self.end_signal.notified() => Input::EndSignal,
            };
            match input {
                Input::EndSignal => self.should_end = true,
                Input::Frame(frame) => self.handle_frame(connection, frame?).await?,
            }
        }
    }

    async fn handle_frame(
        &mut self,
        connection: &mut Connection,
        frame: RelayFrame,
    ) -> Result<(), ConnectionEnd> {
        match frame {
            RelayFrame::Start { job, epoch, .. } => {
                let bodies = first_events(&self.name);
                let events = bodies.len() as u64;
                connection.send_events(&job, epoch, 1, bodies).await?;
                self.jobs.insert(job, Run { epoch, events, outcome_sent: None });
            }
            RelayFrame::Ack { job, seq, .. } => {
                let Some(run) = self.jobs.get(&job).filter(|run| seq >= run.events) else { return Ok(()) };
                match run.outcome_sent {
                    Some(at) => {
                        self.jobs.remove(&job);
                        self.report(Report::Acked(at.elapsed())).await;
                    }
                    None => self.report(Report::Running(job)).await,
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the running job if the test has requested the end.
    async fn end_job(&mut self, connection: &mut Connection) -> Result<(), ConnectionEnd> {
        let running = self.jobs.iter_mut().find(|(_, run)| run.outcome_sent.is_none());
        let Some((job, run)) = running.filter(|_| self.should_end) else { return Ok(()) };
        self.should_end = false;
        run.outcome_sent = Some(Instant::now());
        run.events += 1;
        connection.send_events(job, run.epoch, run.events, vec![completed_event()]).await
    }

    async fn report(&self, report: Report) {
        // An error says that the test receives no more reports.
        let _ = self.reports.send(report).await;
    }
}
