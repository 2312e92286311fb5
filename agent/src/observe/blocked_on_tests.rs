use std::net::TcpListener;
use std::process::Command;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

use super::super::test_support::{TestProcess, wait_until};
use super::*;

fn curl(port: u16) -> TestProcess {
    TestProcess::new(Command::new("curl").args([
        "-s",
        "--noproxy",
        "*",
        &format!("http://127.0.0.1:{port}/"),
    ]))
}

#[test]
fn a_client_of_a_server_that_never_answers_waits_on_its_address() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let running = curl(port);
    let (_silent, _) = server.accept().unwrap();
    let wanted = format!("waiting on TCP 127.0.0.1:{port} ESTABLISHED");
    wait_until(&wanted, || blocked_on(running.pid()).filter(|words| *words == wanted));
}

#[test]
fn a_client_of_a_server_that_never_accepts_waits_for_the_connection() {
    let server = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&server, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&server, 0).unwrap();
    let port = SocketAddr::try_from(getsockname(&server).unwrap()).unwrap().port();
    // The kernel accepts one or two connections for the server; the others get no answer.
    let running: Vec<_> = (0..4).map(|_| curl(port)).collect();
    let wanted = format!("waiting on TCP 127.0.0.1:{port} SYN_SENT");
    wait_until(&wanted, || {
        running.iter().find(|running| blocked_on(running.pid()).as_ref() == Some(&wanted))
    });
}

#[test]
fn without_a_connection_the_function_of_the_kernel_is_described() {
    let sleep = TestProcess::new(Command::new("sleep").arg("3009"));
    wait_until("sleep", || blocked_on(sleep.pid()).filter(|words| words == "sleeping in hrtimer_nanosleep"));
    let shell = TestProcess::shell("read x");
    wait_until("pipe", || {
        blocked_on(shell.pid()).filter(|words| words.contains("waiting in ") && words.contains("pipe_read"))
    });
    let busy = TestProcess::shell("while :; do :; done");
    wait_until("busy", || blocked_on(busy.pid()).filter(|words| words == "running"));
    let stopped = TestProcess::shell("kill -STOP $$; read x");
    wait_until("stopped", || blocked_on(stopped.pid()).filter(|words| words == "stopped by a signal"));
    assert_eq!(blocked_on(u32::MAX), None);
}

#[test]
fn rows_of_both_families_are_parsed_unless_they_have_no_peer() {
    let v4 =
        "  1: 020200C0:E76A 01FFFF0A:0050 02 00000000:00000000 03:00000E62 00000000     0        0 77 3 0";
    let v6 = "  0: 00000000000000000000000001000000:E76A 00000000000000000000000001000000:01BB 01 00000000:00000000 00:00000000 00000000 0 0 78 1 0";
    let mapped = "  0: 0000000000000000FFFF00000100007F:E76A 0000000000000000FFFF00000100007F:01BB 01 00000000:00000000 00:00000000 00000000 0 0 79 1 0";
    let listening = "  0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1681 1 0";
    let connection = |to: &str, state| Connection { protocol: "TCP", peer: to.parse().unwrap(), state };
    assert_eq!(parse_row(v4, "TCP"), Some((77, connection("10.255.255.1:80", "SYN_SENT"))));
    assert_eq!(parse_row(v6, "TCP"), Some((78, connection("[::1]:443", "ESTABLISHED"))));
    assert_eq!(parse_row(mapped, "TCP"), Some((79, connection("127.0.0.1:443", "ESTABLISHED"))));
    assert_eq!(parse_row(listening, "TCP"), None);
    assert_eq!(parse_row("  sl  local_address rem_address   st tx_queue", "TCP"), None);
    assert_eq!(
        (parse_address("é000000:0050"), parse_address("01FFFF0A"), parse_address("01:0050")),
        (None, None, None)
    );
}
