//! A model server that streams events with the time at which it sent them, and its client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Fallible;

/// Pause between two events, as of a fast model.
const PACE: Duration = Duration::from_millis(10);
/// Events of an answer that are not measured: connections are being opened.
const WARM_UP: usize = 20;

/// A model server on loopback. It runs until the process ends.
pub(crate) struct EventServer {
    address: SocketAddr,
}

impl EventServer {
    /// Starts a server whose answers have so many events.
    pub(crate) fn start(events: usize) -> Fallible<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // A client that goes away ends only its own answer.
                thread::spawn(move || answer(stream, events).is_ok());
            }
        });
        Ok(Self { address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn answer(mut stream: TcpStream, events: usize) -> Fallible<()> {
    stream.set_nodelay(true)?;
    let mut request = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    request.read_exact(&mut [0; 2])?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    for _ in 0..events {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let delta = format!("{{\"type\":\"response.output_text.delta\",\"delta\":\"{now}\"}}");
        stream.write_all(format!("data: {delta}\n\n").as_bytes())?;
        thread::park_timeout(PACE);
    }
    let usage = "{\"input_tokens\":1,\"output_tokens\":1}";
    let end = format!("{{\"type\":\"response.completed\",\"response\":{{\"usage\":{usage}}}}}");
    Ok(stream.write_all(format!("data: {end}\n\n").as_bytes())?)
}

/// Receives so many answers at once, and returns the time that each event took.
pub(crate) fn receive(address: SocketAddr, token: &str, connections: usize) -> Fallible<Vec<Duration>> {
    let all = Arc::new(Barrier::new(connections));
    let clients = (0..connections).map(|_| {
        let (all, token) = (Arc::clone(&all), token.to_owned());
        thread::spawn(move || {
            all.wait();
            receive_one(address, &token).map_err(|error| error.to_string())
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.join().map_err(|_| "a client failed")??);
    }
    Ok(times)
}

fn receive_one(address: SocketAddr, token: &str) -> Fallible<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let head = "POST /v1/responses HTTP/1.1\r\nhost: relay\r\ncontent-length: 2\r\nconnection: close";
    stream.write_all(format!("{head}\r\nauthorization: Bearer {token}\r\n\r\n{{}}").as_bytes())?;
    let (mut lines, mut line, mut times) = (BufReader::new(stream), String::new(), Vec::new());
    while lines.read_line(&mut line)? > 0 {
        if line.contains("response.completed") {
            return Ok(times.split_off(WARM_UP.min(times.len())));
        }
        if let Some((_, delta)) = line.split_once("\"delta\":\"") {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let sent = delta.split_once('"').map_or("", |(sent, _)| sent).parse()?;
            times.push(now.saturating_sub(Duration::from_nanos(sent)));
        }
        line.clear();
    }
    Err("the answer broke off".into())
}
