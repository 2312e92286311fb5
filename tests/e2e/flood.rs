//! Hostile and broken clients on the relay's port, and the cost of handling them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::wire::{DEAD_AFTER, HELLO_TIMEOUT};
use relay_tests::harness::figures::{figure, ms, percentile};
use relay_tests::harness::{Engine, Site};
use relay_tests::simulated_agent::link::hello;
use relay_tests::simulated_agent::raw::{BINARY, CONTINUATION, Raw};
use relay_tests::simulated_agent::{Door, Link, block_on};

/// Time that a loaded machine may add to a deadline.
const LATE: Duration = Duration::from_secs(2);
const MIB: usize = 1024 * 1024;

fn site() -> (Site, Door) {
    let site = Site::up(Engine::Local);
    let door = Door::of(&site);
    (site, door)
}

/// Peak resident memory of the relay, in KiB.
fn peak(site: &Site) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.daemon_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn c04_a_message_of_64_mib_is_closed_with_1009() {
    let (site, door) = site();
    let before = peak(&site);
    // Announced in one frame, and then in fragments that are each within the limit.
    let mut announced = Raw::upgraded(&door);
    announced.hello(hello("big", 0, Vec::new())).unwrap();
    let _ = announced.frame(true, BINARY, 64 * MIB as u64, &vec![0; MIB]);
    let (one, _) = announced.closed(LATE);
    let mut pieces = Raw::upgraded(&door);
    pieces.hello(hello("pieces", 0, Vec::new())).unwrap();
    let piece = vec![0; MIB / 2];
    let mut sent = 0;
    while sent < 64 * MIB {
        let opcode = if sent == 0 { BINARY } else { CONTINUATION };
        if pieces.frame(false, opcode, piece.len() as u64, &piece).is_err() {
            break;
        }
        sent += piece.len();
    }
    let (many, _) = pieces.closed(LATE);
    let grown = peak(&site) - before;
    figure(&format!(
        "C04: 64 MiB in one frame: closed {one:?}; in fragments: closed {many:?} after {} MiB; relay grew by {} KiB",
        sent / MIB,
        grown
    ));
    assert_eq!((one, many), (Some(1009), Some(1009)));
    assert!(sent < 64 * MIB && grown < 8 * 1024, "{sent} bytes, {grown} KiB");
}

#[test]
fn c05_endless_fragments_are_closed_by_a_deadline() {
    let (_site, door) = site();
    let drip = |mut raw: Raw, begun: Instant| {
        let mut opcode = BINARY;
        // Includes occasional WebSocket pings, which do not prove that an agent is there.
        while raw.frame(false, opcode, 0, &[]).is_ok() && raw.frame(true, 9, 0, &[]).is_ok() {
            opcode = CONTINUATION;
            thread::park_timeout(Duration::from_millis(50));
            assert!(begun.elapsed() < DEAD_AFTER + LATE * 2, "nobody closed it");
        }
        begun.elapsed()
    };
    let (strange, known) = thread::scope(|scope| {
        let strange = scope.spawn(|| drip(Raw::upgraded(&door), Instant::now()));
        let known = scope.spawn(|| {
            let mut raw = Raw::upgraded(&door);
            raw.hello(hello("drip", 0, Vec::new())).unwrap();
            drip(raw, Instant::now())
        });
        (strange.join().unwrap(), known.join().unwrap())
    });
    figure(&format!(
        "C05: endless fragments: closed after {} before a hello, {} after it",
        ms(strange),
        ms(known)
    ));
    assert!(strange < HELLO_TIMEOUT + LATE && known < DEAD_AFTER + LATE, "{strange:?}, {known:?}");
}

#[test]
fn c07_a_thousand_half_open_handshakes_are_dropped_while_an_honest_agent_connects() {
    const STRANGERS: usize = 1000;
    let (site, door) = site();
    let before = peak(&site);
    let address = door.address();
    let begun = Instant::now();
    let mut strangers: Vec<TcpStream> =
        (0..STRANGERS).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (number, stranger) in strangers.iter_mut().enumerate() {
        // Half of them send nothing at all.
        if number % 2 == 0 {
            stranger.write_all(b"GET /agent HTTP/1.1\r\nHost: ").unwrap();
        }
    }
    let asked = Instant::now();
    block_on(Link::welcomed(&door, hello("honest", 0, Vec::new()))).unwrap();
    let honest = asked.elapsed();
    let mut dropped = Vec::new();
    for mut stranger in strangers {
        let left = Duration::from_secs(20).saturating_sub(begun.elapsed());
        stranger.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        let mut answer = Vec::new();
        let ended = stranger.read_to_end(&mut answer);
        let timed_out = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "a stranger was not dropped");
        dropped.push(begun.elapsed());
    }
    let last = percentile(dropped, 100);
    figure(&format!(
        "C07: {STRANGERS} half-open handshakes: the last dropped after {}, an honest agent welcomed in {}, relay grew by {} KiB",
        ms(last),
        ms(honest),
        peak(&site) - before
    ));
    assert!(last < Duration::from_secs(5) + LATE && honest < LATE, "{last:?}, {honest:?}");
}

#[test]
fn c08_a_head_of_20_mb_is_refused_at_64_kib() {
    let (site, door) = site();
    let before = peak(&site);
    let mut stream = TcpStream::connect(door.address()).unwrap();
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
    let grown = peak(&site) - before;
    figure(&format!("C08: a head of 20 MB: \"{line}\", relay grew by {grown} KiB"));
    assert!(sent < 20_000_000 && grown < 2 * 1024, "{sent} bytes, {grown} KiB");
    assert!(line == "closed" || line.contains("431"), "{answer}");
}
