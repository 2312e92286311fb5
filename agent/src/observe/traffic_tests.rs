use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::super::scan::Scanner;
use super::super::test_support::{TestProcess, scan_until};
use super::*;
use crate::observe::Process;

/// Returns a client that reads what the server sends and never sends anything.
fn client() -> (TestProcess, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let line = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; exec cat <&3");
    let running = TestProcess::new(Command::new("bash").args(["-c", &line]));
    (running, server.accept().unwrap().0)
}

fn is_cat(process: &Process) -> bool {
    &*process.name == "cat"
}

#[test]
fn every_byte_of_a_peer_is_counted_and_nothing_else() {
    let (running, mut server) = client();
    let (pid, mut scanner) = (running.pid(), Scanner::new(std::process::id()).unwrap());
    let before = scan_until(&mut scanner, &[pid], pid, is_cat);
    let quiet = scanner.scan(&[pid]);
    assert_eq!(
        quiet.process(pid).map(|now| (now.sent_bytes, now.received_bytes)),
        Some((before.sent_bytes, before.received_bytes))
    );
    server.write_all(b"x").unwrap();
    scan_until(&mut scanner, &[pid], pid, |now| now.received_bytes == before.received_bytes + 1);
    server.write_all(b"yz").unwrap();
    scan_until(&mut scanner, &[pid], pid, |now| now.received_bytes == before.received_bytes + 3);
    let last = scanner.scan(&[pid]);
    assert_eq!(
        last.process(pid).map(|now| (now.sent_bytes, now.received_bytes)),
        Some((before.sent_bytes, before.received_bytes + 3))
    );
}

#[test]
fn bytes_of_a_process_that_is_not_watched_are_not_counted() {
    let (running, mut server) = client();
    let (pid, mut scanner) = (running.pid(), Scanner::new(std::process::id()).unwrap());
    let before = scan_until(&mut scanner, &[], pid, |now| is_cat(now) && now.io_bytes.is_some());
    server.write_all(b"x").unwrap();
    let after = scan_until(&mut scanner, &[], pid, |now| now.io_bytes > before.io_bytes);
    assert_eq!((after.sent_bytes, after.received_bytes), (0, 0));
}

#[test]
fn counters_stay_when_a_connection_closes_and_grow_with_the_next() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let line = format!(
        "for n in 1 2; do read x; exec 3<>/dev/tcp/127.0.0.1/{port}; read -N 4 -u 3 y; read x; exec 3<&-; done; read x"
    );
    let mut running = TestProcess::new(Command::new("bash").args(["-c", &line]));
    let (pid, mut scanner) = (running.pid(), Scanner::new(std::process::id()).unwrap());
    let mut last = scan_until(&mut scanner, &[pid], pid, |process| process.argv.len() == 3).received_bytes;
    assert_eq!(last, 0);
    for _ in 0..2 {
        running.resume();
        let (mut connection, _) = server.accept().unwrap();
        connection.write_all(b"four").unwrap();
        last = scan_until(&mut scanner, &[pid], pid, |now| now.received_bytes == last + 4).received_bytes;
        running.resume();
        let mut proc = ProcFs::open().unwrap();
        super::super::test_support::wait_until("the end", || {
            socket_inodes(&mut proc, pid).is_empty().then_some(())
        });
        assert_eq!(scanner.scan(&[pid]).process(pid).map(|now| now.received_bytes), Some(last));
    }
    assert_eq!(last, 8);
}

#[test]
fn descriptors_are_listed_again_only_if_holders_may_have_changed() {
    let bytes = SocketBytes::default();
    let now = Instant::now();
    let connections = HashMap::from([(1, bytes), (2, bytes)]);
    let mut traffic = TcpTraffic::default();
    let watched = [(10, 5)];
    assert!(traffic.is_stale(now, &connections, &watched), "the first scan");
    let counted =
        ProcessTraffic { start_ticks: 5, total_bytes: bytes, bytes_by_socket: HashMap::from([(1, bytes)]) };
    traffic.processes.insert(10, counted);
    traffic.begin_listing(now, &connections, &watched);
    assert!(!traffic.is_stale(now, &connections, &watched));
    assert!(!traffic.is_stale(now, &HashMap::from([(1, bytes)]), &watched), "one connection less");
    assert!(traffic.is_stale(now, &HashMap::from([(3, bytes)]), &watched), "a new connection");
    assert!(traffic.is_stale(now, &connections, &[(10, 6)]), "the holder of a connection is gone");
    assert!(traffic.is_stale(now + RELIST_INTERVAL, &connections, &watched), "the interval has passed");
    traffic.begin_listing(now, &connections, &[(11, 1)]);
    assert!(
        !traffic.is_stale(now, &connections, &[(11, 1)]),
        "a process that is not watched is not searched for"
    );
}
