//! One connection, from `Hello` to its end.

use std::sync::Arc;

use common::wire::{
    self, AgentFrame, CLOSE_PROTOCOL, CLOSE_VERSION, DEAD_AFTER, HELLO_TIMEOUT, Hello, PROTOCOL,
    PROTOCOL_MIN, Platform, RelayFrame, TerminationCause,
};
use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use tokio::time::{Instant, Interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};

use super::LinkError;
use super::connect::Socket;
use super::session::{Session, progress};
use crate::job::JobManager;
use crate::spool::Spool;

/// Input that the loop waited for.
enum Input {
    /// Message from the relay.
    Message(Option<Result<Message, tungstenite::Error>>),
    /// Nothing was received for too long.
    Silent,
    /// The configuration has to be checked.
    ConfigCheck,
    /// There may be data to send, and nothing was received.
    Writable,
    /// Data was appended to the spool.
    Appended,
    /// A job was accepted or refused.
    Started(Result<(), LinkError>),
}

/// Sends `Hello`, waits for `Welcome`, then serves until the connection ends. `welcomed` is called in between with
/// the relay's information about the end of the agent's last process; `reconfigured` whenever `look` ticks.
///
/// # Errors
/// Always: the reason for the end.
pub(super) async fn serve_connection(
    mut socket: Socket,
    spool: &Spool,
    jobs: &Arc<JobManager>,
    platform: Platform,
    look: &mut Interval,
    welcomed: impl FnOnce(Option<TerminationCause>),
    mut reconfigured: impl FnMut() -> bool,
) -> LinkError {
    let served = async {
        let asked = spool.time().monotonic();
        let hello = AgentFrame::Hello(Box::new(hello(spool, jobs, platform)));
        let hello = wire::encode(&hello).map_err(|error| LinkError::Protocol(error.to_string()))?;
        send(&mut socket, hello).await?;
        flush(&mut socket).await?;
        let (durable, cause, now) = match timeout(HELLO_TIMEOUT, receive_welcome(&mut socket)).await {
            Ok(welcome) => welcome?,
            Err(_) => return Err(LinkError::Silent),
        };
        spool.time().synchronize(asked, now);
        welcomed(cause);
        let mut session = Session::new(spool, jobs, durable);
        let mut dead = Instant::now() + DEAD_AFTER;
        let mut more = true;
        loop {
            // Cancel-safe: a WebSocket's `next` keeps a half-read message in the socket; a tick or a notification
            // that is not taken stays due. Writing happens below, outside, where nothing can cut a message in two.
            let input = tokio::select! {
                biased;
                message = socket.next() => Input::Message(message),
                () = sleep_until(dead) => Input::Silent,
                _ = look.tick() => Input::ConfigCheck,
                started = session.next_started() => Input::Started(started),
                () = std::future::ready(()), if more => Input::Writable,
                () = spool.wait_appended(), if !more => Input::Appended,
            };
            match input {
                Input::Message(message) => {
                    dead = Instant::now() + DEAD_AFTER;
                    if let Some(frame) = parse_frame(message)? {
                        session.take_frame(frame)?;
                        more = true;
                    }
                }
                Input::Silent => return Err(LinkError::Silent),
                Input::ConfigCheck if reconfigured() => return Err(LinkError::Reconfigured),
                Input::ConfigCheck => {}
                Input::Writable => {
                    let frame = session.next_frame()?;
                    more = frame.is_some();
                    match frame {
                        Some(frame) => send(&mut socket, frame).await?,
                        None => flush(&mut socket).await?,
                    }
                }
                Input::Appended => more = true,
                Input::Started(started) => {
                    started?;
                    more = true;
                }
            }
        }
    };
    let end: Result<std::convert::Infallible, LinkError> = served.await;
    let error = match end {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if let LinkError::Protocol(reason) = &error {
        let close =
            CloseFrame { code: CLOSE_PROTOCOL.into(), reason: common::text::one_line(reason, 100).into() };
        // The relay may not read it any more.
        let _ = timeout(std::time::Duration::from_secs(1), socket.close(Some(close))).await;
    }
    error
}

fn hello(spool: &Spool, jobs: &JobManager, platform: Platform) -> Hello {
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL,
        agent: jobs.agent().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        max_jobs: jobs.max_jobs(),
        platform,
        jobs: progress(spool),
    }
}

async fn receive_welcome(
    socket: &mut Socket,
) -> Result<(Vec<wire::Durable>, Option<TerminationCause>, Timestamp), LinkError> {
    loop {
        match parse_frame(socket.next().await)? {
            None => {}
            Some(RelayFrame::Welcome { protocol, durable, cause, now })
                if (PROTOCOL_MIN..=PROTOCOL).contains(&protocol) =>
            {
                return Ok((durable, cause, now));
            }
            Some(RelayFrame::Welcome { protocol, .. }) => {
                return Err(LinkError::Protocol(format!(
                    "it chose protocol {protocol}, which was not offered"
                )));
            }
            Some(_) => return Err(LinkError::Protocol("it sent a message before its welcome".to_owned())),
        }
    }
}

/// Returns the frame of a message; `None` for the WebSocket's own messages.
fn parse_frame(
    message: Option<Result<Message, tungstenite::Error>>,
) -> Result<Option<RelayFrame>, LinkError> {
    match message {
        Some(Ok(Message::Binary(bytes))) => {
            wire::decode(&bytes).map(Some).map_err(|error| LinkError::Protocol(error.to_string()))
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Ok(Message::Text(_))) => Err(LinkError::Protocol("it sent text".to_owned())),
        Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == CLOSE_VERSION => {
            Err(LinkError::Version(common::text::one_line(&frame.reason, 200)))
        }
        Some(Ok(Message::Close(frame))) => Err(LinkError::Closed(frame.map_or_else(
            || "no reason given".to_owned(),
            |frame| common::text::one_line(&format!("{} {}", u16::from(frame.code), frame.reason), 200),
        ))),
        // A relay that is killed does not close TLS properly.
        Some(Err(tungstenite::Error::Io(error))) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(LinkError::Closed("end of the connection".to_owned()))
        }
        Some(Err(error)) => Err(LinkError::Closed(error.to_string())),
        None => Err(LinkError::Closed("end of the connection".to_owned())),
    }
}

/// Writes a frame to the socket. A relay that does not read for [`DEAD_AFTER`] counts as gone; the truncated message
/// is lost with the connection.
async fn send(socket: &mut Socket, frame: Vec<u8>) -> Result<(), LinkError> {
    written(timeout(DEAD_AFTER, socket.feed(Message::binary(frame))).await)
}

async fn flush(socket: &mut Socket) -> Result<(), LinkError> {
    written(timeout(DEAD_AFTER, socket.flush()).await)
}

fn written(
    result: Result<Result<(), tungstenite::Error>, tokio::time::error::Elapsed>,
) -> Result<(), LinkError> {
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(LinkError::Closed(error.to_string())),
        Err(_) => Err(LinkError::Silent),
    }
}
