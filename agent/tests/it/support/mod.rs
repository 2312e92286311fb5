//! Harness: a fake relay, which keeps everything in memory, and the real agent, which connects to it.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a harness of tests: a panic is how it reports")]

pub(crate) mod codex;
pub(crate) mod disk;
pub(crate) mod figures;
pub(crate) mod shim;
pub(crate) mod streams;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::event::{Event, EventBody, FinalState, JobError};
use common::ids::JobId;
use common::job::{JobSpec, Runner};
use common::vitals::MachineVitals;
use common::wire::{
    self, AgentFrame, Durable, Hello, ModelGrant, ModelToken, RelayFrame, RetrySettings, SUBPROTOCOL,
};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Maximum wait for a fact, longer than on any busy machine; only a failing test waits so long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
/// A grace period that a test never waits for. A program that ends much earlier has obeyed its signal.
pub(crate) const LONG_GRACE_MS: u64 = 100_000;
/// Maximum time for ending a job or a command without waiting for a grace period, on a busy machine.
pub(crate) const MAX_PROMPT_END: Duration = Duration::from_secs(40);
/// Length at which the fake relay discards the log of a run, in bytes. A minute of flooding output has gigabytes.
const MAX_KEPT_LOG: usize = 64 * 1024 * 1024;
pub(crate) const TOKEN: &str = "5ec2e7c0ffee";

/// State of one run, as the fake relay received it.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) events: Vec<Event>,
    /// Newest part of the run's log.
    pub(crate) output: Vec<u8>,
    /// Number of bytes of the log before that part, which are discarded.
    discarded_len: u64,
    pub(crate) accept_count: u32,
    pub(crate) refusal: Option<(String, bool)>,
    pub(crate) duplicate_count: u64,
}

impl Run {
    pub(crate) fn outcome(&self) -> Option<(FinalState, Option<JobError>, Option<i32>)> {
        self.events.iter().find_map(|event| match &event.body {
            EventBody::Finished { state, error, exit_code, .. } => Some((*state, error.clone(), *exit_code)),
            _ => None,
        })
    }

    pub(crate) fn cleanup(&self) -> Option<(u32, u32)> {
        self.events.iter().find_map(|event| match event.body {
            EventBody::Cleanup { killed, survivors } => Some((killed, survivors)),
            _ => None,
        })
    }

    pub(crate) fn finished_step_count(&self) -> usize {
        self.events.iter().filter(|event| matches!(event.body, EventBody::StepFinished { .. })).count()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.events.iter().find_map(|event| match event.body {
            EventBody::Started { pid, .. } => Some(pid),
            _ => None,
        })
    }

    /// Length of the run's log, in bytes.
    pub(crate) fn log_len(&self) -> u64 {
        self.discarded_len + self.output.len() as u64
    }

    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    pub(crate) fn event_types(&self) -> Vec<String> {
        let names = self.events.iter().map(|event| match serde_json::to_value(&event.body).unwrap() {
            serde_json::Value::Object(fields) => fields.keys().next().unwrap().clone(),
            other => other.to_string(),
        });
        names.collect()
    }
}

pub(crate) async fn relay_and_agent() -> (Relay, Agent) {
    relay_and_agent_with(&serde_json::json!({}), &StartOptions::default()).await
}

pub(crate) async fn relay_and_agent_with(
    settings: &serde_json::Value,
    options: &StartOptions<'_>,
) -> (Relay, Agent) {
    let mut relay = Relay::new().await;
    let agent = Agent::start_with_options(&relay.url(), settings, options);
    relay.accept().await;
    (relay, agent)
}

/// A fake relay. Like the real one, it accepts no gap in a sequence, and acknowledges only events that it has stored.
pub(crate) struct Relay {
    listener: TcpListener,
    socket: Option<WebSocketStream<TlsStream<TcpStream>>>,
    pub(crate) runs: BTreeMap<JobId, Run>,
    pub(crate) pongs: u64,
    /// Vitals that the agent sent, oldest first.
    pub(crate) vitals: Vec<MachineVitals>,
    pub(crate) sends_acks: bool,
    pub(crate) streams: streams::Streams,
}

impl Relay {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            listener,
            socket: None,
            runs: BTreeMap::new(),
            pongs: 0,
            vitals: Vec::new(),
            sends_acks: true,
            streams: streams::Streams::default(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("wss://{}/agent", self.listener.local_addr().unwrap())
    }

    /// Accepts the next connection and exchanges `Hello` and `Welcome`; returns the `Hello`.
    pub(crate) async fn accept(&mut self) -> Hello {
        timeout(DEADLINE, async {
            let (stream, _) = self.listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
            let check = |request: &Request, mut response: Response| {
                assert_eq!(request.uri().path(), wire::AGENT_PATH);
                assert_eq!(request.headers()["authorization"], format!("Bearer {TOKEN}"));
                assert_eq!(request.headers()["sec-websocket-protocol"], SUBPROTOCOL);
                response.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
                Ok(response)
            };
            let stream = tls::identity().accept(stream).await.unwrap();
            let mut socket = accept_hdr_async(stream, check).await.unwrap();
            let hello = socket.next().await.unwrap().unwrap().into_data();
            let AgentFrame::Hello(hello) = wire::decode(&hello).unwrap() else { panic!("no hello") };
            self.socket = Some(socket);
            let durable = hello.jobs.iter().map(|job| {
                let run = self.runs.entry(job.job.clone()).or_default();
                let closed = run.outcome().is_some();
                let (seq, output) = (run.events.len() as u64, run.log_len());
                Durable { job: job.job.clone(), epoch: job.epoch, seq, output, closed }
            });
            let durable = durable.collect();
            self.send(&RelayFrame::Welcome {
                protocol: common::wire::PROTOCOL,
                durable,
                exit_cause: None,
                now: jiff::Timestamp::now(),
            })
            .await;
            *hello
        })
        .await
        .expect("an agent connects")
    }

    /// Ends the connection and moves the listener to another port, so that the agent finds no relay. Returns the
    /// address that the agent knows.
    pub(crate) async fn stop_listening(&mut self) -> SocketAddr {
        self.socket = None;
        let address = self.listener.local_addr().unwrap();
        self.listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        address
    }

    /// Listens at this address from now on.
    pub(crate) async fn listen_at(&mut self, address: SocketAddr) {
        self.listener = TcpListener::bind(address).await.unwrap();
    }

    pub(crate) async fn send(&mut self, frame: &RelayFrame) {
        let bytes = wire::encode(frame).unwrap();
        self.socket.as_mut().unwrap().send(Message::binary(bytes)).await.unwrap();
    }

    pub(crate) async fn start(&mut self, spec: &JobSpec) {
        let spec_json = serde_json::to_string(spec).unwrap();
        self.send(&RelayFrame::Start { job: spec.job.clone(), epoch: 1, spec: spec_json }).await;
    }

    /// Starts a job whose worker reaches the model through this relay.
    pub(crate) async fn start_with_model(&mut self, spec: &JobSpec, token: &str) {
        let retries = RetrySettings::default();
        let model = ModelGrant { token: ModelToken::new(token.to_owned()), retries, is_azure: false };
        let (job, spec) = (spec.job.clone(), serde_json::to_string(spec).unwrap());
        self.send(&RelayFrame::StartWithModel { job, epoch: 1, spec, model }).await;
    }

    pub(crate) async fn cancel(&mut self, job: &str, grace_ms: u64) {
        self.send(&RelayFrame::Cancel { job: job.parse().unwrap(), grace_ms }).await;
    }

    /// Breaks the connection without a close frame.
    pub(crate) fn drop_connection(&mut self) {
        self.socket = None;
        self.streams.fail_all();
    }

    /// Handles the agent's frames until `done` returns true. A failure names the expected fact: `what`.
    pub(crate) async fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let served = timeout(DEADLINE, async {
            let mut ping = Instant::now();
            while !done(self) {
                if ping.elapsed() > wire::PING_INTERVAL {
                    ping = Instant::now();
                    self.send(&RelayFrame::Ping { nonce: 0 }).await;
                }
                // Both branches are cancel-safe.
                let next = tokio::select! {
                    next = timeout(Duration::from_millis(50), self.socket.as_mut().unwrap().next()) => next,
                    frame = self.streams.next_frame() => {
                        self.send(&frame).await;
                        continue;
                    }
                };
                match next {
                    Err(_) => {}
                    Ok(Some(Ok(Message::Binary(bytes)))) => {
                        let frame = wire::decode(&bytes).unwrap();
                        self.handle_frame(frame).await;
                    }
                    Ok(other) => panic!("the connection ended: {other:?}"),
                }
            }
        });
        let served = served.await.is_ok();
        assert!(served, "not within {DEADLINE:?}: {what}; held: {:#?}", self.runs);
    }

    /// Like [`until`](Self::until), but the agent may end the connection. Then the frames before its end must suffice.
    pub(crate) async fn until_closed(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let served = timeout(DEADLINE, async {
            while !done(self) {
                let Some(socket) = self.socket.as_mut() else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                match timeout(Duration::from_millis(50), socket.next()).await {
                    Err(_) => {}
                    Ok(Some(Ok(Message::Binary(bytes)))) => {
                        let frame = wire::decode(&bytes).unwrap();
                        self.handle_frame(frame).await;
                    }
                    Ok(_) => self.socket = None,
                }
            }
        });
        assert!(served.await.is_ok(), "not within {DEADLINE:?}: {what}; held: {:#?}", self.runs);
    }

    /// Handles frames until `fact` returns true for the run of a job; returns the run.
    pub(crate) async fn until_run(&mut self, job: &str, what: &str, fact: impl Fn(&Run) -> bool) -> &Run {
        let id: JobId = job.parse().unwrap();
        self.until(&format!("{job} {what}"), |relay| relay.runs.get(&id).is_some_and(&fact)).await;
        &self.runs[&id]
    }

    pub(crate) async fn until_finished(&mut self, job: &str) -> &Run {
        self.until_run(job, "ends", |run| run.outcome().is_some()).await
    }

    pub(crate) async fn until_completed(&mut self, job: &str) -> &Run {
        let run = self.until_finished(job).await;
        assert_eq!(run.outcome(), Some((FinalState::Completed, None, Some(0))), "{}", run.log_text());
        run
    }

    pub(crate) async fn until_output(&mut self, job: &str, text: &str) {
        self.until_run(job, text, |run| run.log_text().contains(text)).await;
    }

    /// Handles frames until a job is refused, and removes its run. Returns the reason, and true for a busy agent.
    pub(crate) async fn until_refused(&mut self, job: &str) -> (String, bool) {
        self.until_run(job, "is refused", |run| run.refusal.is_some()).await;
        self.runs.remove(&job.parse().unwrap()).unwrap().refusal.unwrap()
    }

    /// Returns the run of `demo#1`.
    pub(crate) fn demo(&self) -> &Run {
        &self.runs[&"demo#1".parse().unwrap()]
    }

    /// Returns the error of `demo#1`, which must have failed.
    pub(crate) fn demo_error(&self) -> JobError {
        let (state, error, _) = self.demo().outcome().unwrap();
        assert_eq!(state, FinalState::Failed, "{:#?}", self.demo().events);
        error.unwrap()
    }

    async fn handle_frame(&mut self, frame: AgentFrame) {
        match frame {
            AgentFrame::Hello(_) => panic!("a second hello"),
            AgentFrame::Accepted { job, .. } => self.runs.entry(job).or_default().accept_count += 1,
            AgentFrame::Refused { job, reason, is_busy, .. } => {
                self.runs.entry(job).or_default().refusal = Some((reason, is_busy));
            }
            AgentFrame::Events { job, epoch, first_seq, batch } => {
                let run = self.runs.entry(job.clone()).or_default();
                for (seq, event) in (first_seq..).zip(batch) {
                    let stored = run.events.len() as u64;
                    assert!(seq <= stored + 1, "a gap before {seq}");
                    if seq == stored + 1 {
                        run.events.push(event);
                    } else {
                        run.duplicate_count += 1;
                        assert_eq!(
                            run.events[usize::try_from(seq).unwrap() - 1],
                            event,
                            "another event {seq}"
                        );
                    }
                }
                let seq = run.events.len() as u64;
                if self.sends_acks {
                    self.send(&RelayFrame::Ack { job, epoch, seq }).await;
                }
            }
            AgentFrame::Output { job, epoch, offset, bytes } => {
                let run = self.runs.entry(job.clone()).or_default();
                let at = usize::try_from(offset - run.discarded_len).unwrap();
                assert!(at <= run.output.len(), "a gap in the output");
                run.output.truncate(at);
                run.output.extend_from_slice(&bytes);
                let offset = run.log_len();
                if run.output.len() > MAX_KEPT_LOG {
                    run.discarded_len = offset;
                    run.output.clear();
                }
                if self.sends_acks {
                    self.send(&RelayFrame::OutputAck { job, epoch, offset }).await;
                }
            }
            AgentFrame::Pong { .. } => self.pongs += 1,
            AgentFrame::Vitals(vitals) => self.vitals.push(*vitals),
            AgentFrame::StreamOpen { stream, service, .. } => self.streams.open(stream, service),
            AgentFrame::Stream { stream, part } => self.streams.receive(stream, part),
        }
    }
}

/// The real agent with a state folder and a workspace of its own.
pub(crate) struct Agent {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) child: Child,
    state: PathBuf,
}

/// Options for the start of an agent.
#[derive(Default)]
pub(crate) struct StartOptions<'a> {
    /// State folder of the agent; `None` for one in the agent's temporary folder.
    pub(crate) state: Option<&'a Path>,
    /// Command that runs the agent's command line, such as strace; empty for none.
    pub(crate) wrapper: &'a [String],
}

impl Agent {
    pub(crate) fn start(url: &str) -> Self {
        Self::start_with(url, &serde_json::json!({}))
    }

    pub(crate) fn start_with(url: &str, settings: &serde_json::Value) -> Self {
        Self::start_with_options(url, settings, &StartOptions::default())
    }

    pub(crate) fn start_with_options(
        url: &str,
        settings: &serde_json::Value,
        options: &StartOptions<'_>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = options.state.map_or_else(|| dir.path().join("state"), Path::to_owned);
        fs::create_dir(dir.path().join("ws")).unwrap();
        let mut config = tls::config(url, TOKEN);
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        configure(&state, &config.to_string());
        let child = spawn(&state, options.wrapper);
        Self { dir, child, state }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.state.clone()
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.dir.path().join("ws")
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.state, &[]);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn shell_spec(&self, job: &str, line: &str) -> JobSpec {
        JobSpec::new(job.parse().unwrap(), Runner::Shell, line, &self.workspace().display().to_string())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_worker-agent")
}

fn spawn(state: &Path, wrapper: &[String]) -> Child {
    let words = wrapper.iter().map(String::as_str).chain([binary(), "run", "--state"]);
    let words: Vec<&str> = words.collect();
    Command::new(words[0]).args(&words[1..]).arg(state).stdin(Stdio::null()).spawn().unwrap()
}

pub(crate) fn configure(state: &Path, json: &str) {
    let mut child = Command::new(binary())
        .arg("configure")
        .arg("--state")
        .arg(state)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Returns the processes that have `mark` in their command line, except for cargo.
pub(crate) fn processes(mark: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&line).replace('\0', " ");
        text.contains(mark) && !text.contains("cargo")
    })
    .collect()
}

/// Waits until `fact` returns true. `what` names the fact for the message of a failure.
pub(crate) async fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !fact() {
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns a number that no other test uses. As the argument of `sleep`, it identifies the process by its command line.
pub(crate) fn mark() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("9{}{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Returns a process and all its descendants.
pub(crate) fn process_tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(shim::children(*pid).into_iter().map(|(child, _)| child));
        next += 1;
    }
    found
}
