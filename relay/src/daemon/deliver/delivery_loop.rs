//! The delivery thread: delivers the completion notices of ended jobs through their channels.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::ids::JobId;
use common::record::JobRecord;
use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::channels::{self, Channels};
use super::plan::{self, ChannelKind};
use super::schedule::{DeliveryAction, DeliveryOutcome, Schedule};
use super::{resume, session};
use crate::daemon::job_repositories::JobRepositories;
use crate::daemon::latest_map::LatestMap;
use crate::notice;
use crate::registry::Registry;
use crate::registry::outbox;
use crate::time::Clock;

/// Time limit for the deliveries that are still running when the daemon ends. A message to a session takes 0.1 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum sleep of the loop. It is limited because the computer's clock may be set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Handle of the delivery thread.
pub(in crate::daemon) struct DeliveryThread {
    ended_jobs: LatestMap<JobId, JobRecord>,
    stop_signal: Arc<Notify>,
    thread: thread::JoinHandle<()>,
}

impl DeliveryThread {
    /// Starts the thread, which resumes the deliveries in the outbox.
    pub(in crate::daemon) fn start(
        registry: &Registry,
        config: &crate::config::Config,
        clock: Clock,
        repositories: JobRepositories,
    ) -> io::Result<Self> {
        let (ended_jobs, stop_signal) = (LatestMap::new(), Arc::new(Notify::new()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut deliveries = DeliveryLoop {
            channels: Arc::new(Channels::new(registry.clone(), &config.root, config.notify.clone())),
            schedule: Schedule::default(),
            running_deliveries: JoinSet::new(),
            clock,
            repositories,
        };
        let (records, stop_signal_copy) = (ended_jobs.clone(), Arc::clone(&stop_signal));
        let thread = thread::Builder::new().name("deliveries".to_owned()).spawn(move || {
            runtime.block_on(deliveries.run(&records, &stop_signal_copy));
            // A hanging call must not keep the process alive.
            runtime.shutdown_background();
        })?;
        Ok(Self { ended_jobs, stop_signal, thread })
    }

    /// Queues a job that has ended for notification; ignores other jobs. Never waits.
    pub(in crate::daemon) fn queue_ended_job(&self, record: JobRecord) {
        if record.state.is_final() {
            self.ended_jobs.post(record.job.clone(), record);
        }
    }

    /// Lets running deliveries finish, within a time limit.
    pub(in crate::daemon) async fn close(self) {
        self.stop_signal.notify_one();
        let joining = tokio::task::spawn_blocking(move || self.thread.join());
        let _ = timeout(SHUTDOWN_TIMEOUT * 2, joining).await;
    }
}

struct DeliveryLoop {
    channels: Arc<Channels>,
    schedule: Schedule,
    running_deliveries: JoinSet<(JobId, ChannelKind, DeliveryOutcome)>,
    clock: Clock,
    /// Repositories of jobs whose notices wait for their results.
    repositories: JobRepositories,
}

enum LoopEvent {
    JobsEnded(BTreeMap<JobId, JobRecord>),
    DeliveryFinished((JobId, ChannelKind, DeliveryOutcome)),
    Tick,
    Stop,
}

impl DeliveryLoop {
    async fn run(&mut self, ended_jobs: &LatestMap<JobId, JobRecord>, stop_signal: &Notify) {
        self.resume_outbox();
        loop {
            let registry = self.channels.registry().clone();
            let is_configured = |kind: ChannelKind| kind.is_configured(self.channels.config());
            let actions = self.schedule.due_actions(self.clock.now(), is_configured, |entry| {
                session::delivery_context(&registry, entry)
            });
            self.execute_actions(actions);
            let now = self.clock.now();
            let pause =
                self.schedule.next_due_time(now).map_or(MAX_SLEEP, |at| time_until(now, at).min(MAX_SLEEP));
            // Every branch is cancel-safe: a map, a set of tasks, a signal and a timer lose nothing when another wins.
            let event = tokio::select! {
                records = ended_jobs.take_all() => LoopEvent::JobsEnded(records),
                Some(Ok(done)) = self.running_deliveries.join_next() => LoopEvent::DeliveryFinished(done),
                () = sleep(pause) => LoopEvent::Tick,
                () = stop_signal.notified() => LoopEvent::Stop,
            };
            match event {
                LoopEvent::JobsEnded(records) => {
                    for record in records.into_values() {
                        self.add_ended_job(&record);
                    }
                }
                LoopEvent::DeliveryFinished((job, kind, outcome)) => self.record_outcome(&job, kind, outcome),
                LoopEvent::Tick => {}
                LoopEvent::Stop => break,
            }
        }
        for record in ended_jobs.take_all().now_or_never().unwrap_or_default().into_values() {
            self.add_ended_job(&record);
        }
        self.wait_for_running_deliveries().await;
    }

    /// Resumes the deliveries of an earlier daemon.
    fn resume_outbox(&mut self) {
        let registry = self.channels.registry().clone();
        match resume::pending_entries(&registry) {
            Ok(entries) => entries.into_iter().for_each(|entry| self.schedule.resume_entry(entry)),
            Err(e) => tracing::error!("the outbox can't be read: {e}"),
        }
        let now = self.clock.now();
        // A job whose result is not recorded yet is queued later, when the result is recorded.
        let visit = |record: &JobRecord| {
            if !self.repositories.lacks_result(record) {
                self.add_ended_job(record);
            }
        };
        if let Err(e) = resume::visit_jobs_without_entry(&registry, now, visit) {
            tracing::error!("unclaimed completion notices can't be searched for: {e}");
        }
    }

    fn add_ended_job(&mut self, record: &JobRecord) {
        let registry = self.channels.registry();
        if registry.outbox_entry(&record.job).exists() {
            return;
        }
        let is_attended = record.origin.attended;
        if is_attended && outbox::read_claim(registry, &record.job).is_some() {
            return;
        }
        if let Some(entry) =
            plan::plan_entry(record, self.channels.config(), session::accepts_messages, self.clock.now())
        {
            tracing::info!("{}", notice::format_headline(record));
            let actions = self.schedule.add_entry(entry, is_attended);
            self.execute_actions(actions);
        }
    }

    fn record_outcome(&mut self, job: &JobId, kind: ChannelKind, outcome: DeliveryOutcome) {
        match &outcome {
            DeliveryOutcome::Accepted => tracing::debug!("{job}: {kind} accepted the notice"),
            DeliveryOutcome::Failed(reason) => {
                tracing::debug!("{job}: {kind} did not accept the notice: {reason}");
            }
            DeliveryOutcome::Refused(reason) => tracing::warn!("{job}: {kind} rejected the notice: {reason}"),
        }
        let actions = self.schedule.on_outcome(job, kind, outcome, self.clock.now(), fastrand::f64());
        self.execute_actions(actions);
    }

    fn execute_actions(&mut self, actions: Vec<DeliveryAction>) {
        for action in actions {
            match action {
                DeliveryAction::SaveEntry(entry) => {
                    if let Err(e) = outbox::write_entry(self.channels.registry(), &entry) {
                        // The notice is delivered anyway; after a restart it may be delivered again.
                        tracing::warn!("{}: the outbox can't be written: {e}", entry.job);
                    }
                }
                DeliveryAction::StartDelivery(job, kind) => {
                    let channels = Arc::clone(&self.channels);
                    self.running_deliveries.spawn(async move {
                        let outcome = channels::attempt_delivery(&channels, &job, kind).await;
                        (job, kind, outcome)
                    });
                }
                DeliveryAction::CloseEntry(job) => {
                    resume::remove_archived_entry(self.channels.registry(), &job);
                }
            }
        }
    }

    /// Waits for running deliveries within a time limit, then cancels the others and kills their processes.
    async fn wait_for_running_deliveries(&mut self) {
        let finish_all = async {
            while let Some(done) = self.running_deliveries.join_next().await {
                if let Ok((job, kind, outcome)) = done {
                    let actions =
                        self.schedule.on_outcome(&job, kind, outcome, self.clock.now(), fastrand::f64());
                    for action in actions {
                        if let DeliveryAction::SaveEntry(entry) = action {
                            let _ = outbox::write_entry(self.channels.registry(), &entry);
                        }
                    }
                }
            }
        };
        let _ = timeout(SHUTDOWN_TIMEOUT, finish_all).await;
        self.running_deliveries.shutdown().await;
    }
}

/// Returns the time from `now` to `at`; zero if `at` has passed.
fn time_until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
