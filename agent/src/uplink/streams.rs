//! Streams of the open connection: opens streams, and moves bytes between the connection and the sockets of programs.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdStream;

use common::stream::{StreamEnd, StreamError, StreamHandle, StreamPart, StreamViolation};
use common::wire::AgentFrame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

use super::connection_state::StreamSupport;
use crate::stream_request::{JobSide, OpenedStream, StreamRequest, StreamResult};

/// Capacity of the queue of parts to send, which all streams of the connection share. The transfers wait while it is
/// full.
const PART_CAPACITY: usize = 2;

/// Streams of a connection, and the queue of requests for further ones.
#[derive(Debug)]
pub(super) struct Streams {
    requests: mpsc::Receiver<StreamRequest>,
    parts: mpsc::Receiver<(u32, StreamPart)>,
    parts_sender: mpsc::Sender<(u32, StreamPart)>,
    /// Handle of each open stream.
    handles: BTreeMap<u32, StreamHandle>,
    /// Tasks that move the bytes, each with the number of its stream as its result.
    transfers: JoinSet<u32>,
    /// Number of the newest stream. A number is never used again, so a late part belongs to no other stream.
    newest_number: u32,
}

impl Streams {
    /// Creates the table of streams, which is empty.
    pub(super) fn new(requests: mpsc::Receiver<StreamRequest>) -> Self {
        let (parts_sender, parts) = mpsc::channel(PART_CAPACITY);
        Self {
            requests,
            parts,
            parts_sender,
            handles: BTreeMap::new(),
            transfers: JoinSet::new(),
            newest_number: 0,
        }
    }

    /// Waits for the next frame to send. Cancel-safe: nothing is awaited after a request or a part was taken.
    pub(super) async fn next_frame(&mut self, support: StreamSupport) -> AgentFrame {
        loop {
            tokio::select! {
                // In this order: an ended transfer is forgotten after its last part, and parts don't delay new streams.
                biased;
                Some(request) = self.requests.recv() => {
                    if !support.includes(request.service) {
                        refuse(request);
                    } else if let Some(frame) = self.open(request) {
                        return frame;
                    }
                }
                Some((stream, part)) = self.parts.recv() => {
                    // A part of an earlier connection's stream has no receiver any more.
                    if self.handles.contains_key(&stream) {
                        return AgentFrame::Stream { stream, part };
                    }
                }
                Some(ended) = self.transfers.join_next() => self.forget(ended.ok()),
                // The queue of parts never ends, because a sender is kept here.
                else => return std::future::pending().await,
            }
        }
    }

    /// Refuses all requests, because the relay has no streams.
    pub(super) fn refuse_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            refuse(request);
        }
    }

    /// Opens a stream, unless its job no longer waits for it.
    fn open(&mut self, request: StreamRequest) -> Option<AgentFrame> {
        let StreamRequest { run, service, job_side } = request;
        let stream = self.newest_number.wrapping_add(1);
        let handle = StreamHandle::new(stream, self.parts_sender.clone());
        let moving = handle.clone();
        match job_side {
            JobSide::NewSocket(opened) => {
                let (socket, result) = send_new_socket(opened)?;
                self.transfers.spawn(async move {
                    // The send fails if the job has ended meanwhile and waits no longer.
                    let _ = result.send(transfer(&moving, socket).await);
                    stream
                });
            }
            JobSide::Connection { result, .. } if result.is_closed() => return None,
            JobSide::Connection { connection, received, result } => {
                self.transfers.spawn(async move {
                    transfer_connection(&moving, connection, &received, result).await;
                    stream
                });
            }
        }
        self.newest_number = stream;
        self.handles.insert(stream, handle);
        Some(AgentFrame::StreamOpen { stream, job: run.job, epoch: run.epoch, service })
    }

    fn forget(&mut self, stream: Option<u32>) {
        if let Some(stream) = stream {
            self.handles.remove(&stream);
        }
    }

    /// Handles a part from the relay. Ignores a part of an unknown stream: the relay sent it before it received the end
    /// of the stream.
    ///
    /// # Errors
    /// The relay broke the protocol.
    pub(super) fn receive(&self, stream: u32, part: StreamPart) -> Result<(), StreamViolation> {
        self.handles.get(&stream).map_or(Ok(()), |handle| handle.receive(part))
    }

    /// Ends all streams, because their connection has ended.
    pub(super) fn fail_all(&mut self) {
        for handle in std::mem::take(&mut self.handles).into_values() {
            handle.fail(StreamError::Lost);
        }
    }
}

/// Refuses a request, because the relay has no such stream.
fn refuse(request: StreamRequest) {
    let error = io::Error::other("the relay is older than the agent: `relay restart` with a newer one");
    // The job may no longer wait for the stream.
    match request.job_side {
        JobSide::NewSocket(opened) => drop(opened.send(Err(error))),
        JobSide::Connection { result, .. } => drop(result.send(Err(error))),
    }
}

/// Sends the job its side of a new socket pair. Returns the other side and the sender of the stream's result; `None` if
/// there is no socket, or if the job no longer waits for one.
fn send_new_socket(
    opened: oneshot::Sender<io::Result<OpenedStream>>,
) -> Option<(UnixStream, oneshot::Sender<StreamEnd>)> {
    let (socket, git) = match socket_pair() {
        Ok(pair) => pair,
        Err(error) => {
            let _ = opened.send(Err(error));
            return None;
        }
    };
    let (sender, result) = oneshot::channel();
    opened.send(Ok(OpenedStream { job_side: git.into(), result: StreamResult(result) })).ok()?;
    Some((socket, sender))
}

fn socket_pair() -> io::Result<(UnixStream, StdStream)> {
    let (agent_end, git) = StdStream::pair()?;
    agent_end.set_nonblocking(true)?;
    Ok((UnixStream::from_std(agent_end)?, git))
}

/// Moves the bytes of a stream of git until both directions have ended.
async fn transfer(handle: &StreamHandle, mut socket: UnixStream) -> StreamEnd {
    let (reader, writer) = socket.split();
    let result = move_bytes(handle, reader, writer).await;
    if result.is_err()
        && let Err(error) = close_failed_stream(socket)
    {
        tracing::warn!("the end of a failed stream may keep git waiting: {error}");
    }
    result
}

/// Moves the bytes of a connection of a job, after those that were `received` already, until both directions have ended
/// or the job ends the stream.
async fn transfer_connection(
    handle: &StreamHandle,
    mut connection: TcpStream,
    received: &[u8],
    mut result: oneshot::Sender<io::Result<()>>,
) {
    let (reader, writer) = connection.split();
    tokio::select! {
        end = move_bytes(handle, received.chain(reader), writer) => {
            let _ = result.send(end.map_err(io::Error::other));
        }
        () = result.closed() => {
            let _ = handle.close(Some("the job has ended the connection".to_owned())).await;
        }
    }
}

/// Moves bytes in both directions until both have ended.
async fn move_bytes(
    handle: &StreamHandle,
    mut reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
) -> StreamEnd {
    let relay_has_ended = Notify::new();
    let sending = async {
        tokio::select! {
            sent = handle.send_from(&mut reader) => {
                sent?;
                handle.close(None).await
            }
            // The relay closes a stream when its git has ended. If git here still sends, as part of a push that was refused,
            // nothing else would read its bytes, and git would wait for ever.
            () = relay_has_ended.notified() => {
                let discarded = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
                discarded.map(drop).map_err(|error| StreamError::Local(error.to_string()))
            }
        }
    };
    let receiving = async {
        handle.receive_into(writer).await?;
        relay_has_ended.notify_one();
        Ok(())
    };
    // The first failure ends both directions.
    let result = tokio::try_join!(sending, receiving);
    if let Err(StreamError::Local(error)) = &result {
        // The program has closed its end early. The relay's side has to end, too.
        let _ = handle.close(Some(error.clone())).await;
    }
    result.map(drop)
}

/// Ends the socket of a failed stream so that git reads the end of the stream. Bytes that nothing has read would turn
/// the end into an error (`ECONNRESET`), after which git's `remote-fd` waits for ever.
fn close_failed_stream(socket: UnixStream) -> io::Result<()> {
    let mut socket = socket.into_std()?;
    // From now on git can't write, so the unread bytes have an end.
    socket.shutdown(Shutdown::Both)?;
    io::copy(&mut socket, &mut io::sink()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use common::stream::StreamService;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_fails_with_unread_bytes_ends_without_an_error_for_git() {
        let (socket, mut git) = socket_pair().unwrap();
        let (parts, mut queue) = mpsc::channel(1);
        let handle = StreamHandle::new(1, parts);
        let moving = handle.clone();
        let transfer = tokio::spawn(async move { transfer(&moving, socket).await });
        // The queue takes one part, and the transfer waits with the second: later bytes stay unread.
        git.write_all(b"want").unwrap();
        let first = queue.recv().await;
        assert_eq!(first, Some((1, StreamPart::Data(b"want".to_vec()))));
        git.set_nonblocking(true).unwrap();
        while git.write(&[0; 4096]).is_ok() {
            tokio::task::yield_now().await;
        }
        handle.fail(StreamError::Lost);
        assert_eq!(transfer.await.unwrap(), Err(StreamError::Lost));

        git.set_nonblocking(false).unwrap();
        git.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        assert_eq!(git.read(&mut [0; 1]).unwrap(), 0, "the end of the stream");
    }

    #[tokio::test]
    async fn a_relay_without_streams_to_the_model_gets_no_request_for_one() {
        let (opener, requests) = crate::stream_request::queue();
        let mut streams = Streams::new(requests);
        let run = crate::spool::RunId { job: "a#1".parse().unwrap(), epoch: 1 };
        let refused = tokio::select! {
            result = opener.open(&run, StreamService::Model) => result.unwrap_err(),
            frame = streams.next_frame(StreamSupport::Files) => unreachable!("{frame:?}"),
        };
        assert!(refused.to_string().contains("older than the agent"), "{refused}");
        let frame = tokio::select! {
            _ = opener.open(&run, StreamService::Model) => streams.next_frame(StreamSupport::All).await,
            frame = streams.next_frame(StreamSupport::All) => frame,
        };
        assert!(matches!(frame, AgentFrame::StreamOpen { service: StreamService::Model, .. }), "{frame:?}");
    }

    #[tokio::test]
    async fn a_connection_that_the_job_drops_ends_at_both_ends() {
        let (opener, requests) = crate::stream_request::queue();
        let mut streams = Streams::new(requests);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (connection, _) = listener.accept().await.unwrap();
        let run = crate::spool::RunId { job: "a#1".parse().unwrap(), epoch: 1 };
        let forwarding = tokio::spawn(async move {
            opener.forward(&run, StreamService::Model, connection, b"GET".to_vec()).await
        });
        let frame = streams.next_frame(StreamSupport::All).await;
        assert!(matches!(frame, AgentFrame::StreamOpen { stream: 1, .. }), "{frame:?}");
        let frame = streams.next_frame(StreamSupport::All).await;
        assert!(
            matches!(&frame, AgentFrame::Stream { part: StreamPart::Data(bytes), .. } if bytes == b"GET"),
            "{frame:?}"
        );
        forwarding.abort();
        let frame = streams.next_frame(StreamSupport::All).await;
        assert!(matches!(frame, AgentFrame::Stream { part: StreamPart::Close(Some(_)), .. }), "{frame:?}");
        assert_eq!(program.read(&mut [0]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn a_git_that_still_sends_when_the_relay_has_ended_is_read_to_its_end() {
        let (socket, mut git) = socket_pair().unwrap();
        let (parts, mut queue) = mpsc::channel(1);
        let handle = StreamHandle::new(1, parts);
        let moving = handle.clone();
        let transfer = tokio::spawn(async move { transfer(&moving, socket).await });
        // More than the window: without a reader at the relay, this blocks.
        let sender = std::thread::spawn(move || {
            git.write_all(&vec![0; 16 << 20]).unwrap();
            git.shutdown(Shutdown::Write).unwrap();
            git.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
            let mut answer = String::new();
            git.read_to_string(&mut answer).unwrap();
            answer
        });
        queue.recv().await.unwrap();
        handle.receive(StreamPart::Data(b"refused".to_vec())).unwrap();
        handle.receive(StreamPart::Close(None)).unwrap();
        let others = tokio::spawn(async move { while queue.recv().await.is_some() {} });
        assert_eq!(transfer.await.unwrap(), Ok(()));
        assert_eq!(sender.join().unwrap(), "refused");
        others.abort();
    }
}
