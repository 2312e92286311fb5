//! A connection of an agent without a WebSocket library, for frames that no library would send.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::wire::{self, AgentFrame, Hello};

use rustls::{ClientConnection, StreamOwned};

use super::Endpoint;
use super::endpoint::server_name;

/// Opcode of a binary message.
pub const BINARY: u8 = 2;
/// Opcode of a continuation frame.
pub const CONTINUATION: u8 = 0;
/// Opcode of a close frame.
const CLOSE: u8 = 8;

/// A WebSocket connection to a relay, of which the test writes every byte.
#[derive(Debug)]
pub struct RawConnection {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl RawConnection {
    /// Connects with a new token and upgrades to a WebSocket.
    pub fn connect(endpoint: &Endpoint) -> Self {
        let address = endpoint.address();
        let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        let tls = ClientConnection::new(endpoint.tls(), server_name());
        let mut stream = StreamOwned::new(tls.unwrap_or_else(|e| panic!("{address}: {e}")), stream);
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            wire::AGENT_PATH,
            wire::SUBPROTOCOL,
            endpoint.fresh_token()
        );
        let mut head = Vec::new();
        let answered = stream.write_all(request.as_bytes()).and_then(|()| {
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                head.push(byte[0]);
            }
            Ok(())
        });
        answered.unwrap_or_else(|e| panic!("{address}: {e}"));
        let head = String::from_utf8_lossy(&head);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        Self { stream }
    }

    /// Sends a `Hello`.
    pub fn send_hello(&mut self, hello: Hello) -> io::Result<()> {
        let bytes = wire::encode(&AgentFrame::Hello(Box::new(hello))).map_err(io::Error::other)?;
        self.send_frame(true, BINARY, bytes.len() as u64, &bytes)
    }

    /// Sends a frame whose head announces `announced` bytes, and `bytes` as its content.
    pub fn send_frame(&mut self, is_last: bool, opcode: u8, announced: u64, bytes: &[u8]) -> io::Result<()> {
        let mut frame = vec![u8::from(is_last) << 7 | opcode, 0x80 | 127];
        frame.extend(announced.to_be_bytes());
        // A mask of zeros leaves the bytes unchanged.
        frame.extend([0; 4]);
        frame.extend(bytes);
        self.stream.write_all(&frame)
    }

    /// Reads until `bytes` is full. Sends no pending output, because a relay that has closed accepts nothing more.
    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.stream.conn.reader().read(&mut bytes[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.conn.read_tls(&mut self.stream.sock)?;
                    self.stream.conn.process_new_packets().map_err(io::Error::other)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads until the connection ends or `patience` has passed. Returns the code of the close frame, if one was
    /// received, and the elapsed time. Every frame of the relay must be shorter than 126 bytes.
    pub fn wait_for_close(mut self, patience: Duration) -> (Option<u16>, Duration) {
        let started = Instant::now();
        let mut code = None;
        while started.elapsed() < patience {
            let mut head = [0; 2];
            let left = patience.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
            let read =
                self.stream.sock.set_read_timeout(Some(left)).and_then(|()| self.read_exact(&mut head));
            let mut body = vec![0; usize::from(head[1])];
            if read.and_then(|()| self.read_exact(&mut body)).is_err() {
                break;
            }
            if head[0] & 0xf == CLOSE
                && let [high, low, ..] = body[..]
            {
                code = Some(u16::from_be_bytes([high, low]));
            }
        }
        (code, started.elapsed())
    }
}
