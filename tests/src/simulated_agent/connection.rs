//! One connection of a simulated agent to a relay.

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

use super::Endpoint;
use super::endpoint::server_name;
use crate::harness::PATIENCE;

/// Size of the WebSocket's buffers, in bytes. They are small because a test process has a thousand connections.
const BUFFER_SIZE: usize = 2 * 1024;

/// End of a connection, or the reason why it was not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The relay closed the connection with this code and reason.
    Closed(u16, String),
    /// The connection broke, or could not be opened.
    Broken(String),
}

impl From<tungstenite::Error> for ConnectionEnd {
    fn from(error: tungstenite::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A connection of a simulated agent to a relay.
#[derive(Debug)]
pub struct Connection {
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Connection {
    /// Connects with a new token and sends nothing.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ConnectionEnd> {
        Self::connect_with_token(endpoint, &endpoint.fresh_token()).await
    }

    /// Connects with a given token and sends nothing.
    pub async fn connect_with_token(endpoint: &Endpoint, token: &str) -> Result<Self, ConnectionEnd> {
        Self::connect_to(endpoint, endpoint.address(), token).await
    }

    /// Connects to a given address with a given token and sends nothing.
    pub async fn connect_to(
        endpoint: &Endpoint,
        address: SocketAddr,
        token: &str,
    ) -> Result<Self, ConnectionEnd> {
        let broken = |e: String| ConnectionEnd::Broken(e);
        let stream = TcpStream::connect(address).await.map_err(|e| broken(e.to_string()))?;
        let _ = stream.set_nodelay(true);
        let stream = TlsConnector::from(endpoint.tls()).connect(server_name(), stream).await;
        let stream = stream.map_err(|e| broken(e.to_string()))?;
        let url = format!("wss://{address}{}", wire::AGENT_PATH);
        let mut request = url.into_client_request()?;
        let bearer = format!("Bearer {token}");
        let bearer = HeaderValue::from_str(&bearer).map_err(|e| broken(e.to_string()))?;
        request.headers_mut().insert("authorization", bearer);
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(wire::SUBPROTOCOL));
        let limits = WebSocketConfig::default().read_buffer_size(BUFFER_SIZE).write_buffer_size(BUFFER_SIZE);
        let limits = limits.max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let (socket, _) = client_async_with_config(request, stream, Some(limits)).await?;
        Ok(Self { socket })
    }

    /// Connects, sends `Hello` and waits for the welcome; also returns what the registry holds of the jobs.
    pub async fn handshake(endpoint: &Endpoint, hello: Hello) -> Result<(Self, Vec<Durable>), ConnectionEnd> {
        let token = endpoint.token(&hello.agent);
        Self::handshake_with_token(endpoint, &token, hello).await
    }

    /// Does the same as [`Connection::handshake`], with a given token.
    pub async fn handshake_with_token(
        endpoint: &Endpoint,
        token: &str,
        hello: Hello,
    ) -> Result<(Self, Vec<Durable>), ConnectionEnd> {
        let mut connection = Self::connect_with_token(endpoint, token).await?;
        connection.send(&AgentFrame::Hello(Box::new(hello))).await?;
        match connection.next().await? {
            RelayFrame::Welcome { durable, .. } => Ok((connection, durable)),
            other => Err(ConnectionEnd::Broken(format!("no welcome: {other:?}"))),
        }
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &AgentFrame) -> Result<(), ConnectionEnd> {
        let bytes = wire::encode(frame).map_err(|e| ConnectionEnd::Broken(e.to_string()))?;
        self.send_bytes(bytes).await
    }

    /// Sends bytes that may not be a frame.
    pub async fn send_bytes(&mut self, bytes: Vec<u8>) -> Result<(), ConnectionEnd> {
        Ok(self.socket.send(Message::binary(bytes)).await?)
    }

    /// Receives the relay's next frame; answers pings itself. Cancel-safe, except for the answer to a ping.
    pub async fn next(&mut self) -> Result<RelayFrame, ConnectionEnd> {
        loop {
            let silent = |_| ConnectionEnd::Broken("nothing came".to_owned());
            match timeout(PATIENCE, self.socket.next()).await.map_err(silent)? {
                Some(Ok(Message::Binary(bytes))) => {
                    match wire::decode(&bytes).map_err(|e| ConnectionEnd::Broken(e.to_string()))? {
                        RelayFrame::Ping { nonce } => self.send(&AgentFrame::Pong { nonce }).await?,
                        frame => return Ok(frame),
                    }
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(ConnectionEnd::Closed(frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(ConnectionEnd::Broken("end of the connection".to_owned())),
            }
        }
    }

    /// Waits for the next frame for which `wanted` returns something; skips others.
    pub async fn wait_for<T>(
        &mut self,
        wanted: impl Fn(RelayFrame) -> Option<T>,
    ) -> Result<T, ConnectionEnd> {
        loop {
            if let Some(found) = wanted(self.next().await?) {
                return Ok(found);
            }
        }
    }

    /// Waits until the relay starts a job on this agent; returns the job with its epoch.
    pub async fn wait_for_start(&mut self) -> Result<(JobId, u32), ConnectionEnd> {
        self.wait_for(|frame| match frame {
            RelayFrame::Start { job, epoch, .. } => Some((job, epoch)),
            _ => None,
        })
        .await
    }

    /// Waits until the event `seq` of a job is acknowledged.
    pub async fn wait_for_ack(&mut self, job: &JobId, seq: u64) -> Result<(), ConnectionEnd> {
        self.wait_for(|frame| match frame {
            RelayFrame::Ack { job: acked, seq: up_to, .. } if acked == *job && up_to >= seq => Some(()),
            _ => None,
        })
        .await
    }

    /// Waits for the end of the connection.
    pub async fn wait_for_end(mut self) -> ConnectionEnd {
        loop {
            if let Err(ended) = self.next().await {
                return ended;
            }
        }
    }

    /// Sends events of a job. The first one gets sequence number `first_seq`.
    pub async fn send_events(
        &mut self,
        job: &JobId,
        epoch: u32,
        first_seq: u64,
        bodies: Vec<EventBody>,
    ) -> Result<(), ConnectionEnd> {
        let at = jiff::Timestamp::now();
        let batch = bodies.into_iter().map(|body| Event { at, body }).collect();
        self.send(&AgentFrame::Events { job: job.clone(), epoch, first_seq, batch }).await
    }
}

/// Creates a `Hello` of the newest protocol version.
pub fn hello(agent: &str, max_jobs: u32, jobs: Vec<JobProgress>) -> Hello {
    let (system, isolation) = ("simulated".to_owned(), Isolation::None);
    Hello::new(agent, max_jobs, Platform { system, isolation, codex: None, codex_problem: None }, jobs)
}

/// Returns the first events of a running job: accepted and started.
pub fn first_events(agent: &str) -> Vec<EventBody> {
    let accepted =
        EventBody::Accepted { agent: agent.to_owned(), isolation: Isolation::None, workspace_log: None };
    vec![accepted, EventBody::Started { pid: 1, thread_id: None }]
}

/// Returns an event that changes nothing but the last message of a job.
pub fn message(text: &str) -> EventBody {
    EventBody::Message { text: text.to_owned() }
}

/// Returns the last event of a successful job.
pub fn completed_event() -> EventBody {
    EventBody::Finished { state: FinalState::Completed, error: None, exit_code: Some(0), changes: None }
}

/// Returns the delay of a real agent before it connects again: random, with a bound from 100 ms to 5 s.
pub fn backoff(tries: u32, random: u32) -> Duration {
    let bound =
        Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(tries)).min(Duration::from_secs(5));
    bound / 10 + bound.saturating_sub(bound / 10).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
