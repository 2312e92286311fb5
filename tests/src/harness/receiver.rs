//! A receiver of webhooks: an HTTP server that records the requests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Maximum length of a body, in bytes.
const MAX_BODY: usize = 1 << 20;

/// A completely received request.
#[derive(Debug, Clone)]
pub struct Post {
    /// Headers of the request, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body of the request.
    pub body: Vec<u8>,
}

/// A running receiver of webhooks. Dropping this value closes the port.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    posts: Arc<Mutex<Vec<Post>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Returns a port on which no program listens.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.unwrap_or_else(|e| panic!("no port: {e}")).port()
}

impl Receiver {
    /// Starts a receiver on a port of 127.0.0.1. It answers each request with the status line `answer` after `delay`.
    pub fn start(port: u16, answer: &'static str, delay: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap_or_else(|e| panic!("port {port}: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("{e}"));
        let (posts, stop) = (Arc::<Mutex<Vec<Post>>>::default(), Arc::new(AtomicBool::new(false)));
        let (received, stopped) = (Arc::clone(&posts), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let received = Arc::clone(&received);
                std::thread::spawn(move || handle_request(stream, &received, answer, delay));
            }
        });
        Self { address, posts, stop, thread: Some(thread) }
    }

    /// Returns the URL to which webhooks are sent.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Returns the requests received so far.
    pub fn posts(&self) -> Vec<Post> {
        lock(&self.posts).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // The connection wakes the listening thread.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn handle_request(mut stream: TcpStream, received: &Mutex<Vec<Post>>, answer: &str, delay: Duration) {
    let Some(post) = read_request(&stream) else { return };
    lock(received).push(post);
    std::thread::park_timeout(delay);
    let _ = write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

fn read_request(stream: &TcpStream) -> Option<Post> {
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length.min(MAX_BODY)];
    reader.read_exact(&mut body).ok()?;
    Some(Post { headers, body })
}

/// Locks the list. A panic of another thread leaves the list intact, because each change is a single push.
fn lock(posts: &Mutex<Vec<Post>>) -> MutexGuard<'_, Vec<Post>> {
    posts.lock().unwrap_or_else(PoisonError::into_inner)
}
