//! A port of one run on loopback, whose connections are forwarded to the relay.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

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
