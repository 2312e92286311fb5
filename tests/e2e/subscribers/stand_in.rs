//! An agent without workers, which takes the place of a site's own one.

use std::fs;
use std::time::{Duration, Instant};

use common::event::{Event, EventBody, FinalState, Isolation};
use common::ids::JobId;
use common::wire::{self, AgentFrame, Hello, Platform, RelayFrame};
use futures_util::{SinkExt, StreamExt};
use relay_tests::harness::{PATIENCE, Site, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::client::address;

pub(crate) struct StandIn {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    job: JobId,
    seq: u64,
}

impl StandIn {
    /// Ends the site's own agent, connects in its place and takes a job that is launched.
    pub(crate) async fn with_job(site: &Site) -> Self {
        let lock = fs::read_to_string(site.registry().join("agent/agent.lock")).unwrap();
        kill_process(Pid::from_raw(lock.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        // Whatever the relay starts in its place finds no program of its own.
        let mut socket = Self::connect(site).await;
        let hello = Hello {
            protocol_min: wire::PROTOCOL_MIN,
            protocol_max: wire::PROTOCOL,
            agent: "stand-in".to_owned(),
            version: "0.1.0".to_owned(),
            max_jobs: 4,
            platform: Platform {
                system: "none".to_owned(),
                isolation: Isolation::None,
                codex: None,
                codex_problem: None,
            },
            jobs: Vec::new(),
        };
        socket.send(message(&AgentFrame::Hello(Box::new(hello)))).await.unwrap();
        let job = site.launch_shell("stand in", &[]).parse().unwrap();
        let mut agent = Self { socket, job, seq: 0 };
        while !matches!(agent.next().await, RelayFrame::Start { .. }) {}
        let job = agent.job.clone();
        agent.send(&AgentFrame::Accepted { job, epoch: 1 }).await;
        let accepted = EventBody::Accepted {
            agent: "stand-in".to_owned(),
            isolation: Isolation::None,
            workspace_log: None,
        };
        agent.say(vec![accepted, EventBody::Started { pid: 1, thread_id: None }]).await;
        agent
    }

    async fn connect(site: &Site) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        let config = fs::read(site.registry().join("agent/config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let url = format!("ws://{}{}", address(site), wire::AGENT_PATH);
        let mut request = url.into_client_request().unwrap();
        let bearer = format!("Bearer {}", config["token"].as_str().unwrap());
        request.headers_mut().insert("authorization", bearer.parse().unwrap());
        request.headers_mut().insert("sec-websocket-protocol", wire::SUBPROTOCOL.parse().unwrap());
        connect_async_with_config(request, None, true).await.unwrap().0
    }

    /// Sends events and waits for their acknowledgement. Returns how long that took.
    pub(crate) async fn say(&mut self, bodies: Vec<EventBody>) -> Duration {
        let at = jiff::Timestamp::now();
        let first_seq = self.seq + 1;
        self.seq += bodies.len() as u64;
        let batch = bodies.into_iter().map(|body| Event { at, body }).collect();
        let begun = Instant::now();
        let (job, last) = (self.job.clone(), self.seq);
        self.send(&AgentFrame::Events { job, epoch: 1, first_seq, batch }).await;
        while !matches!(self.next().await, RelayFrame::Ack { seq, .. } if seq >= last) {}
        begun.elapsed()
    }

    /// Answers pings for so long.
    pub(crate) async fn idle(&mut self, time: Duration) {
        // Cancel-safe but for the answer to a ping, of which there are more.
        let _ =
            timeout(time, async { while !matches!(self.next().await, RelayFrame::Cancel { .. }) {} }).await;
    }

    /// Ends its job.
    pub(crate) async fn finish(&mut self, site: &Site) {
        let finished = EventBody::Finished {
            state: FinalState::Completed,
            error: None,
            exit_code: Some(0),
            changes: None,
        };
        self.say(vec![finished]).await;
        let job = self.job.to_string();
        until("the job has ended", || site.record(&job).state.is_final().then_some(()));
    }

    async fn send(&mut self, frame: &AgentFrame) {
        self.socket.send(message(frame)).await.unwrap();
    }

    async fn next(&mut self) -> RelayFrame {
        loop {
            let heard = timeout(PATIENCE, self.socket.next()).await.unwrap();
            match heard.unwrap().unwrap() {
                Message::Binary(bytes) => match wire::decode(&bytes).unwrap() {
                    RelayFrame::Ping { nonce } => self.send(&AgentFrame::Pong { nonce }).await,
                    frame => return frame,
                },
                Message::Close(frame) => panic!("the relay closed the connection: {frame:?}"),
                _ => {}
            }
        }
    }
}

fn message(frame: &AgentFrame) -> Message {
    Message::binary(wire::encode(frame).unwrap())
}
