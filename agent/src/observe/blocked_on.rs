//! Description of what a process waits for, for error messages.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::traffic::socket_inodes;
use crate::proc_stat::ProcFs;

/// Maximum number of bytes read of a table of sockets: some 25,000 lines.
const MAX_TABLE: u64 = 4 * 1024 * 1024;
/// Maximum number of bytes shown of a kernel function's name.
const MAX_FUNCTION: usize = 64;

/// A connection to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Connection {
    protocol: &'static str,
    peer: SocketAddr,
    state: &'static str,
}

/// Describes what `pid` waits for at this moment: a connection, or else a function of the kernel. Returns `None` if
/// neither can be read.
///
/// `waiting on TCP 10.0.0.1:443 ESTABLISHED`, `sleeping in hrtimer_nanosleep`, `waiting in anon_pipe_read`.
pub(super) fn blocked_on(pid: u32) -> Option<String> {
    let mut proc = ProcFs::open().ok()?;
    let stat = proc.stat(pid)?;
    let (state, is_zombie) = (stat.state, stat.is_zombie);
    if is_zombie {
        return Some("has ended, but its parent does not ask for its exit code".to_owned());
    }
    if matches!(state, b'T' | b't') {
        return Some("stopped by a signal".to_owned());
    }
    describe_connection(&mut proc, pid).or_else(|| describe_kernel_wait(&mut proc, pid, state))
}

/// Describes the newest connection that is still being opened; without one, the newest connection.
fn describe_connection(proc: &mut ProcFs, pid: u32) -> Option<String> {
    let inodes = socket_inodes(proc, pid);
    if inodes.is_empty() {
        return None;
    }
    let mut connections = Vec::new();
    for (file, protocol) in [("tcp", "TCP"), ("tcp6", "TCP"), ("udp", "UDP"), ("udp6", "UDP")] {
        let mut table = String::new();
        // The table of the process itself is read, because the process may be in another network namespace.
        let read = File::open(format!("/proc/{pid}/net/{file}"))
            .and_then(|file| file.take(MAX_TABLE).read_to_string(&mut table));
        if read.is_ok() {
            connections.extend(table.lines().filter_map(|line| parse_row(line, protocol)));
        }
    }
    let rank = |inode: u64, connection: &Connection| {
        let age = inodes.iter().position(|own| *own == inode)?;
        Some((connection.state == SYN_SENT, connection.protocol == "TCP", age))
    };
    let ranked =
        connections.iter().filter_map(|(inode, connection)| Some((rank(*inode, connection)?, *connection)));
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_unstable_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    let ((_, Connection { protocol, peer, state }), others) = ranked.split_first()?;
    let more = match others.len() {
        0 => String::new(),
        1 => " and one more connection".to_owned(),
        n => format!(" and {n} more connections"),
    };
    Some(format!("waiting on {protocol} {peer} {state}{more}"))
}

const SYN_SENT: &str = "SYN_SENT";

/// Parses a line of `/proc/net/tcp` or `tcp6`; returns the socket's inode and the connection, or `None` without a peer.
fn parse_row(line: &str, protocol: &'static str) -> Option<(u64, Connection)> {
    let mut fields = line.split_ascii_whitespace().skip(2);
    let peer = parse_address(fields.next()?)?;
    let state = match fields.next()? {
        "01" => "ESTABLISHED",
        "02" => SYN_SENT,
        _ => return None,
    };
    let inode = fields.nth(5)?.parse().ok()?;
    Some((inode, Connection { protocol, peer, state }))
}

/// Parses an address in four-byte words of native byte order, and the port after it.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn describe_kernel_wait(proc: &mut ProcFs, pid: u32, state: u8) -> Option<String> {
    let function = proc.read(pid, "wchan", MAX_FUNCTION).and_then(|name| std::str::from_utf8(name).ok());
    let function = function.map(str::trim).filter(|name| !name.is_empty() && *name != "0");
    match (state, function) {
        (b'R', _) => Some("running".to_owned()),
        (b'D', Some(name)) => Some(format!("waiting in {name}, which can't be interrupted")),
        (_, Some(name)) if name.contains("nanosleep") => Some(format!("sleeping in {name}")),
        (_, Some(name)) => Some(format!("waiting in {name}")),
        (_, None) => None,
    }
}

#[cfg(test)]
#[path = "blocked_on_tests.rs"]
mod tests;
