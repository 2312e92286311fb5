//! The delivery thread.

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
use super::schedule::{Action, Outcome, Schedule};
use super::{resume, session};
use crate::daemon::latest_map::LatestMap;
use crate::notice;
use crate::registry::Registry;
use crate::registry::outbox;
use crate::time::Clock;

/// Time limit for deliveries that still run when the daemon ends. A message to a session takes 0.1 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest sleep: the computer's clock may be set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// The core's handle of the delivery thread.
pub(in crate::daemon) struct Deliveries {
    ends: LatestMap<JobId, JobRecord>,
    stop: Arc<Notify>,
    thread: thread::JoinHandle<()>,
}

impl Deliveries {
    /// Starts the thread, which resumes the deliveries in the outbox.
    pub(in crate::daemon) fn start(
        registry: &Registry,
        config: &crate::config::Config,
        clock: Clock,
    ) -> io::Result<Self> {
        let (ends, stop) = (LatestMap::new(), Arc::new(Notify::new()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut deliveries = DeliveryLoop {
            channels: Arc::new(Channels::new(registry.clone(), &config.root, config.notify.clone())),
            schedule: Schedule::default(),
            running: JoinSet::new(),
            clock,
        };
        let (records, stopped) = (ends.clone(), Arc::clone(&stop));
        let thread = thread::Builder::new().name("deliveries".to_owned()).spawn(move || {
            runtime.block_on(deliveries.run(&records, &stopped));
            // A call that hangs must not keep the process alive.
            runtime.shutdown_background();
        })?;
        Ok(Self { ends, stop, thread })
    }

    /// Queues the notification of a job that has ended; ignores other jobs. Never waits.
    pub(in crate::daemon) fn ended(&self, record: JobRecord) {
        if record.state.is_final() {
            self.ends.post(record.job.clone(), record);
        }
    }

    /// Lets running deliveries finish, within a time limit.
    pub(in crate::daemon) async fn close(self) {
        self.stop.notify_one();
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        let _ = timeout(SHUTDOWN_TIMEOUT * 2, joined).await;
    }
}

struct DeliveryLoop {
    channels: Arc<Channels>,
    schedule: Schedule,
    running: JoinSet<(JobId, ChannelKind, Outcome)>,
    clock: Clock,
}

/// Event that the thread handles.
enum Event {
    Ended(BTreeMap<JobId, JobRecord>),
    Done((JobId, ChannelKind, Outcome)),
    Tick,
    Stop,
}

impl DeliveryLoop {
    async fn run(&mut self, ends: &LatestMap<JobId, JobRecord>, stop: &Notify) {
        self.start_due();
        loop {
            let registry = self.channels.registry().clone();
            let configured = |kind: ChannelKind| kind.is_configured(self.channels.config());
            let actions = self
                .schedule
                .due(self.clock.now(), configured, |entry| session::delivery_context(&registry, entry));
            self.perform(actions);
            let now = self.clock.now();
            let wait = self.schedule.next(now).map_or(MAX_SLEEP, |at| until(now, at).min(MAX_SLEEP));
            // Every branch is cancel-safe: a map, a set of tasks, a signal and a timer lose nothing when another wins.
            let news = tokio::select! {
                records = ends.take_all() => Event::Ended(records),
                Some(Ok(done)) = self.running.join_next() => Event::Done(done),
                () = sleep(wait) => Event::Tick,
                () = stop.notified() => Event::Stop,
            };
            match news {
                Event::Ended(records) => records.into_values().for_each(|record| self.ended(&record)),
                Event::Done((job, kind, outcome)) => self.record_outcome(&job, kind, outcome),
                Event::Tick => {}
                Event::Stop => break,
            }
        }
        for record in ends.take_all().now_or_never().unwrap_or_default().into_values() {
            self.ended(&record);
        }
        self.end().await;
    }

    /// Resumes what an earlier daemon left.
    fn start_due(&mut self) {
        let registry = self.channels.registry().clone();
        match resume::open_entries(&registry) {
            Ok(entries) => entries.into_iter().for_each(|entry| self.schedule.resume(entry)),
            Err(e) => tracing::error!("the outbox can't be read: {e}"),
        }
        if let Err(e) = resume::without_entry(&registry, self.clock.now(), |record| self.ended(record)) {
            tracing::error!("unclaimed completion notices can't be searched for: {e}");
        }
    }

    fn ended(&mut self, record: &JobRecord) {
        let registry = self.channels.registry();
        if registry.outbox_entry(&record.job).exists() {
            return;
        }
        let attended = record.origin.attended;
        if attended && outbox::shown(registry, &record.job).is_some() {
            return;
        }
        if let Some(entry) =
            plan::plan_entry(record, self.channels.config(), session::takes_messages, self.clock.now())
        {
            tracing::info!("{}", notice::headline(record));
            let actions = self.schedule.add(entry, attended);
            self.perform(actions);
        }
    }

    fn record_outcome(&mut self, job: &JobId, kind: ChannelKind, outcome: Outcome) {
        match &outcome {
            Outcome::Taken => tracing::debug!("{job}: {kind} accepted the notice"),
            Outcome::Failed(reason) => tracing::debug!("{job}: {kind} did not accept the notice: {reason}"),
            Outcome::Refused(reason) => tracing::warn!("{job}: {kind} rejected the notice: {reason}"),
        }
        let actions = self.schedule.done(job, kind, outcome, self.clock.now(), fastrand::f64());
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for act in actions {
            match act {
                Action::Save(entry) => {
                    if let Err(e) = outbox::write(self.channels.registry(), &entry) {
                        // It is delivered all the same; a relay that restarts may deliver it once more.
                        tracing::warn!("{}: the outbox can't be written: {e}", entry.job);
                    }
                }
                Action::Run(job, kind) => {
                    let channels = Arc::clone(&self.channels);
                    self.running.spawn(async move {
                        let outcome = channels::deliver(&channels, &job, kind).await;
                        (job, kind, outcome)
                    });
                }
                Action::Close(job) => resume::forget_archived(self.channels.registry(), &job),
            }
        }
    }

    /// Waits for running deliveries within a time limit, then ends the rest with their processes.
    async fn end(&mut self) {
        let all = async {
            while let Some(done) = self.running.join_next().await {
                if let Ok((job, kind, outcome)) = done {
                    let actions = self.schedule.done(&job, kind, outcome, self.clock.now(), fastrand::f64());
                    let saves = actions.into_iter().filter(|act| matches!(act, Action::Save(_)));
                    for act in saves {
                        if let Action::Save(entry) = act {
                            let _ = outbox::write(self.channels.registry(), &entry);
                        }
                    }
                }
            }
        };
        let _ = timeout(SHUTDOWN_TIMEOUT, all).await;
        self.running.shutdown().await;
    }
}

/// Returns the time from `now` to `at`; zero if `at` has passed.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
