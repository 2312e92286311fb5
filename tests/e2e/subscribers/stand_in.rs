//! An agent without workers, which replaces a site's own agent and sends the events that a test wants.

use std::fs;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::ids::JobId;
use common::wire::AgentFrame;
use relay_tests::harness::{Site, until};
use relay_tests::simulated_agent::link::{begun, completed, hello};
use relay_tests::simulated_agent::{Door, Link};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

pub(crate) struct StandIn {
    link: Link,
    job: JobId,
    seq: u64,
}

impl StandIn {
    /// Ends the site's own agent, connects in its place and accepts a launched job.
    pub(crate) async fn with_job(site: &Site) -> Self {
        let lock = fs::read_to_string(site.agent().join("agent.lock")).unwrap();
        kill_process(Pid::from_raw(lock.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        let hello = hello("stand-in", 4, Vec::new());
        let (mut link, _) = Link::welcomed(&Door::of(site), hello).await.unwrap();
        site.launch_shell("stand in", &[]);
        let (job, epoch) = link.started().await.unwrap();
        link.send(&AgentFrame::Accepted { job: job.clone(), epoch }).await.unwrap();
        let mut agent = Self { link, job, seq: 0 };
        agent.say(begun("stand-in")).await;
        agent
    }

    /// Sends events and waits for their acknowledgement. Returns the time until then.
    pub(crate) async fn say(&mut self, bodies: Vec<EventBody>) -> Duration {
        let first_seq = self.seq + 1;
        self.seq += bodies.len() as u64;
        let begun = Instant::now();
        self.link.events(&self.job, 1, first_seq, bodies).await.unwrap();
        self.link.acked(&self.job, self.seq).await.unwrap();
        begun.elapsed()
    }

    /// Answers pings for this time.
    pub(crate) async fn idle(&mut self, time: Duration) {
        // Cancel-safe except for the answer to a ping, and more pings follow.
        let _ = timeout(time, async { while self.link.next().await.is_ok() {} }).await;
    }

    /// Ends its job.
    pub(crate) async fn finish(&mut self, site: &Site) {
        self.say(vec![completed()]).await;
        let job = self.job.to_string();
        until("the job has ended", || site.record(&job).state.is_final().then_some(()));
    }
}
