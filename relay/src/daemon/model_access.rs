//! Access of jobs to the model through this relay.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::budget::Budget;
use common::event::EventBody;
use common::hold::Hold;
use common::ids::JobId;
use common::job::{JobSpec, Runner};
use common::model_usage::ModelUsage;
use common::record::JobRecord;
use common::wire::ModelGrant;
use jiff::Zoned;
use tokio::sync::{mpsc, watch};

use super::core::Input;
use super::gateway::{DayMeter, JobMeter, JobReadings, JobRoute, LoginHold, MeterSettings, Upstream};
use super::message::Message;
use super::writer::{WriterCommand, WriterHandle};
use crate::config::prices::Prices;
use crate::model_server::{ModelApi, Secret, UpstreamSettings};
use crate::registry::Registry;
use crate::registry::read;
use crate::state_dir::model_secret::ModelSecret;

/// Interval between two checks of the settings of the model's server: two small files are read.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Reason why a shell job can't use the Messages API any more.
const NO_ANTHROPIC_KEY: &str =
    "there is no key for the Messages API: set ANTHROPIC_API_KEY before `relay up`";

/// Access to the model.
#[derive(Debug, Clone)]
pub(super) struct ModelAccess {
    secret: ModelSecret,
    /// Registry with the jobs' budgets.
    registry: Registry,
    prices: Prices,
    day: Option<Arc<DayMeter>>,
    /// True if jobs reach only the hosts of a list.
    has_allowed_hosts: bool,
    writer: WriterHandle,
    shared: Arc<Mutex<Shared>>,
}

/// Credentials of requests. Their owner has changed them if they differ from earlier ones.
#[derive(Debug, PartialEq, Eq)]
struct Credentials {
    settings: UpstreamSettings,
    /// Number of times that others than this relay have replaced the login to which the settings refer.
    login_replacements: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// Meter of each job that has used the model, from its first connection to its end.
    meters: BTreeMap<JobId, Arc<JobMeter>>,
    /// The server of each API, with the settings that it was prepared with. All jobs share its connections.
    upstreams: BTreeMap<ModelApi, (UpstreamSettings, Arc<Upstream>)>,
}

impl ModelAccess {
    /// Loads the secret of the jobs' tokens, or creates it. What the jobs use goes to the writer, as events.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn load(
        secret_file: &Path,
        registry: Registry,
        prices: Prices,
        writer: WriterHandle,
    ) -> Result<Self, String> {
        let secret = ModelSecret::load_or_create(secret_file)?;
        let shared = Arc::default();
        Ok(Self { secret, registry, prices, day: None, has_allowed_hosts: false, writer, shared })
    }

    /// Refuses tools with which the model's server connects to hosts that a worker names, if jobs can't do it.
    pub(super) fn with_allowed_hosts(self, has_allowed_hosts: bool) -> Self {
        Self { has_allowed_hosts, ..self }
    }

    /// Lets all jobs share the budget of a day.
    ///
    /// # Errors
    /// One line with the reason why it is not known what was used today.
    pub(super) fn with_day_budget(mut self, budget: Budget, now: &Zoned) -> Result<Self, String> {
        if !budget.is_unlimited() {
            let total = use_of_day(&self.registry, now);
            let total = total.map_err(|e| format!("the use of the model today can't be read: {e}"))?;
            self.day = Some(Arc::new(DayMeter::new(budget, total, now)));
        }
        Ok(self)
    }

    /// Returns the hold of the queue, once the budget of the day is used up.
    pub(super) fn day_hold(&self) -> Option<watch::Receiver<Option<Hold>>> {
        self.day.as_ref().map(|day| day.hold())
    }

    /// Returns the token and settings with which a run's worker uses the model through this relay.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn grant(&self, job: &JobId, epoch: u32) -> Result<ModelGrant, String> {
        self.grant_for(UpstreamSettings::of_this_process()?, job, epoch)
    }

    /// Returns the token with which a shell job uses the Messages API; `None` if this relay has no key for it.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn anthropic_grant(&self, job: &JobId, epoch: u32) -> Result<Option<ModelGrant>, String> {
        let settings = UpstreamSettings::anthropic_of_this_process();
        settings.map(|settings| self.grant_for(settings, job, epoch)).transpose()
    }

    fn grant_for(&self, settings: UpstreamSettings, job: &JobId, epoch: u32) -> Result<ModelGrant, String> {
        let (retries, is_azure) = (settings.retries, settings.is_azure);
        self.lock().upstream(settings)?;
        Ok(ModelGrant { token: self.secret.token(job, epoch)?, retries, is_azure })
    }

    /// Reports changes of [`Self::problem`], and new credentials, from now on: a login or a changed file needs no restart.
    pub(super) fn spawn_checks(self, mut reported: Option<String>, core: mpsc::Sender<Message>) {
        tokio::spawn(async move {
            let (_, mut known) = self.check(UpstreamSettings::of_this_process());
            loop {
                tokio::time::sleep(CHECK_INTERVAL).await;
                let (problem, credentials) = self.check(UpstreamSettings::of_this_process());
                let mut inputs = Vec::new();
                if credentials.is_some() && credentials != known {
                    known = credentials;
                    inputs.push(Input::CredentialsChanged);
                }
                if problem != reported {
                    reported.clone_from(&problem);
                    inputs.push(Input::ModelChecked(problem));
                }
                for input in inputs {
                    if core.send(input.into()).await.is_err() {
                        return;
                    }
                }
            }
        });
    }

    /// Returns the reason why no job can use the model, one line; `None` if jobs can.
    pub(super) fn problem(&self) -> Option<String> {
        self.check(UpstreamSettings::of_this_process()).0
    }

    /// Returns the reason why no job can use the model, and the credentials that requests use.
    fn check(&self, settings: Result<UpstreamSettings, String>) -> (Option<String>, Option<Credentials>) {
        let upstream = settings.clone().and_then(|settings| self.lock().upstream(settings));
        let problem = match &upstream {
            Ok(upstream) => upstream.problem(),
            Err(problem) => Some(problem.clone()),
        };
        let login_replacements = upstream.map_or(0, |upstream| upstream.login_replacements());
        (problem, settings.ok().map(|settings| Credentials { settings, login_replacements }))
    }

    /// Returns the route of a connection of a job's running run. The settings of the model's server are read each time,
    /// so that a changed key is used from the next connection on.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn route(&self, record: &JobRecord) -> Result<Arc<JobRoute>, String> {
        let token = self.secret.token(&record.job, record.epoch)?;
        let settings = match record.runner {
            Runner::Codex => UpstreamSettings::of_this_process()?,
            Runner::Shell => UpstreamSettings::anthropic_of_this_process().ok_or(NO_ANTHROPIC_KEY)?,
        };
        let (meter, upstream) = {
            let mut shared = self.lock();
            let meter = shared.meter(record, || self.meter_settings(record, &settings), &self.writer)?;
            (meter, shared.upstream(settings)?)
        };
        // The job may have ended since its record was read. Then nothing else would remove its meter.
        if self.has_ended(&record.job) {
            self.remove_job(&record.job);
            return Err("the job has ended".to_owned());
        }
        Ok(Arc::new(JobRoute::new(Secret::new(token.as_str()), upstream, meter)))
    }

    /// Returns the settings of a job's meter. Without its spec, its budget is not known.
    fn meter_settings(
        &self,
        record: &JobRecord,
        settings: &UpstreamSettings,
    ) -> Result<MeterSettings, String> {
        let unreadable = |reason: String| {
            format!("its spec can't be read ({reason}), so its budget is not known: launch it again")
        };
        let spec = self.registry.spec(&record.job).read_text(read::MAX_FILE_SIZE);
        let spec = spec.map_err(|e| unreadable(e.to_string()))?;
        let spec: JobSpec = serde_json::from_str(&spec).map_err(|e| unreadable(e.to_string()))?;
        Ok(MeterSettings {
            budget: spec.limits.budget,
            prices: self.prices.clone(),
            day: self.day.clone(),
            model: record.model.clone().or_else(|| settings.model.clone()),
            service_tier: settings.service_tier.clone(),
            has_allowed_hosts: self.has_allowed_hosts,
        })
    }

    fn has_ended(&self, job: &JobId) -> bool {
        read::load_record(&self.registry, job).is_ok_and(|stored| stored.record.state.is_final())
    }

    /// Waits for refreshes of logins that are under way: their tokens can be used once, and have to be stored. Until the
    /// returned values are dropped, no other one begins.
    pub(super) async fn hold_logins(&self) -> Vec<LoginHold> {
        let upstreams: Vec<_> =
            self.lock().upstreams.values().map(|(_, upstream)| Arc::clone(upstream)).collect();
        let holds = upstreams.iter().map(|upstream| upstream.hold_login());
        futures_util::future::join_all(holds).await.into_iter().flatten().collect()
    }

    /// Removes the meter of a job that has ended. Its open connections can begin no further request.
    pub(super) fn remove_job(&self, job: &JobId) {
        if let Some(meter) = self.lock().meters.remove(job) {
            meter.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Returns the server with these settings.
    fn upstream(&mut self, settings: UpstreamSettings) -> Result<Arc<Upstream>, String> {
        if let Some((known, upstream)) = self.upstreams.get(&settings.api)
            && *known == settings
        {
            return Ok(Arc::clone(upstream));
        }
        let upstream = Arc::new(Upstream::new(&settings).map_err(|e| e.to_string())?);
        self.upstreams.insert(settings.api, (settings, Arc::clone(&upstream)));
        Ok(upstream)
    }

    /// Returns the meter of a job. A new one goes on from the job's record, which an earlier relay may have written.
    fn meter(
        &mut self,
        record: &JobRecord,
        settings: impl FnOnce() -> Result<MeterSettings, String>,
        writer: &WriterHandle,
    ) -> Result<Arc<JobMeter>, String> {
        if let Some(meter) = self.meters.get(&record.job) {
            return Ok(Arc::clone(meter));
        }
        let readings = JobReadings {
            total: record.model_usage.unwrap_or_default(),
            problem: record.model_problem.clone(),
            ..JobReadings::default()
        };
        let meter = Arc::new(JobMeter::new(record.job.clone(), settings()?, readings));
        tokio::spawn(record_readings(record.job.clone(), meter.readings(), writer.clone()));
        self.meters.insert(record.job.clone(), Arc::clone(&meter));
        Ok(meter)
    }
}

/// Returns what the jobs of today have used. The whole use of a job belongs to the day of its last event.
fn use_of_day(registry: &Registry, now: &Zoned) -> io::Result<ModelUsage> {
    let zone = now.time_zone();
    let mut total = ModelUsage::default();
    for registry in [registry.archive_registry(), registry.clone()] {
        for stored in read::read_records(&registry)?.iter() {
            let is_today = stored.record.last_event_at.to_zoned(zone.clone()).date() == now.date();
            if let Some(used) = stored.record.model_usage.filter(|_| is_today) {
                total = total.add_difference(&ModelUsage::default(), &used);
            }
        }
    }
    Ok(total)
}

/// Records each change of a job's readings as events, until the meter is dropped.
async fn record_readings(job: JobId, mut readings: watch::Receiver<JobReadings>, writer: WriterHandle) {
    let mut recorded = readings.borrow_and_update().clone();
    while readings.changed().await.is_ok() {
        let current = readings.borrow_and_update().clone();
        for body in events_between(&recorded, &current) {
            let (job, body) = (job.clone(), Box::new(body));
            writer.send(WriterCommand::RecordRelayEvent { job, body }).await;
        }
        recorded = current;
    }
}

/// Returns the events for a change of a job's readings.
fn events_between(recorded: &JobReadings, current: &JobReadings) -> Vec<EventBody> {
    let usage = (recorded.total != current.total).then(|| EventBody::ModelUsage(Box::new(current.total)));
    let problem = (recorded.problem != current.problem)
        .then(|| EventBody::ModelProblem { problem: current.problem.clone().map(Box::new) });
    let warnings = current.warnings.iter().skip(recorded.warnings.len()).cloned();
    let warnings = warnings.map(|message| EventBody::Warning { message });
    usage.into_iter().chain(warnings).chain(problem).collect()
}

#[cfg(test)]
#[path = "model_access_tests.rs"]
mod tests;
