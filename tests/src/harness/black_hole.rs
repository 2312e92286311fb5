//! A server that accepts connections and never answers them to the end: it makes a command such as `npm install` hang.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

/// Interval at which a waiting connection checks whether the test is over.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Behaviour of the server on each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Sends nothing at all.
    Silent,
    /// Sends the head of a long answer, and then one byte at this interval.
    Drip(Duration),
}

/// A running server on loopback; dropping this value ends it.
#[derive(Debug)]
pub struct BlackHole {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// State that the threads of the server share.
#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    /// Time of the newest connection or received byte; none before the first connection.
    last_activity: Mutex<Option<SystemTime>>,
}

impl Shared {
    fn record_activity(&self) {
        *self.last_activity.lock().unwrap_or_else(PoisonError::into_inner) = Some(SystemTime::now());
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl BlackHole {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("no port: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("no address: {e}"));
        let hole = Self { address, shared: Arc::default() };
        let shared = Arc::clone(&hole.shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_over() {
                    return;
                }
                shared.record_activity();
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, behaviour, &shared));
            }
        });
        hole
    }

    /// Returns the address as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the time of the newest connection or received byte.
    pub fn last_activity(&self) -> Option<SystemTime> {
        *self.shared.last_activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Wakes the listening thread.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, behaviour: Behaviour, shared: &Shared) {
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n";
    let mut request = [0; 4096];
    let wait = match behaviour {
        Behaviour::Silent => CHECK_INTERVAL,
        Behaviour::Drip(pause) => pause,
    };
    let mut has_sent_head = false;
    while !shared.is_over() && stream.set_read_timeout(Some(wait)).is_ok() {
        // The end of the request, a reset or an error ends the connection; a time-out is expected.
        match stream.read(&mut request) {
            Ok(0) => return,
            Ok(_) => shared.record_activity(),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        if matches!(behaviour, Behaviour::Drip(_)) {
            let sent = if has_sent_head { stream.write_all(b".") } else { stream.write_all(HEAD) };
            has_sent_head = true;
            if sent.is_err() {
                return;
            }
        }
    }
}
