//! A port of one run on loopback, whose connections are carried to the relay.

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::git_stream::OpenedStream;

/// Pause after a failed `accept`: the system has no more file descriptors for now.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening port. Dropping this value closes the port and its connections.
#[derive(Debug)]
pub(crate) struct LoopbackPort {
    number: u16,
    task: JoinHandle<()>,
}

impl LoopbackPort {
    /// Listens on a free port; the task that `accept` returns serves its connections.
    ///
    /// # Errors
    /// The system has no free port or file descriptor.
    pub(super) async fn open<F>(accept: impl FnOnce(TcpListener) -> F) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let number = listener.local_addr()?.port();
        Ok(Self { number, task: tokio::spawn(accept(listener)) })
    }

    /// Returns the port's number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for LoopbackPort {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends `received`, which is what the connection sent so far, to the relay, and then copies bytes both ways until the
/// end of the connection or of the stream.
pub(super) async fn carry(
    mut connection: TcpStream,
    stream: OpenedStream,
    received: &[u8],
) -> io::Result<()> {
    let OpenedStream { job_side, result } = stream;
    let socket = StdStream::from(job_side);
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    let copying = async {
        socket.write_all(received).await?;
        copy_bidirectional(&mut connection, &mut socket).await.map(drop)
    };
    // A stream that failed ends the connection at once. One that is complete leaves bytes in the socket to pass on.
    tokio::select! {
        copied = copying => copied,
        Err(error) = result.wait() => Err(io::Error::other(error)),
    }
}
