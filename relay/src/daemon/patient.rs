//! A listener whose connections end when the other side takes nothing for too long, whatever is being served on them:
//! without this, an answer to somebody who never reads would stay in memory for as long as they please.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::serve::Listener;
use common::wire;
use tokio::io;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;

/// As long as an agent may be silent. Whoever serves a connection may be less patient.
const PATIENCE: Duration = wire::DEAD_AFTER;

/// The listener.
pub(super) struct Patient(pub(super) TcpListener);

impl Listener for Patient {
    type Io = Pin<Box<TimeoutStream<TcpStream>>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (stream, from) = Listener::accept(&mut self.0).await;
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(PATIENCE));
        (Box::pin(stream), from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
