//! Access of jobs to the model through this relay.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::event::EventBody;
use common::ids::JobId;
use common::job::JobSpec;
use common::record::JobRecord;
use common::wire::ModelGrant;
use tokio::sync::watch;

use super::gateway::{JobMeter, JobReadings, JobRoute, MeterSettings, Secret, Upstream, UpstreamSettings};
use super::writer::{WriterCommand, WriterHandle};
use crate::config::prices::Prices;
use crate::registry::Registry;
use crate::registry::read;
use crate::state_dir::model_secret::ModelSecret;

/// Access to the model.
#[derive(Debug, Clone)]
pub(super) struct ModelAccess {
    secret: ModelSecret,
    /// Registry with the jobs' budgets.
    registry: Registry,
    prices: Prices,
    writer: WriterHandle,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Meter of each job that has used the model, from its first connection to its end.
    meters: BTreeMap<JobId, Arc<JobMeter>>,
    /// The model's server, with the settings that it was prepared with. All jobs share its connections.
    upstream: Option<(UpstreamSettings, Arc<Upstream>)>,
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
        Ok(Self { secret, registry, prices, writer, shared: Arc::default() })
    }

    /// Returns what a run's worker gets for its way to the model, if this relay has a model for it.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn grant(&self, job: &JobId, epoch: u32) -> Result<ModelGrant, String> {
        let settings = UpstreamSettings::of_this_process()?;
        let retries = settings.retries;
        self.lock().upstream(settings)?;
        Ok(ModelGrant { token: self.secret.token(job, epoch)?, retries })
    }

    /// Returns the reason why no job can use the model, one line; `None` if jobs can.
    pub(super) fn problem(&self) -> Option<String> {
        UpstreamSettings::of_this_process().and_then(|settings| self.lock().upstream(settings)).err()
    }

    /// Returns the route of a connection of a job's running run. The settings of the model's server are read each time,
    /// so that a changed key is used from the next connection on.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn route(&self, record: &JobRecord) -> Result<Arc<JobRoute>, String> {
        let token = self.secret.token(&record.job, record.epoch)?;
        let settings = UpstreamSettings::of_this_process()?;
        let meter_settings = || self.meter_settings(record, settings.model.clone());
        let mut shared = self.lock();
        let meter = shared.meter(record, meter_settings, &self.writer);
        let upstream = shared.upstream(settings)?;
        Ok(Arc::new(JobRoute::new(Secret::new(token.as_str()), upstream, meter)))
    }

    /// Returns the settings of a job's meter. A spec that can't be read has no budget: then its job was not started.
    fn meter_settings(&self, record: &JobRecord, default_model: Option<String>) -> MeterSettings {
        let spec = self.registry.spec(&record.job).read_text(read::MAX_FILE_SIZE).ok();
        let spec = spec.and_then(|text| serde_json::from_str::<JobSpec>(&text).ok());
        let budget = spec.map(|spec| spec.limits.budget).unwrap_or_default();
        let model = record.model.clone().or(default_model);
        MeterSettings { budget, prices: self.prices.clone(), model }
    }

    /// Removes the meter of a job that has ended.
    pub(super) fn remove_job(&self, job: &JobId) {
        self.lock().meters.remove(job);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Returns the server with these settings.
    fn upstream(&mut self, settings: UpstreamSettings) -> Result<Arc<Upstream>, String> {
        if let Some((known, upstream)) = &self.upstream
            && *known == settings
        {
            return Ok(Arc::clone(upstream));
        }
        let upstream = Arc::new(Upstream::new(settings.clone()).map_err(|e| e.to_string())?);
        self.upstream = Some((settings, Arc::clone(&upstream)));
        Ok(upstream)
    }

    /// Returns the meter of a job. A new one goes on from the job's record, which an earlier relay may have written.
    fn meter(
        &mut self,
        record: &JobRecord,
        settings: impl FnOnce() -> MeterSettings,
        writer: &WriterHandle,
    ) -> Arc<JobMeter> {
        if let Some(meter) = self.meters.get(&record.job) {
            return Arc::clone(meter);
        }
        let readings = JobReadings {
            total: record.model_usage.unwrap_or_default(),
            problem: record.model_problem.clone(),
            ..JobReadings::default()
        };
        let meter = Arc::new(JobMeter::new(record.job.clone(), settings(), readings));
        tokio::spawn(record_readings(record.job.clone(), meter.readings(), writer.clone()));
        self.meters.insert(record.job.clone(), Arc::clone(&meter));
        meter
    }
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
mod tests {
    use common::event::{FailureKind, Queued, Usage};
    use common::model_usage::{ModelProblem, ModelUsage};
    use tokio::sync::mpsc;

    use super::*;

    fn record(model_usage: Option<ModelUsage>) -> JobRecord {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let record = JobRecord::from_queued("a#1".parse().unwrap(), at, &Queued::default());
        JobRecord { model_usage, epoch: 1, ..record }
    }

    #[tokio::test]
    async fn a_job_has_one_meter_until_its_end_and_it_goes_on_from_the_record() {
        let (commands, _writer) = mpsc::channel(16);
        let writer = WriterHandle::new(commands);
        let mut shared = Shared::default();
        let total = ModelUsage { answers: 7, ..ModelUsage::default() };
        let meter = shared.meter(&record(Some(total)), MeterSettings::default, &writer);
        assert_eq!(meter.readings().borrow().total, total);
        assert!(Arc::ptr_eq(&meter, &shared.meter(&record(None), MeterSettings::default, &writer)));
        shared.meters.remove(&"a#1".parse().unwrap());
        assert_eq!(
            shared.meter(&record(None), MeterSettings::default, &writer).readings().borrow().total,
            ModelUsage::default()
        );
    }

    #[test]
    fn connections_are_shared_until_the_settings_change() {
        let settings = |key: &str| UpstreamSettings {
            base_url: "http://h/v1".to_owned(),
            key: Some(Secret::new(key)),
            ..UpstreamSettings::default()
        };
        let mut shared = Shared::default();
        let first = shared.upstream(settings("one")).unwrap();
        assert!(Arc::ptr_eq(&first, &shared.upstream(settings("one")).unwrap()));
        assert!(!Arc::ptr_eq(&first, &shared.upstream(settings("two")).unwrap()));
    }

    #[test]
    fn a_change_of_the_readings_is_one_event_each() {
        let before = JobReadings::default();
        let usage = Usage { input_tokens: 1, ..Usage::default() };
        let total = ModelUsage { usage, answers: 1, ..ModelUsage::default() };
        let (kind, message) = (FailureKind::Overloaded, "busy".to_owned());
        let problem = Some(ModelProblem { kind, message, resets_at: None });
        let warnings = vec!["most is used".to_owned()];
        let after = JobReadings { total, refused: 3, problem: problem.clone(), warnings };
        let expected = [
            EventBody::ModelUsage(Box::new(total)),
            EventBody::Warning { message: "most is used".to_owned() },
            EventBody::ModelProblem { problem: problem.map(Box::new) },
        ];
        assert_eq!(events_between(&before, &after), expected);
        assert_eq!(events_between(&after, &JobReadings { refused: 4, ..after.clone() }), []);
    }
}
