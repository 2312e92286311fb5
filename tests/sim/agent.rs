//! What the agent does: its workers, its connection, its falls.

use std::path::PathBuf;
use std::time::Duration;

use common::event::{EventBody, FailureKind, FinalState, JobError, StepOutcome};
use common::ids::JobId;
use common::job::StepKind;
use common::wire::{self, AgentFrame, RelayFrame};
use worker_agent::internals::{AgentSide, JobLimit};

use crate::model::Stage;
use crate::network::{Arrival, ConnId};
use crate::world::{End, Fall, STEP, World};

impl World {
    /// The agent has started: its spool must hold what its disk did not lose.
    pub(crate) fn woke(&mut self, agent: &AgentSide, last: Fall) -> Result<(), String> {
        self.welcomed = false;
        self.slots.clear();
        self.limits.clear();
        let runs = agent.runs();
        self.say(|| format!("agent: life {}, holds {runs:?}", self.life));
        for (id, job) in &mut self.model.jobs {
            let Some(run) = runs.iter().find(|run| run.job == *id) else {
                if job.is_spooled() && job.damaged {
                    job.wipe();
                } else if job.is_spooled() {
                    return Err(format!("{id} is gone from the spool"));
                }
                continue;
            };
            let held = agent.events(id, 1).map_err(|e| format!("{id}: {e}"))?;
            let held: Vec<EventBody> = held.into_iter().map(|event| event.body).collect();
            let before = job.kept();
            job.restarted(&held, self.relay.book.walked(id)).map_err(|e| format!("{id}: {e}"))?;
            let safe = if last == Fall::Power { job.synced } else { before };
            if job.kept() < safe && !job.damaged {
                return Err(format!("{id}: of {before} events {} are left, {safe} were safe", job.kept()));
            }
            job.stage = if run.finished { Stage::Finished } else { Stage::CutOff };
            job.output_kept = usize::try_from(run.output).unwrap_or(usize::MAX).min(job.output_kept);
        }
        Ok(())
    }

    /// The agent has died.
    pub(crate) fn fell(&mut self, fall: Fall) {
        self.say(|| format!("agent: {fall:?}"));
        match fall {
            Fall::Over => return,
            Fall::Kill => self.tally.kills += 1,
            Fall::Power => {
                // What it has lost, and what the relay holds, which can't be read, may go by the same numbers.
                let spoiled = self.spoiled.as_ref().map(|spoiled| &spoiled.job);
                let spoiled = spoiled.and_then(|job| self.model.jobs.get_mut(job));
                if let Some(job) = spoiled.filter(|job| job.is_spooled()) {
                    job.damaged = true;
                }
                self.tally.power_losses += 1;
                self.sent.clear();
                for path in self.disk.paths() {
                    let rubbish = path.file_name().is_none_or(|name| name != "output");
                    self.disk.lose_power(&path, &mut self.rng, rubbish);
                }
            }
            Fall::Wipe => {
                self.power_off_for_good();
            }
        }
        for id in self.network.served() {
            if let Some(conn) = self.network.conn(id) {
                let kept = self.rng.usize(..=conn.up.under_way());
                conn.up.end(kept);
            }
        }
        self.leave_half_made();
    }

    /// The agent died while it took a job: what there is of the run's folder is worth nothing, and must not be in the way.
    fn leave_half_made(&mut self) {
        let open = |(id, job): (&JobId, &crate::model::Job)| {
            (!job.is_spooled() && !self.relay.book.ended(id)).then(|| id.clone())
        };
        let Some(id) = self.model.jobs.iter().find_map(open).filter(|_| self.rng.u8(..4) == 0) else {
            return;
        };
        let folder = self.folder(&id);
        if folder.exists() || std::fs::create_dir_all(&folder).is_err() {
            return;
        }
        let files: [(&str, &[u8]); 4] =
            [("events.000001", b""), ("events.000001", b"half"), ("output", b""), ("spec.json", b"{")];
        for (name, bytes) in files.iter().take(self.rng.usize(..=files.len())) {
            std::fs::write(folder.join(name), bytes).expect("a file of the simulation");
        }
        self.say(|| format!("agent: it was taking {id}"));
    }

    fn power_off_for_good(&mut self) {
        self.tally.power_losses += 1;
        self.sent.clear();
        self.wipes += 1;
        let _ = std::fs::remove_dir_all(&self.state);
        self.disk.forget(&self.state.clone());
        self.model.jobs.values_mut().filter(|job| job.is_spooled()).for_each(crate::model::Job::wipe);
    }

    fn folder(&self, job: &JobId) -> PathBuf {
        self.state.join(format!("spool.v{}", wire::PROTOCOL)).join(format!("{}.1", job.stem()))
    }

    /// Takes notice of a run's files.
    fn written(&mut self, job: &JobId, synced: bool) {
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

    fn spool(&mut self, agent: &AgentSide, id: &JobId, body: EventBody) {
        self.say(|| format!("agent: {id} {}", short(&body)));
        let last = matches!(body, EventBody::Finished { .. });
        agent.append(id, 1, body.clone());
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

    /// A job whose worker lives.
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

    pub(crate) fn append(&mut self, agent: &AgentSide) {
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

    pub(crate) fn print(&mut self, agent: &AgentSide) {
        let Some(id) = self.some_alive() else { return };
        let length = if self.rng.u8(..10) == 0 { 100_000 } else { 200 };
        self.serial += 1;
        let text = format!("{id} prints {}\n", self.serial).repeat(self.rng.usize(1..=length) / 16 + 1);
        agent.append_output(&id, 1, text.as_bytes());
        self.written(&id, false);
        if let Some(job) = self.model.jobs.get_mut(&id) {
            job.output.extend_from_slice(text.as_bytes());
            job.output_kept = job.output.len();
        }
    }

    pub(crate) fn finish(&mut self, agent: &AgentSide) {
        let Some(id) = self.some_alive() else { return };
        self.serial += 1;
        let exit_code = Some(self.serial);
        let told = self.model.jobs.get(&id).is_some_and(|job| job.told);
        let state = if told { FinalState::Cancelled } else { FinalState::Completed };
        self.spool(agent, &id, EventBody::Finished { state, error: None, exit_code, changes: None });
    }

    /// Ends jobs that are over their limit, and frees slots.
    pub(crate) fn check_limits(&mut self, agent: &AgentSide) -> Result<(), String> {
        let (now, real) = (self.clocks.now, self.clocks.agent_monotonic());
        self.slots.retain(|_, until| until.is_none_or(|until| until > now));
        let mut over = Vec::new();
        for (id, limit) in &mut self.limits {
            limit.ran += STEP;
            let worked = limit.ran + PAUSE * limit.pauses;
            match limit.measured.is_over(real) {
                true if worked + STEP < limit.whole => {
                    return Err(format!(
                        "{id} timed out after {worked:?} of work, before its limit of {:?}",
                        limit.whole
                    ));
                }
                false if limit.ran > limit.whole + LATE => {
                    return Err(format!("{id} has run for {:?}, its limit is {:?}", limit.ran, limit.whole));
                }
                is_over => over.extend(is_over.then(|| id.clone())),
            }
        }
        for id in over {
            self.serial += 1;
            self.tally.timeouts += 1;
            let message = format!("over its limit {}", self.serial);
            let error = Some(JobError { kind: FailureKind::JobTimeout, message, step: None });
            let state = FinalState::Failed;
            self.spool(agent, &id, EventBody::Finished { state, error, exit_code: None, changes: None });
        }
        Ok(())
    }

    /// What the agent does with a run that its last life has left without an end.
    pub(crate) fn end_lost(&mut self, agent: &AgentSide) {
        // Why its last life ended, an agent learns with its first welcome.
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

    pub(crate) fn dial(&mut self, agent: &AgentSide, end: &mut End<'_>) -> Result<(), String> {
        self.network.tidy(end.conn);
        if end.conn.is_none() && self.relay.is_up() {
            let id = self.network.dial();
            end.conn = Some(id);
            self.say(|| format!("agent: dials {id}"));
            self.asked = self.clocks.now;
            self.say_to_relay(id, &agent.hello(self.mix.capacity))?;
        }
        Ok(())
    }

    /// Sends the next frame. Gives whether there was one.
    pub(crate) fn send(&mut self, end: &mut End<'_>) -> Result<bool, String> {
        let (Some(id), Some(link)) = (end.conn, &mut end.link) else { return Ok(false) };
        match link.next_frame()? {
            None => Ok(false),
            Some(bytes) => {
                self.say(|| format!("agent: sends {}", short(&wire::decode::<AgentFrame>(&bytes))));
                // An end that came before the output in front of it would be no repeat, but the end of a run.
                if !is_end(&bytes) {
                    self.sent.push(bytes.clone());
                }
                self.put(id, bytes);
                Ok(true)
            }
        }
    }

    /// Takes the next frame. Gives whether there was one.
    pub(crate) fn hear<'a>(&mut self, agent: &'a AgentSide, end: &mut End<'a>) -> Result<bool, String> {
        let Some(id) = end.conn else { return Ok(false) };
        let arrival = self.network.conn(id).map_or(Arrival::End, |conn| conn.down.receive());
        let bytes = match arrival {
            Arrival::Nothing => return Ok(false),
            Arrival::End => {
                self.say(|| format!("agent: {id} has ended"));
                self.hang_up(id, end);
                return Ok(false);
            }
            Arrival::Frame(bytes) => bytes,
        };
        let frame: RelayFrame = wire::decode(&bytes).map_err(|e| format!("a frame: {e}"))?;
        self.say(|| format!("agent: hears {}", short(&frame)));
        match (&mut end.link, frame) {
            (None, frame) => {
                end.link = Some(agent.welcomed(frame)?);
                self.welcomed = true;
                let unsure = self.model.unsure.entry(self.life).or_default();
                *unsure = (*unsure).max(self.clocks.now.saturating_sub(self.asked));
            }
            (Some(_), RelayFrame::Start { job, epoch, .. }) if self.is_full_for(agent, &job) => {
                let reason = "as many jobs as it can run".to_owned();
                self.say_to_relay(id, &AgentFrame::Refused { job, epoch, reason, busy: true })?;
            }
            (Some(_), RelayFrame::Cancel { job, .. }) => {
                if let Some(job) = self.model.jobs.get_mut(&job) {
                    job.told = job.stage == Stage::Alive;
                }
            }
            (Some(_), RelayFrame::Start { job, epoch, spec }) => {
                let reply = agent.take_job(&job, epoch, &spec).map_err(|e| format!("{job}: {e}"))?;
                self.took(agent, &job);
                self.say_to_relay(id, &reply)?;
            }
            (Some(link), frame) => match link.take(frame) {
                // Of a run whose agent was lost before any event of it was durable the relay may still have output.
                Err(reason) if end.replayed || self.wipes > 0 || self.has_damage() => {
                    self.say(|| format!("agent: leaves {id}: {reason}"));
                    self.hang_up(id, end);
                }
                taken => taken?,
            },
        }
        self.let_go(agent)?;
        Ok(true)
    }

    fn hang_up(&mut self, id: ConnId, end: &mut End<'_>) {
        if let Some(conn) = self.network.conn(id) {
            conn.up.end(usize::MAX);
        }
        *end = End::default();
    }

    fn took(&mut self, agent: &AgentSide, id: &JobId) {
        let (life, now) = (self.life, self.clocks.now);
        let limit = Duration::from_secs(self.rng.u64(10..60));
        let Some(job) = self.model.jobs.get_mut(id).filter(|job| !job.is_spooled()) else { return };
        let first = agent.events(id, 1).unwrap_or_default();
        for event in first {
            job.spooled(event.body, life, now);
        }
        (job.stage, job.synced) = (Stage::Alive, job.kept());
        self.slots.insert(id.clone(), None);
        let measured = agent.limit(common::duration::millis(limit));
        self.limits.insert(id.clone(), Limit { measured, whole: limit, ran: Duration::ZERO, pauses: 0 });
        self.written(id, true);
    }

    /// Runs that the spool holds no more: only those that the relay has, to the end.
    fn let_go(&mut self, agent: &AgentSide) -> Result<(), String> {
        let runs = agent.runs();
        for (id, job) in self.model.jobs.iter_mut().filter(|(_, job)| job.is_spooled()) {
            if runs.iter().any(|run| run.job == *id) {
                continue;
            }
            self.relay.book.complete(id, job).map_err(|e| format!("the spool let {id} go, but {e}"))?;
            job.stage = Stage::Nothing;
            self.limits.remove(id);
            // Its worker takes a while to end.
            if let Some(slot) = self.slots.get_mut(id) {
                *slot = Some(self.clocks.now + Duration::from_secs(3));
            }
        }
        Ok(())
    }

    /// True if there is no room for this job, which the agent does not have yet.
    fn is_full_for(&self, agent: &AgentSide, job: &JobId) -> bool {
        let has = agent.runs().iter().any(|run| run.job == *job);
        !has && self.slots.len() >= self.mix.capacity as usize
    }

    fn has_damage(&self) -> bool {
        self.model.jobs.values().any(|job| job.damaged)
    }

    /// A segment of a job's spool is not what it was.
    pub(crate) fn spoil_spool(&mut self) {
        // A run of which the relay has nothing would begin anew.
        let spooled = |(id, job): &(&JobId, &crate::model::Job)| {
            job.is_spooled() && !job.damaged && self.relay.book.walked(id) > 0
        };
        let Some((id, _)) = self.model.jobs.iter().find(spooled) else { return };
        let id = id.clone();
        let folder = self.folder(&id);
        if crate::spoiled::in_spool(&folder, &mut self.rng) {
            self.say(|| format!("the spool of {id} is damaged"));
            self.tally.spoiled += 1;
            self.disk.forget(&folder);
            if let Some(job) = self.model.jobs.get_mut(&id) {
                job.damaged = true;
            }
        }
    }
}

/// The limit of a job, as the agent measures it and as it is.
#[derive(Debug)]
pub(crate) struct Limit {
    measured: JobLimit,
    whole: Duration,
    /// For how long agent and job have run.
    ran: Duration,
    /// Number of freezes.
    pub(crate) pauses: u32,
}

/// Part of a pause that may count for a limit.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest delay of a limit.
const LATE: Duration = Duration::from_secs(1);

fn is_end(bytes: &[u8]) -> bool {
    let Ok(AgentFrame::Events { batch, .. }) = wire::decode(bytes) else { return false };
    batch.iter().any(|event| matches!(event.body, EventBody::Finished { .. }))
}

fn short(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    common::text::one_line(&text, 300)
}
