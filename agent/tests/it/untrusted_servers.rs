//! Servers at the relay's address that are not the relay.

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

/// Behaviour of such a server towards a connection.
#[derive(Debug, Clone, Copy)]
enum UntrustedServer {
    /// Closes the connection at once.
    Closes,
    /// Reads everything and sends nothing, as `nc -l` does.
    Silent,
    /// Answers the handshake in another protocol.
    Greets,
    /// A web server without TLS.
    Web,
    /// Has the relay's certificate, but not its path.
    Lost,
    /// Uses TLS with a certificate of its own.
    Impostor,
}

impl UntrustedServer {
    async fn serve(self, mut stream: TcpStream) {
        let words: &[u8] = match self {
            Self::Closes => return,
            Self::Silent => b"",
            Self::Greets => b"SSH-2.0-OpenSSH_9.2p1\r\n",
            Self::Web => NOT_FOUND,
            Self::Lost => {
                let mut stream = tls::identity().accept(stream).await.unwrap();
                let _ = stream.write_all(NOT_FOUND).await;
                return drain(stream).await;
            }
            Self::Impostor => {
                let shaken = tls::Identity::new().accept(stream).await;
                assert!(shaken.is_err(), "the agent accepted another certificate");
                return;
            }
        };
        let _ = stream.write_all(words).await;
        drain(stream).await;
    }
}

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

async fn drain(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut taken = [0; 1024];
    while matches!(stream.read(&mut taken).await, Ok(1..)) {}
}

/// Counts the connections that an agent makes to a server in that time, then lets the relay take the server's
/// place; returns the count, the agent's stderr, and the time until the agent found the relay.
async fn visits(server: UntrustedServer, time: Duration) -> (u32, String, Duration) {
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
    relay.come_back(address).await;
    let back = Instant::now();
    relay.accept().await;
    let took = back.elapsed();
    agent.kill().unwrap();
    agent.wait().unwrap();
    (count, fs::read_to_string(&log).unwrap(), took)
}

#[tokio::test]
async fn n15_a_port_without_a_relay_behind_it_is_a_typed_error_and_is_not_hammered() {
    let time = Duration::from_secs(times(12, 60));
    let all = [
        UntrustedServer::Closes,
        UntrustedServer::Silent,
        UntrustedServer::Greets,
        UntrustedServer::Web,
        UntrustedServer::Lost,
        UntrustedServer::Impostor,
    ];
    let met = futures_util::future::join_all(all.map(|server| visits(server, time))).await;
    let (mut most, mut slowest) = (0.0_f64, Duration::ZERO);
    for (server, (count, log, took)) in all.into_iter().zip(met) {
        let rate = f64::from(count) / time.as_secs_f64();
        assert!(count > 0 && rate < 2.0, "{server:?}: {rate} connections a second");
        let reason = match server {
            UntrustedServer::Lost => "refused the connection with status 404",
            UntrustedServer::Impostor => "its certificate is not that of this agent's relay",
            UntrustedServer::Closes
            | UntrustedServer::Silent
            | UntrustedServer::Greets
            | UntrustedServer::Web => "no relay answers there",
        };
        assert!(log.contains(reason), "{server:?}: {log}");
        (most, slowest) = (most.max(rate), slowest.max(took));
    }
    figure(&format!(
        "N15 six kinds of strangers at the relay's port: at most {most:.2} connections/s, the relay found {} after it came",
        ms(slowest)
    ));
}
