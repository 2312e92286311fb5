//! The port at which one run finds the proxy. Forwards each connection to the relay as a stream, without a token:
//! loopback of a container belongs to its job alone.

use std::io;
use std::sync::Arc;

use common::stream::{MAX_NETWORK_STREAMS, StreamService};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::loopback_port::{ACCEPT_PAUSE, LoopbackPort};
use crate::spool::RunId;
use crate::stream_request::StreamOpener;

/// Listens on a free port for the connections of a run.
///
/// # Errors
/// The system has no free port or file descriptor.
pub(crate) async fn listen(run: RunId, streams: StreamOpener) -> io::Result<LoopbackPort> {
    LoopbackPort::open(|listener| accept_connections(listener, run, streams)).await
}

/// Accepts connections, and serves as many at once as there may be streams. Further ones wait in the system's queue.
async fn accept_connections(listener: TcpListener, run: RunId, streams: StreamOpener) {
    let permits = Arc::new(Semaphore::new(MAX_NETWORK_STREAMS));
    let mut tasks = JoinSet::new();
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        while tasks.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((connection, _)) => {
                let (run, streams) = (run.clone(), streams.clone());
                tasks.spawn(async move {
                    if let Err(error) = serve_connection(connection, &run, &streams).await {
                        // The client sees that its connection ends, and says so.
                        tracing::debug!("{}: a connection to the proxy ended early: {error}", run.job);
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("{}: a connection to the proxy can't be accepted: {error}", run.job);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Forwards one connection to the relay until its end. Without a connection to the relay, it waits for one.
async fn serve_connection(connection: TcpStream, run: &RunId, streams: &StreamOpener) -> io::Result<()> {
    connection.set_nodelay(true)?;
    streams.forward(run, StreamService::Network, connection, Vec::new()).await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::stream_request::{self, JobSide, StreamRequest};

    /// Takes the next connection in the uplink's place. Returns it, and the sender that ends it.
    async fn next_connection(
        requests: &mut mpsc::Receiver<StreamRequest>,
    ) -> (TcpStream, oneshot::Sender<io::Result<()>>) {
        let request = requests.recv().await.unwrap();
        assert_eq!(request.service, StreamService::Network);
        match request.job_side {
            JobSide::Connection { connection, result, .. } => (connection, result),
            JobSide::NewSocket(_) => unreachable!("the port has a connection already"),
        }
    }

    #[tokio::test]
    async fn connections_are_forwarded_and_those_over_the_limit_wait() {
        let (opener, mut requests) = stream_request::queue();
        let run = RunId { job: "a#1".parse().unwrap(), epoch: 1 };
        let port = listen(run, opener).await.unwrap();
        let mut clients = Vec::new();
        for number in 0..=MAX_NETWORK_STREAMS {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).await.unwrap();
            client.write_u8(u8::try_from(number).unwrap()).await.unwrap();
            clients.push(client);
        }
        let mut streams = Vec::new();
        for _ in 0..MAX_NETWORK_STREAMS {
            streams.push(next_connection(&mut requests).await);
        }
        let (mut relay_side, end) = streams.pop().unwrap();
        let number = relay_side.read_u8().await.unwrap();
        let client = clients.get_mut(usize::from(number)).unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut received = String::new();
        relay_side.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "question");
        assert!(requests.try_recv().is_err(), "one connection is over the limit");
        relay_side.write_all(b"answer").await.unwrap();
        drop(relay_side);
        end.send(Ok(())).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        next_connection(&mut requests).await;
    }
}
