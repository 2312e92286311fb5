//! Tests of agents that find another server at the address of their relay.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::figures::{figure, ms, times};
use crate::support::{Relay, TOKEN, binary, configure, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A server that is not the agent's relay, by its behaviour after accepting a connection.
#[derive(Debug, Clone, Copy)]
enum UntrustedServer {
    /// Closes the connection at once.
    Closes,
    /// Reads everything and sends nothing, as `nc -l` does.
    Silent,
    /// Sends the first line of another protocol.
    Greets,
    /// Answers as a web server without TLS.
    Web,
    /// Has the relay's certificate, but answers 404 for the path of the agents.
    NotFound,
    /// Uses TLS with a certificate of its own.
    Impostor,
}

impl UntrustedServer {
    async fn serve(self, mut stream: TcpStream) {
        let answer: &[u8] = match self {
            Self::Closes => return,
            Self::Silent => b"",
            Self::Greets => b"SSH-2.0-OpenSSH_9.2p1\r\n",
            Self::Web => NOT_FOUND,
            Self::NotFound => {
                let mut stream = tls::identity().accept(stream).await.unwrap();
                let _ = stream.write_all(NOT_FOUND).await;
                return drain(stream).await;
            }
            Self::Impostor => {
                let handshake = tls::Identity::new().accept(stream).await;
                assert!(handshake.is_err(), "the agent accepted another certificate");
                return;
            }
        };
        let _ = stream.write_all(answer).await;
        drain(stream).await;
    }
}

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

async fn drain(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut buffer = [0; 1024];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}

/// Counts the connections that an agent makes to a server within `time`, then replaces the server by the relay. Returns
/// the count, the agent's stderr, and the time until the agent connected to the relay.
async fn count_connections(server: UntrustedServer, time: Duration) -> (u32, String, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = crate::support::tls::config(&format!("wss://{address}/agent"), TOKEN);
    configure(dir.path(), &config.to_string());
    let log = dir.path().join("stderr");
    let mut agent = Command::new(binary());
    agent.args(["run", "--state"]).arg(dir.path()).stdin(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut agent = agent.spawn().unwrap();
    let mut count = 0;
    let _ = timeout(time, async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count += 1;
            tokio::spawn(server.serve(stream));
        }
    })
    .await;
    drop(listener);
    let mut relay = Relay::new().await;
    relay.listen_at(address).await;
    let replaced_at = Instant::now();
    relay.accept().await;
    let took = replaced_at.elapsed();
    agent.kill().unwrap();
    agent.wait().unwrap();
    (count, fs::read_to_string(&log).unwrap(), took)
}

#[tokio::test]
async fn n15_an_agent_logs_a_server_that_is_not_its_relay_and_connects_rarely() {
    let time = Duration::from_secs(times(12, 60));
    let all = [
        UntrustedServer::Closes,
        UntrustedServer::Silent,
        UntrustedServer::Greets,
        UntrustedServer::Web,
        UntrustedServer::NotFound,
        UntrustedServer::Impostor,
    ];
    let results = futures_util::future::join_all(all.map(|server| count_connections(server, time))).await;
    let (mut max_rate, mut slowest) = (0.0_f64, Duration::ZERO);
    for (server, (count, log, took)) in all.into_iter().zip(results) {
        let rate = f64::from(count) / time.as_secs_f64();
        assert!(count > 0 && rate < 2.0, "{server:?}: {rate} connections a second");
        let reason = match server {
            UntrustedServer::NotFound => "refused the connection with status 404",
            UntrustedServer::Impostor => "its certificate is not that of this agent's relay",
            UntrustedServer::Closes
            | UntrustedServer::Silent
            | UntrustedServer::Greets
            | UntrustedServer::Web => "no relay answers there",
        };
        assert!(log.contains(reason), "{server:?}: {log}");
        (max_rate, slowest) = (max_rate.max(rate), slowest.max(took));
    }
    figure(&format!(
        "six kinds of other servers at the relay's port (fault N15): at most {max_rate:.2} connections/s, relay found after {}",
        ms(slowest)
    ));
}
