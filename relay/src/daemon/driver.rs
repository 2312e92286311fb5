//! Drives the core: passes inputs on, executes effects, and reads the files that the core needs.
//!
//! ```text
//!  input ──► core.handle ──► effects ──► environment.perform_effect, one after the other
//!                ▲                            │
//!                └──── answer to an effect ◄──┘  handled before the next effect
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::io;

use common::ids::JobId;
use jiff::Timestamp;
use tokio::time::Instant;

use super::core::{Core, Effect, Input};
use crate::registry::requests::{DaemonRequest, FiledRequest};
use crate::registry::{Registry, read};
use crate::time::Clock;

/// Environment of the core: time, registry, requests and the execution of effects, all real or all simulated.
pub(super) trait CoreEnvironment {
    /// Returns the current time.
    fn now(&self) -> Instant;

    /// Returns the current time of the wall clock.
    fn wall_time(&self) -> Timestamp;

    fn registry(&self) -> &Registry;

    /// Returns the time source of records.
    fn clock(&self) -> &Clock;

    /// Returns the requests that commands have filed, oldest first.
    fn requests(&self) -> io::Result<Vec<FiledRequest>>;

    /// Executes an effect. Returns its answer, if it has one.
    async fn perform_effect(&mut self, effect: Effect) -> Option<Input>;
}

/// The core and its environment.
pub(super) struct Driver<W> {
    pub(super) core: Core,
    pub(super) environment: W,
}

impl<W: CoreEnvironment> Driver<W> {
    /// Handles an input and all resulting effects and answers.
    pub(super) async fn handle_input(&mut self, input: Input) {
        let effects = self.core.handle(input, self.environment.now());
        self.perform_effects(effects).await;
    }

    /// Executes effects, and handles the answers.
    pub(super) async fn perform_effects(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Some(answer) = self.environment.perform_effect(effect).await {
                for effect in self.core.handle(answer, self.environment.now()).into_iter().rev() {
                    effects.push_front(effect);
                }
            }
        }
    }

    /// Runs the periodic work: heartbeat, search for new jobs, check of the wall clock, requests, timeouts and retries.
    pub(super) async fn run_periodic_work(&mut self) {
        let at = self.environment.clock().now();
        self.handle_input(Input::Heartbeat(at)).await;
        if let Err(e) = self.find_new_jobs().await {
            tracing::error!("the registry can't be read: {e}");
        }
        let ahead_ms = self.environment.clock().wall_clock_step_ms();
        self.handle_input(Input::WallClock(ahead_ms)).await;
        self.read_requests().await;
        self.handle_input(Input::Tick).await;
    }

    /// Passes the requests that commands have filed on to the core.
    pub(super) async fn read_requests(&mut self) {
        let filed = match self.environment.requests() {
            Ok(filed) => filed,
            Err(e) => return tracing::error!("requests can't be read: {e}"),
        };
        for FiledRequest { path, request } in filed {
            // The record of the job may be newer than the last scan of the registry. The job is loaded by name, because
            // listing the folder at each launch is slow with many jobs.
            if let Some(
                DaemonRequest::Launch { job }
                | DaemonRequest::Cancel { job, .. }
                | DaemonRequest::Extend { job, .. },
            ) = &request
            {
                self.find_job(job).await;
            }
            self.handle_input(Input::RequestFiled { path, request, wall_time: self.environment.wall_time() })
                .await;
        }
        self.handle_input(Input::RequestsRead).await;
    }

    /// Passes the ids of all unarchived jobs to the core, then each job that is new to the core because its launch request
    /// was lost, sorted by id.
    async fn find_new_jobs(&mut self) -> io::Result<()> {
        let unarchived: BTreeSet<JobId> =
            read::jobs_in_folder(self.environment.registry())?.into_iter().collect();
        // Ended jobs stay known until they are archived, so that no scan reads them again.
        self.handle_input(Input::JobsListed(unarchived.clone())).await;
        for job in unarchived {
            self.find_job(&job).await;
        }
        Ok(())
    }

    async fn find_job(&mut self, job: &JobId) {
        if !self.core.is_known(job)
            && let Ok(found) = read::find_job(self.environment.registry(), job)
        {
            self.handle_input(Input::JobFound(Box::new(found))).await;
        }
    }
}
