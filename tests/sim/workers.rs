//! Actions of the agent's workers.

use std::path::PathBuf;

use common::event::{EventBody, FailureKind, FinalState, JobError, StepOutcome};
use common::ids::JobId;
use common::job::StepKind;
use worker_agent::internals::Spool;

use crate::agent_node::AgentNode;
use crate::model::Stage;
use crate::world::World;

impl World {
    pub(crate) fn run_folder(&self, job: &JobId) -> PathBuf {
        Spool::folder_path(&self.state_dir).join(format!("{}.1", job.file_stem()))
    }

    /// Records the lengths of a run's files, as synced lengths if `is_synced`.
    pub(crate) fn record_file_lengths(&mut self, job: &JobId, is_synced: bool) {
        let folder = self.run_folder(job);
        for (path, _) in crate::disk::lengths(&folder) {
            match path.file_name().and_then(|name| name.to_str()) {
                Some("spec.json") => {}
                Some("output") => self.disk.record_length(&path),
                _ if is_synced => self.disk.mark_synced(&path),
                _ => self.disk.record_length(&path),
            }
        }
    }

    pub(crate) fn append_event(&mut self, agent: &AgentNode, id: &JobId, body: EventBody) {
        self.trace_line(|| format!("agent: {id} {}", short_debug(&body)));
        let is_outcome = matches!(body, EventBody::Finished { .. });
        if let Some(run) = agent.run(id) {
            run.append(body.clone());
        }
        self.record_file_lengths(id, is_outcome);
        if let Some(job) = self.model.jobs.get_mut(id) {
            job.add_entry(body, self.agent_process, self.clocks.now);
            if is_outcome {
                self.slots.remove(id);
                self.limits.remove(id);
                job.stage = Stage::Finished;
                job.synced_events = job.kept_events();
            }
        }
    }

    /// Picks a job whose worker is running.
    fn pick_running_job(&mut self) -> Option<JobId> {
        let running: Vec<JobId> = self
            .model
            .jobs
            .iter()
            .filter(|(_, job)| job.stage == Stage::Running)
            .map(|(id, _)| id.clone())
            .collect();
        (!running.is_empty()).then(|| running[self.rng.usize(..running.len())].clone())
    }

    pub(crate) fn report_events(&mut self, agent: &AgentNode) {
        let Some(id) = self.pick_running_job() else { return };
        for _ in 0..self.rng.u32(1..4) {
            self.serial += 1;
            let n = self.serial.unsigned_abs();
            let body = match self.rng.u8(..8) {
                0 => EventBody::StepStarted {
                    n,
                    kind: StepKind::Command,
                    title: format!("step {n}"),
                    limit_ms: Some(1000),
                    parent: None,
                },
                1 => EventBody::StepFinished {
                    n: n.saturating_sub(3),
                    outcome: StepOutcome::Ok,
                    exit_code: Some(self.serial),
                    elapsed_ms: 5,
                    resources: None,
                },
                2 => EventBody::Message { text: format!("{n} {}", "long ".repeat(self.rng.usize(1..400))) },
                _ => EventBody::Message { text: format!("event {n}") },
            };
            self.append_event(agent, &id, body);
        }
    }

    pub(crate) fn print_output(&mut self, agent: &AgentNode) {
        let Some(id) = self.pick_running_job() else { return };
        let length = if self.rng.u8(..10) == 0 { 100_000 } else { 200 };
        self.serial += 1;
        let text = format!("{id} prints {}\n", self.serial).repeat(self.rng.usize(1..=length) / 16 + 1);
        if let Some(run) = agent.run(&id) {
            run.append_output(text.as_bytes());
        }
        self.record_file_lengths(&id, false);
        if let Some(job) = self.model.jobs.get_mut(&id) {
            job.output.extend_from_slice(text.as_bytes());
            job.output_kept = job.output.len();
        }
    }

    pub(crate) fn finish_run(&mut self, agent: &AgentNode) {
        let Some(id) = self.pick_running_job() else { return };
        self.serial += 1;
        let exit_code = Some(self.serial);
        let is_cancelled = self.model.jobs.get(&id).is_some_and(|job| job.has_received_cancel);
        let fails = self.rng.u8(..4) == 0;
        let state = match (is_cancelled, fails) {
            (true, _) => FinalState::Cancelled,
            (false, true) => FinalState::Failed,
            (false, false) => FinalState::Completed,
        };
        self.append_event(agent, &id, EventBody::Finished { state, error: None, exit_code, changes: None });
    }

    /// Ends a run that the previous agent process has left without an outcome.
    pub(crate) fn end_lost_run(&mut self, agent: &AgentNode) {
        // The first welcome tells an agent why its previous process ended.
        if !self.is_welcomed {
            return;
        }
        let is_cut_off = |job: &crate::model::Job| job.stage == Stage::CutOff;
        let Some(id) = self.model.jobs.iter().find(|(_, job)| is_cut_off(job)).map(|(id, _)| id.clone())
        else {
            return;
        };
        self.serial += 1;
        if self.rng.bool() {
            let killed = self.serial.unsigned_abs();
            self.append_event(agent, &id, EventBody::Cleanup { killed, survivors: 0 });
        }
        let error =
            JobError { kind: FailureKind::AgentLost, message: format!("lost {}", self.serial), step: None };
        self.append_event(
            agent,
            &id,
            EventBody::Finished {
                state: FinalState::Failed,
                error: Some(error),
                exit_code: None,
                changes: None,
            },
        );
    }
}

pub(crate) fn short_debug(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    common::text_format::one_line(&text, 300)
}
