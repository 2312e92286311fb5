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
    pub(crate) fn folder(&self, job: &JobId) -> PathBuf {
        Spool::folder_path(&self.state).join(format!("{}.1", job.file_stem()))
    }

    /// Records the state of a run's files.
    pub(crate) fn written(&mut self, job: &JobId, synced: bool) {
        let folder = self.folder(job);
        for (path, _) in crate::disk::lengths(&folder) {
            match path.file_name().and_then(|name| name.to_str()) {
                Some("spec.json") => {}
                Some("output") => self.disk.grown(&path),
                _ if synced => self.disk.synced(&path),
                _ => self.disk.grown(&path),
            }
        }
    }

    pub(crate) fn spool(&mut self, agent: &AgentNode, id: &JobId, body: EventBody) {
        self.say(|| format!("agent: {id} {}", short(&body)));
        let last = matches!(body, EventBody::Finished { .. });
        if let Some(run) = agent.run(id) {
            run.append(body.clone());
        }
        self.written(id, last);
        if let Some(job) = self.model.jobs.get_mut(id) {
            job.spooled(body, self.life, self.clocks.now);
            if last {
                self.slots.remove(id);
                self.limits.remove(id);
                job.stage = Stage::Finished;
                job.synced = job.kept();
            }
        }
    }

    /// Picks a job whose worker is running.
    fn some_alive(&mut self) -> Option<JobId> {
        let alive: Vec<JobId> = self
            .model
            .jobs
            .iter()
            .filter(|(_, job)| job.stage == Stage::Alive)
            .map(|(id, _)| id.clone())
            .collect();
        (!alive.is_empty()).then(|| alive[self.rng.usize(..alive.len())].clone())
    }

    pub(crate) fn append(&mut self, agent: &AgentNode) {
        let Some(id) = self.some_alive() else { return };
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
            self.spool(agent, &id, body);
        }
    }

    pub(crate) fn print(&mut self, agent: &AgentNode) {
        let Some(id) = self.some_alive() else { return };
        let length = if self.rng.u8(..10) == 0 { 100_000 } else { 200 };
        self.serial += 1;
        let text = format!("{id} prints {}\n", self.serial).repeat(self.rng.usize(1..=length) / 16 + 1);
        if let Some(run) = agent.run(&id) {
            run.append_output(text.as_bytes());
        }
        self.written(&id, false);
        if let Some(job) = self.model.jobs.get_mut(&id) {
            job.output.extend_from_slice(text.as_bytes());
            job.output_kept = job.output.len();
        }
    }

    pub(crate) fn finish(&mut self, agent: &AgentNode) {
        let Some(id) = self.some_alive() else { return };
        self.serial += 1;
        let exit_code = Some(self.serial);
        let told = self.model.jobs.get(&id).is_some_and(|job| job.told);
        let fails = self.rng.u8(..4) == 0;
        let state = match (told, fails) {
            (true, _) => FinalState::Cancelled,
            (false, true) => FinalState::Failed,
            (false, false) => FinalState::Completed,
        };
        self.spool(agent, &id, EventBody::Finished { state, error: None, exit_code, changes: None });
    }

    /// Ends a run that the previous agent process has left without an outcome.
    pub(crate) fn end_lost(&mut self, agent: &AgentNode) {
        // An agent learns from its first welcome why its previous process ended.
        if !self.welcomed {
            return;
        }
        let lost = |job: &crate::model::Job| job.stage == Stage::CutOff;
        let Some(id) = self.model.jobs.iter().find(|(_, job)| lost(job)).map(|(id, _)| id.clone()) else {
            return;
        };
        self.serial += 1;
        if self.rng.bool() {
            let killed = self.serial.unsigned_abs();
            self.spool(agent, &id, EventBody::Cleanup { killed, survivors: 0 });
        }
        let error =
            JobError { kind: FailureKind::AgentLost, message: format!("lost {}", self.serial), step: None };
        self.spool(
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

pub(crate) fn short(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    common::text_format::one_line(&text, 300)
}
