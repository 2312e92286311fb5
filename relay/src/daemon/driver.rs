//! Drives the core: hands it inputs, has its effects carried out, and reads the files that it must know of.
//!
//! ```text
//!  input ──► core.handle ──► effects ──► world.perform, one after the other
//!                ▲                            │
//!                └──── answer to an effect ◄──┘  handled before the next effect
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::io;

use common::ids::JobId;
use jiff::Timestamp;
use tokio::time::Instant;

use super::core::{Core, Effect, Input};
use crate::registry::requests::{Filed, Request};
use crate::registry::{Registry, read};
use crate::time::Clock;

/// Everything around the core: the real one, or a simulated one.
pub(super) trait World {
    /// Current time.
    fn now(&self) -> Instant;

    /// Current time of the wall clock.
    fn wall(&self) -> Timestamp;

    fn registry(&self) -> &Registry;

    /// Time source of records.
    fn clock(&self) -> &Clock;

    /// Returns the filed requests, oldest first.
    fn requests(&self) -> io::Result<Vec<Filed>>;

    /// Carries out an effect. Returns the answer, if it asks a question.
    async fn perform(&mut self, effect: Effect) -> Option<Input>;
}

/// The core in its world.
pub(super) struct Driver<W> {
    pub(super) core: Core,
    pub(super) world: W,
}

impl<W: World> Driver<W> {
    /// Handles an input and everything that follows from it.
    pub(super) async fn handle(&mut self, input: Input) {
        let effects = self.core.handle(input, self.world.now());
        self.perform(effects).await;
    }

    /// Has effects carried out, and handles the answers.
    pub(super) async fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Some(answer) = self.world.perform(effect).await {
                for effect in self.core.handle(answer, self.world.now()).into_iter().rev() {
                    effects.push_front(effect);
                }
            }
        }
    }

    /// Runs the periodic work: the heartbeat, lost hints, timeouts and retries.
    pub(super) async fn tick(&mut self) {
        let at = self.world.clock().now();
        self.handle(Input::Heartbeat(at)).await;
        if let Err(e) = self.find_new_jobs().await {
            tracing::error!("the registry can't be read: {e}");
        }
        let ahead_ms = self.world.clock().was_set();
        self.handle(Input::WallClock(ahead_ms)).await;
        self.read_requests().await;
        self.handle(Input::Tick).await;
    }

    /// Hands in the filed requests.
    pub(super) async fn read_requests(&mut self) {
        let filed = match self.world.requests() {
            Ok(filed) => filed,
            Err(e) => return tracing::error!("requests can't be read: {e}"),
        };
        for Filed { path, request } in filed {
            // The record of its job may be newer than the last scan of the registry. The job is loaded by name: listing
            // the folder at each launch would cost more the more jobs there are.
            if let Some(Request::Launch { job } | Request::Cancel { job, .. } | Request::Extend { job, .. }) =
                &request
            {
                self.find_job(job).await;
            }
            self.handle(Input::Request { path, request, wall: self.world.wall() }).await;
        }
        self.handle(Input::RequestsRead).await;
    }

    /// Finds jobs whose hint was lost, in an order that does not depend on the file system.
    async fn find_new_jobs(&mut self) -> io::Result<()> {
        let there: BTreeSet<JobId> = read::jobs(self.world.registry())?.into_iter().collect();
        // Ended jobs stay known until they are archived, so that no scan reads them again.
        self.handle(Input::JobsListed(there.clone())).await;
        for job in there {
            self.find_job(&job).await;
        }
        Ok(())
    }

    async fn find_job(&mut self, job: &JobId) {
        if !self.core.is_known(job)
            && let Ok(stored) = read::load(self.world.registry(), job)
        {
            self.handle(Input::JobFound(Box::new(stored.record))).await;
        }
    }
}
