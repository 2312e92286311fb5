//! A simulated agent that takes the place of a site's own agent. The test chooses its events.

use std::fs;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::ids::JobId;
use common::wire::AgentFrame;
use relay_tests::harness::{Site, until};
use relay_tests::simulated_agent::connection::{completed_event, first_events, hello};
use relay_tests::simulated_agent::{Connection, Endpoint};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

/// A connected agent with one job.
pub(crate) struct ControlledAgent {
    connection: Connection,
    job: JobId,
    seq: u64,
}

impl ControlledAgent {
    /// Kills the site's own agent, connects instead of it, launches a job and accepts it.
    pub(crate) async fn with_job(site: &Site) -> Self {
        let lock = fs::read_to_string(site.agent().join("agent.lock")).unwrap();
        kill_process(Pid::from_raw(lock.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        let hello = hello("stand-in", 4, Vec::new());
        let (mut connection, _) = Connection::handshake(&Endpoint::of_site(site), hello).await.unwrap();
        site.launch_shell("stand in", &[]);
        let (job, epoch) = connection.wait_for_start().await.unwrap();
        connection.send(&AgentFrame::Accepted { job: job.clone(), epoch }).await.unwrap();
        let mut agent = Self { connection, job, seq: 0 };
        agent.send_events(first_events("stand-in")).await;
        agent
    }

    /// Sends events of the job and waits for their acknowledgement; returns the time that this took.
    pub(crate) async fn send_events(&mut self, bodies: Vec<EventBody>) -> Duration {
        let first_seq = self.seq + 1;
        self.seq += bodies.len() as u64;
        let started = Instant::now();
        self.connection.send_events(&self.job, 1, first_seq, bodies).await.unwrap();
        self.connection.wait_for_ack(&self.job, self.seq).await.unwrap();
        started.elapsed()
    }

    /// Answers pings for `time`.
    pub(crate) async fn idle(&mut self, time: Duration) {
        // The time-out may interrupt the answer to a ping, which is harmless because more pings follow.
        let _ = timeout(time, async { while self.connection.next().await.is_ok() {} }).await;
    }

    /// Ends the job and waits until the relay has recorded the end.
    pub(crate) async fn finish(&mut self, site: &Site) {
        self.send_events(vec![completed_event()]).await;
        let job = self.job.to_string();
        until("the job has ended", || site.record(&job).state.is_final().then_some(()));
    }
}
