//! One connection.

use std::net::SocketAddr;
use std::time::Duration;

use common::event::{Event, EventBody, FinalState, Isolation};
use common::ids::JobId;
use common::wire::{self, AgentFrame, Durable, Hello, JobProgress, MAX_MESSAGE, Platform, RelayFrame};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::Door;
use super::door::server_name;
use crate::harness::PATIENCE;

/// Size of the buffers, in bytes. Small, because a test process has a thousand connections.
const BUFFER: usize = 2 * 1024;

/// Reason why there is no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The relay closed the connection with this code and reason.
    Closed(u16, String),
    /// The connection broke, or could not be opened.
    Broken(String),
}

impl From<tungstenite::Error> for Ended {
    fn from(error: tungstenite::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A connection to a relay.
#[derive(Debug)]
pub struct Link {
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Link {
    /// Connects with a new token and sends nothing.
    pub async fn dial(door: &Door) -> Result<Self, Ended> {
        Self::dial_with(door, &door.fresh_token()).await
    }

    /// Connects with this token and sends nothing.
    pub async fn dial_with(door: &Door, token: &str) -> Result<Self, Ended> {
        Self::dial_to(door, door.address(), token).await
    }

    /// Connects to this address with this token and sends nothing.
    pub async fn dial_to(door: &Door, address: SocketAddr, token: &str) -> Result<Self, Ended> {
        let broken = |e: String| Ended::Broken(e);
        let stream = TcpStream::connect(address).await.map_err(|e| broken(e.to_string()))?;
        let _ = stream.set_nodelay(true);
        let stream = TlsConnector::from(door.tls()).connect(server_name(), stream).await;
        let stream = stream.map_err(|e| broken(e.to_string()))?;
        let url = format!("wss://{address}{}", wire::AGENT_PATH);
        let mut request = url.into_client_request()?;
        let bearer = format!("Bearer {token}");
        let bearer = HeaderValue::from_str(&bearer).map_err(|e| broken(e.to_string()))?;
        request.headers_mut().insert("authorization", bearer);
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(wire::SUBPROTOCOL));
        let limits = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER);
        let limits = limits.max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let (socket, _) = client_async_with_config(request, stream, Some(limits)).await?;
        Ok(Self { socket })
    }

    /// Connects, sends `Hello` and waits for the welcome; returns the registry's state of the jobs.
    pub async fn welcomed(door: &Door, hello: Hello) -> Result<(Self, Vec<Durable>), Ended> {
        let token = door.token(&hello.agent);
        Self::welcomed_with(door, &token, hello).await
    }

    /// Same as [`Link::welcomed`], with this token.
    pub async fn welcomed_with(
        door: &Door,
        token: &str,
        hello: Hello,
    ) -> Result<(Self, Vec<Durable>), Ended> {
        let mut link = Self::dial_with(door, token).await?;
        link.send(&AgentFrame::Hello(Box::new(hello))).await?;
        match link.next().await? {
            RelayFrame::Welcome { durable, .. } => Ok((link, durable)),
            other => Err(Ended::Broken(format!("no welcome: {other:?}"))),
        }
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &AgentFrame) -> Result<(), Ended> {
        let bytes = wire::encode(frame).map_err(|e| Ended::Broken(e.to_string()))?;
        self.send_bytes(bytes).await
    }

    /// Sends bytes that may not be a frame.
    pub async fn send_bytes(&mut self, bytes: Vec<u8>) -> Result<(), Ended> {
        Ok(self.socket.send(Message::binary(bytes)).await?)
    }

    /// Receives the relay's next frame; answers pings without returning them. Cancel-safe except for that answer.
    pub async fn next(&mut self) -> Result<RelayFrame, Ended> {
        loop {
            let silent = |_| Ended::Broken("nothing came".to_owned());
            match timeout(PATIENCE, self.socket.next()).await.map_err(silent)? {
                Some(Ok(Message::Binary(bytes))) => {
                    match wire::decode(&bytes).map_err(|e| Ended::Broken(e.to_string()))? {
                        RelayFrame::Ping { nonce } => self.send(&AgentFrame::Pong { nonce }).await?,
                        frame => return Ok(frame),
                    }
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(Ended::Closed(frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Ended::Broken("end of the connection".to_owned())),
            }
        }
    }

    /// Waits for the next frame that is `wanted`; skips others.
    pub async fn until<T>(&mut self, wanted: impl Fn(RelayFrame) -> Option<T>) -> Result<T, Ended> {
        loop {
            if let Some(found) = wanted(self.next().await?) {
                return Ok(found);
            }
        }
    }

    /// Waits until the relay starts a job on this agent; returns the job with its epoch.
    pub async fn started(&mut self) -> Result<(JobId, u32), Ended> {
        self.until(|frame| match frame {
            RelayFrame::Start { job, epoch, .. } => Some((job, epoch)),
            _ => None,
        })
        .await
    }

    /// Waits until this event of a job is acknowledged.
    pub async fn acked(&mut self, job: &JobId, seq: u64) -> Result<(), Ended> {
        self.until(|frame| match frame {
            RelayFrame::Ack { job: acked, seq: up_to, .. } if acked == *job && up_to >= seq => Some(()),
            _ => None,
        })
        .await
    }

    /// Waits for the end of the connection.
    pub async fn ended(mut self) -> Ended {
        loop {
            if let Err(ended) = self.next().await {
                return ended;
            }
        }
    }

    /// Sends events of a job, the first one with sequence number `first_seq`.
    pub async fn events(
        &mut self,
        job: &JobId,
        epoch: u32,
        first_seq: u64,
        bodies: Vec<EventBody>,
    ) -> Result<(), Ended> {
        let at = jiff::Timestamp::now();
        let batch = bodies.into_iter().map(|body| Event { at, body }).collect();
        self.send(&AgentFrame::Events { job: job.clone(), epoch, first_seq, batch }).await
    }
}

/// Creates a `Hello` of this version.
pub fn hello(agent: &str, max_jobs: u32, jobs: Vec<JobProgress>) -> Hello {
    let (system, isolation) = ("simulated".to_owned(), Isolation::None);
    Hello::new(agent, max_jobs, Platform { system, isolation, codex: None, codex_problem: None }, jobs)
}

/// Returns the first events of a running job: accepted and started.
pub fn begun(agent: &str) -> Vec<EventBody> {
    let accepted =
        EventBody::Accepted { agent: agent.to_owned(), isolation: Isolation::None, workspace_log: None };
    vec![accepted, EventBody::Started { pid: 1, thread_id: None }]
}

/// Returns a harmless event.
pub fn message(text: &str) -> EventBody {
    EventBody::Message { text: text.to_owned() }
}

/// Returns the last event of a successful job.
pub fn completed() -> EventBody {
    EventBody::Finished { state: FinalState::Completed, error: None, exit_code: Some(0), changes: None }
}

/// Returns the delay before the next connection attempt, as for real agents: full jitter, doubling from 100 ms to 5 s.
pub fn backoff(tries: u32, random: u32) -> Duration {
    let bound =
        Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(tries)).min(Duration::from_secs(5));
    bound / 10 + bound.saturating_sub(bound / 10).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
