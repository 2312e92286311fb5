//! Ends of agent processes: what the agent's disk holds afterwards, and checks of the next start.

use common::event::EventBody;
use common::ids::JobId;

use crate::agent_node::AgentNode;
use crate::model::{Job, Stage};
use crate::world::{AgentExit, World};

impl World {
    /// Checks the spool after an agent's start: it must hold everything that the disk did not lose.
    pub(crate) fn check_spool_after_start(
        &mut self,
        agent: &AgentNode,
        last_exit: AgentExit,
    ) -> Result<(), String> {
        self.is_welcomed = false;
        self.slots.clear();
        self.limits.clear();
        let runs = agent.runs();
        self.trace_line(|| format!("agent: process {}, holds {runs:?}", self.agent_process));
        for (id, job) in &mut self.model.jobs {
            let Some(run) = runs.iter().find(|run| run.job == *id) else {
                if job.is_spooled() && job.is_spool_damaged {
                    job.wipe();
                } else if job.is_spooled() {
                    return Err(format!("{id} is gone from the spool"));
                }
                continue;
            };
            let spooled = agent.events(id).map_err(|e| format!("{id}: {e}"))?;
            let spooled: Vec<EventBody> = spooled.into_iter().map(|event| event.body).collect();
            let before = job.kept_events();
            job.compare_with_spool(&spooled, self.relay.log_checker.matched_entries(id))
                .map_err(|e| format!("{id}: {e}"))?;
            let safe = if last_exit == AgentExit::PowerLost { job.synced_events } else { before };
            if job.kept_events() < safe && !job.is_spool_damaged {
                return Err(format!(
                    "{id}: of {before} events {} are left, {safe} were safe",
                    job.kept_events()
                ));
            }
            job.stage = if run.is_finished { Stage::Finished } else { Stage::CutOff };
            job.output_kept = usize::try_from(run.output).unwrap_or(usize::MAX).min(job.output_kept);
        }
        Ok(())
    }

    /// Applies the end of an agent process to the agent's disk, the model and the network.
    pub(crate) fn apply_agent_exit(&mut self, exit: AgentExit) {
        self.trace_line(|| format!("agent: {exit:?}"));
        match exit {
            AgentExit::Done => return,
            AgentExit::Killed => self.tally.kills += 1,
            AgentExit::PowerLost => {
                // A job whose record the relay can't read may get the numbers of lost events a second time.
                let bad_job = self.bad_record.as_ref().map(|bad_job| &bad_job.job);
                let bad_job = bad_job.and_then(|job| self.model.jobs.get_mut(job));
                if let Some(job) = bad_job.filter(|job| job.is_spooled()) {
                    job.is_spool_damaged = true;
                }
                self.tally.power_losses += 1;
                self.sent_frames.clear();
                for path in self.disk.paths() {
                    let may_add_garbage = path.file_name().is_none_or(|name| name != "output");
                    self.disk.lose_power(&path, &mut self.rng, may_add_garbage);
                }
            }
            AgentExit::Wiped => {
                self.wipe_agent();
            }
        }
        for id in self.network.served_connections() {
            if let Some(conn) = self.network.conn(id) {
                let kept = self.rng.usize(..=conn.up.frames_in_flight());
                conn.up.end(kept);
            }
        }
        self.leave_unfinished_folder();
    }

    /// Leaves an unfinished run folder, as an agent does that dies while it accepts a job.
    fn leave_unfinished_folder(&mut self) {
        let unaccepted = |(id, job): (&JobId, &Job)| {
            (!job.is_spooled() && !self.relay.log_checker.has_outcome(id)).then(|| id.clone())
        };
        let Some(id) = self.model.jobs.iter().find_map(unaccepted).filter(|_| self.rng.u8(..4) == 0) else {
            return;
        };
        let folder = self.run_folder(&id);
        if folder.exists() || std::fs::create_dir_all(&folder).is_err() {
            return;
        }
        let files: [(&str, &[u8]); 4] =
            [("events.000001", b""), ("events.000001", b"half"), ("output", b""), ("spec.json", b"{")];
        for (name, bytes) in files.iter().take(self.rng.usize(..=files.len())) {
            std::fs::write(folder.join(name), bytes).expect("a file of the simulation");
        }
        self.trace_line(|| format!("agent: it was accepting {id}"));
    }

    fn wipe_agent(&mut self) {
        self.tally.power_losses += 1;
        self.sent_frames.clear();
        self.wipes += 1;
        let _ = std::fs::remove_dir_all(&self.state_dir);
        self.disk.forget(&self.state_dir.clone());
        self.model.jobs.values_mut().filter(|job| job.is_spooled()).for_each(Job::wipe);
    }

    /// Damages a segment of a job's spool.
    pub(crate) fn damage_spool(&mut self) {
        // A run of which the relay has no event would start again from the beginning.
        let spooled = |(id, job): &(&JobId, &Job)| {
            job.is_spooled() && !job.is_spool_damaged && self.relay.log_checker.matched_entries(id) > 0
        };
        let Some((id, _)) = self.model.jobs.iter().find(spooled) else { return };
        let id = id.clone();
        let folder = self.run_folder(&id);
        if crate::bad_files::damage_segment(&folder, &mut self.rng) {
            self.trace_line(|| format!("the spool of {id} is damaged"));
            self.tally.bad_files += 1;
            self.disk.forget(&folder);
            if let Some(job) = self.model.jobs.get_mut(&id) {
                job.is_spool_damaged = true;
            }
        }
    }
}
