//! Deaths of the agent: how it dies, what its disk holds then, and what it finds at its next start.

use common::event::EventBody;
use common::ids::JobId;

use crate::agent_node::AgentNode;
use crate::model::{Job, Stage};
use crate::world::{Fall, World};

impl World {
    /// Checks the spool after a start: it must hold everything that the disk did not lose.
    pub(crate) fn woke(&mut self, agent: &AgentNode, last: Fall) -> Result<(), String> {
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
            let held = agent.events(id).map_err(|e| format!("{id}: {e}"))?;
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

    /// Applies the agent's death to the model.
    pub(crate) fn fell(&mut self, fall: Fall) {
        self.say(|| format!("agent: {fall:?}"));
        match fall {
            Fall::Over => return,
            Fall::Kill => self.tally.kills += 1,
            Fall::Power => {
                // Lost events and those in the relay's unreadable file may have the same numbers.
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

    /// Leaves a half-made run folder, as an agent does that dies while it accepts a job. Its content is worthless and
    /// must not block anything.
    fn leave_half_made(&mut self) {
        let open =
            |(id, job): (&JobId, &Job)| (!job.is_spooled() && !self.relay.book.ended(id)).then(|| id.clone());
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
        self.model.jobs.values_mut().filter(|job| job.is_spooled()).for_each(Job::wipe);
    }

    /// Damages a segment of a job's spool.
    pub(crate) fn spoil_spool(&mut self) {
        // A run of which the relay has nothing would start anew.
        let spooled =
            |(id, job): &(&JobId, &Job)| job.is_spooled() && !job.damaged && self.relay.book.walked(id) > 0;
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
