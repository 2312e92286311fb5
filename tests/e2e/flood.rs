//! Hostile and broken clients on the relay's port, and the memory that they cost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use relay_tests::harness::figures::{figure, ms, percentile};
use relay_tests::harness::{Engine, PATIENCE, Site};
use relay_tests::simulated_agent::connection::hello;
use relay_tests::simulated_agent::raw_connection::{BINARY, CONTINUATION, RawConnection};
use relay_tests::simulated_agent::{Connection, Endpoint, block_on};

const MIB: usize = 1024 * 1024;

fn site() -> (Site, Endpoint) {
    let site = Site::up(Engine::Local);
    let endpoint = Endpoint::of_site(&site);
    (site, endpoint)
}

/// Returns the peak resident memory of the relay, in KiB.
fn peak_kib(site: &Site) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.daemon_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn c04_a_message_of_64_mib_is_closed_with_1009() {
    let (site, endpoint) = site();
    let before = peak_kib(&site);
    // The first client announces the message in one frame; the second sends it in fragments that are within the limit.
    let mut announced = RawConnection::connect(&endpoint);
    announced.send_hello(hello("big", 0, Vec::new())).unwrap();
    let _ = announced.send_frame(true, BINARY, 64 * MIB as u64, &vec![0; MIB]);
    let (one, _) = announced.wait_for_close(PATIENCE);
    let mut pieces = RawConnection::connect(&endpoint);
    pieces.send_hello(hello("pieces", 0, Vec::new())).unwrap();
    let piece = vec![0; MIB / 2];
    let mut sent = 0;
    while sent < 64 * MIB {
        let opcode = if sent == 0 { BINARY } else { CONTINUATION };
        if pieces.send_frame(false, opcode, piece.len() as u64, &piece).is_err() {
            break;
        }
        sent += piece.len();
    }
    let (many, _) = pieces.wait_for_close(PATIENCE);
    let grown = peak_kib(&site) - before;
    figure(&format!(
        "64 MiB in one message (fault C04): one frame closed with {one:?}; fragments closed with {many:?} after {} MiB; relay grew by {} KiB",
        sent / MIB,
        grown
    ));
    assert_eq!((one, many), (Some(1009), Some(1009)));
    assert!(sent < 64 * MIB && grown < 8 * 1024, "{sent} bytes, {grown} KiB");
}

#[test]
fn c05_endless_fragments_are_closed_by_a_deadline() {
    let (_site, endpoint) = site();
    let drip = |mut raw: RawConnection, begun: Instant| {
        let mut opcode = BINARY;
        // WebSocket pings are sent, too: they must not count as messages of an agent.
        while raw.send_frame(false, opcode, 0, &[]).is_ok() && raw.send_frame(true, 9, 0, &[]).is_ok() {
            opcode = CONTINUATION;
            thread::park_timeout(Duration::from_millis(50));
            assert!(begun.elapsed() < PATIENCE, "the relay has not closed it");
        }
        begun.elapsed()
    };
    let (before_hello, after_hello) = thread::scope(|scope| {
        let before_hello = scope.spawn(|| drip(RawConnection::connect(&endpoint), Instant::now()));
        let after_hello = scope.spawn(|| {
            let mut raw = RawConnection::connect(&endpoint);
            raw.send_hello(hello("drip", 0, Vec::new())).unwrap();
            drip(raw, Instant::now())
        });
        (before_hello.join().unwrap(), after_hello.join().unwrap())
    });
    figure(&format!(
        "endless fragments (fault C05): closed after {} before a hello, {} after it",
        ms(before_hello),
        ms(after_hello)
    ));
    // Before a hello the limit is 5 s, after it 14 s.
    assert!(before_hello < after_hello, "{before_hello:?}, {after_hello:?}");
}

/// Returns true if the relay has not closed a connection on which it sends nothing.
pub(crate) fn is_open(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let peeked = client.peek(&mut [0]);
    client.set_nonblocking(false).unwrap();
    peeked.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn c07_a_thousand_half_open_handshakes_are_dropped_while_an_honest_agent_connects() {
    const CLIENTS: usize = 1000;
    let (site, endpoint) = site();
    let before = peak_kib(&site);
    let address = endpoint.address();
    let started = Instant::now();
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        // Half of them send nothing at all.
        if number % 2 == 0 {
            client.write_all(b"GET /agent HTTP/1.1\r\nHost: ").unwrap();
        }
    }
    let asked = Instant::now();
    block_on(Connection::handshake(&endpoint, hello("honest", 0, Vec::new()))).unwrap();
    let honest = asked.elapsed();
    assert!(is_open(clients.last().unwrap()), "the honest agent had to wait for the others: {honest:?}");
    let mut dropped = Vec::new();
    for mut client in clients {
        let left = PATIENCE.saturating_sub(started.elapsed());
        client.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        let mut answer = Vec::new();
        let ended = client.read_to_end(&mut answer);
        let timed_out = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "a client was not dropped");
        dropped.push(started.elapsed());
    }
    let last = percentile(dropped, 100);
    figure(&format!(
        "{CLIENTS} half-open handshakes (fault C07): the last dropped after {}, an honest agent welcomed in {}, relay grew by {} KiB",
        ms(last),
        ms(honest),
        peak_kib(&site) - before
    ));
}

#[test]
fn c08_a_head_of_20_mb_is_refused_at_64_kib() {
    let (site, endpoint) = site();
    let before = peak_kib(&site);
    let mut stream = TcpStream::connect(endpoint.address()).unwrap();
    stream.write_all(b"GET /agent HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ").unwrap();
    let piece = [b'x'; 16 * 1024];
    let mut sent = 0;
    while sent < 20_000_000 && stream.write_all(&piece).is_ok() {
        sent += piece.len();
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or("closed").to_owned();
    let grown = peak_kib(&site) - before;
    figure(&format!("HTTP head of 20 MB (fault C08): \"{line}\", relay grew by {grown} KiB"));
    assert!(sent < 20_000_000 && grown < 2 * 1024, "{sent} bytes, {grown} KiB");
    assert!(line == "closed" || line.contains("431"), "{answer}");
}
