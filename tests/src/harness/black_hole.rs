//! A server that accepts connections and never answers: what hangs `npm install` for ever.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

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
    over: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

impl BlackHole {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is none.
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("no port: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("no address: {e}"));
        let (over, accepted) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ends, counts) = (Arc::clone(&over), Arc::clone(&accepted));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                counts.fetch_add(1, Ordering::Relaxed);
                let ends = Arc::clone(&ends);
                if let Ok(stream) = stream {
                    thread::spawn(move || serve(stream, manner, &ends));
                }
            }
        });
        Self { address, over, accepted }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many connections it has taken.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread that listens.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, manner: Manner, over: &AtomicBool) {
    let mut request = [0; 4096];
    let wait = match manner {
        Manner::Silent => TICK,
        Manner::Drip(pause) => pause,
    };
    let head =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n";
    let mut answered = false;
    while !over.load(Ordering::Relaxed) && stream.set_read_timeout(Some(wait)).is_ok() {
        // An end of the request, a reset or an error ends the connection; a time-out is what is waited for.
        match stream.read(&mut request) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        if matches!(manner, Manner::Drip(_)) {
            let sent = if answered { stream.write_all(b".") } else { stream.write_all(head) };
            answered = true;
            if sent.is_err() {
                return;
            }
        }
    }
}
