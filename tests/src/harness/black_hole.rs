//! A server that accepts connections and never answers: what hangs `npm install` for ever.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

/// How long a connection waits for a request before it looks whether the test is over.
const TICK: Duration = Duration::from_millis(100);

/// What a connection gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nothing at all.
    Silent,
    /// The head of an answer that has no end, and then one byte each time this has passed.
    Drip(Duration),
}

/// A server on loopback; it ends with this.
#[derive(Debug)]
pub struct BlackHole {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    /// When it heard last; nothing before its first connection.
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
    ///
    /// # Panics
    /// When there is none.
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

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// When a connection or a byte came last.
    pub fn heard(&self) -> Option<SystemTime> {
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the thread that listens.
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
        // An end of the request, a reset or an error ends the connection; a time-out is what is waited for.
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
