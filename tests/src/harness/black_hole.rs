//! A server that accepts connections and never answers: the cause of an endless `npm install`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

/// Interval at which a waiting connection checks whether the test is over.
const TICK: Duration = Duration::from_millis(100);

/// Treatment of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Sends nothing at all.
    Silent,
    /// Sends the head of an answer that never ends, and then one byte at this interval.
    Drip(Duration),
}

/// A server on loopback; it ends when this is dropped.
#[derive(Debug)]
pub struct BlackHole {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    /// Time of the last connection or byte received; none before the first connection.
    last: Mutex<Option<SystemTime>>,
}

impl Shared {
    fn hear(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(SystemTime::now());
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl BlackHole {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("no port: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("no address: {e}"));
        let hole = Self { address, shared: Arc::default() };
        let shared = Arc::clone(&hole.shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_over() {
                    return;
                }
                shared.hear();
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, manner, &shared));
            }
        });
        hole
    }

    /// Returns the address as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the time of the last connection or byte received.
    pub fn heard(&self) -> Option<SystemTime> {
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the listening thread.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, manner: Manner, shared: &Shared) {
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n";
    let mut request = [0; 4096];
    let wait = match manner {
        Manner::Silent => TICK,
        Manner::Drip(pause) => pause,
    };
    let mut answered = false;
    while !shared.is_over() && stream.set_read_timeout(Some(wait)).is_ok() {
        // The end of the request, a reset or an error ends the connection; a time-out is expected.
        match stream.read(&mut request) {
            Ok(0) => return,
            Ok(_) => shared.hear(),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        if matches!(manner, Manner::Drip(_)) {
            let sent = if answered { stream.write_all(b".") } else { stream.write_all(HEAD) };
            answered = true;
            if sent.is_err() {
                return;
            }
        }
    }
}
