//! Reader of the kernel's byte counters of each TCP socket in this network namespace: a netlink dump (`sock_diag(7)`).

use std::collections::HashMap;
use std::time::Duration;

use rustix::io::Result;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// Timeout for the kernel's answer, which normally arrives at once.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);
/// Size of the receive buffer: the kernel never writes more into one message of a dump.
const MAX_MESSAGE: usize = 32 * 1024;
/// Maximum number of sockets that are kept: far more than the build tools of one machine open.
const MAX_SOCKETS: usize = 65_536;

#[cfg(test)]
const MESSAGE_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x0301;
const INET_DIAG_INFO: u16 = 2;
const TCP_PROTOCOL: u8 = 6;
/// `ESTABLISHED`, `SYN_SENT`, `FIN_WAIT1`, `FIN_WAIT2`, `CLOSE_WAIT`: the states of sockets that have counters and may
/// be held by a process.
const SOCKET_STATES: u32 = (1 << 1) | (1 << 2) | (1 << 4) | (1 << 5) | (1 << 8);

// Lengths and offsets in `linux/netlink.h`, `linux/inet_diag.h` and `linux/tcp.h`.
const HEADER_LENGTH: usize = 16;
const DIAG_MESSAGE_LENGTH: usize = 72;
const INODE_OFFSET: usize = 68;
const ATTRIBUTE_HEADER_LENGTH: usize = 4;
const BYTES_ACKED_OFFSET: usize = 120;
const BYTES_RECEIVED_OFFSET: usize = 128;

/// Payload bytes of a socket since it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SocketBytes {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// Returns the counters of every connection, by socket inode; `None` if the kernel does not report them.
pub(super) fn tcp_bytes() -> Option<HashMap<u64, SocketBytes>> {
    let mut counters = HashMap::new();
    let families = [AddressFamily::INET, AddressFamily::INET6];
    let results = families.map(|family| dump_sockets(family, &mut counters).is_ok());
    results.contains(&true).then_some(counters)
}

fn dump_sockets(family: AddressFamily, counters: &mut HashMap<u64, SocketBytes>) -> Result<()> {
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    set_socket_timeout(&kernel, Timeout::Recv, Some(REPLY_TIMEOUT))?;
    // A netlink socket that is not connected sends to the kernel.
    send(&kernel, &dump_request(family), SendFlags::empty())?;
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let (length, _) = recv(&kernel, &mut buffer[..], RecvFlags::empty())?;
        let has_more = parse_messages(buffer.get(..length).unwrap_or_default(), counters);
        if !has_more || counters.len() > MAX_SOCKETS {
            return Ok(());
        }
    }
}

fn dump_request(family: AddressFamily) -> Vec<u8> {
    const LENGTH: usize = HEADER_LENGTH + 56;
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend(u32::try_from(LENGTH).unwrap_or(0).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    // Sequence and port: there is one request, and the kernel sends its answer to this socket.
    bytes.extend([0; 8]);
    bytes.extend([u8::try_from(family.as_raw()).unwrap_or(0), TCP_PROTOCOL, 1 << (INET_DIAG_INFO - 1), 0]);
    bytes.extend(SOCKET_STATES.to_ne_bytes());
    // The rest is zero, which means any address.
    bytes.resize(LENGTH, 0);
    bytes
}

/// Adds the sockets in the messages of one read to `counters`. Returns true if the kernel will send more.
fn parse_messages(mut messages: &[u8], counters: &mut HashMap<u64, SocketBytes>) -> bool {
    while let (Some(length), Some(kind)) = (u32_at(messages, 0), u16_at(messages, 4)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if kind != SOCK_DIAG_BY_FAMILY || length < HEADER_LENGTH || length > messages.len() {
            // The end, or an error; both are the last message.
            return false;
        }
        if let Some((inode, bytes)) = parse_socket(&messages[HEADER_LENGTH..length]) {
            counters.insert(inode, bytes);
        }
        messages = messages.get(aligned(length)..).unwrap_or_default();
    }
    true
}

/// Parses one socket; returns `None` if no process holds the socket.
fn parse_socket(message: &[u8]) -> Option<(u64, SocketBytes)> {
    let inode = u32_at(message, INODE_OFFSET).filter(|inode| *inode != 0)?;
    let mut attributes = message.get(DIAG_MESSAGE_LENGTH..)?;
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)?;
        if kind == INET_DIAG_INFO {
            let info = attributes.get(ATTRIBUTE_HEADER_LENGTH..length)?;
            let bytes = SocketBytes {
                sent: u64_at(info, BYTES_ACKED_OFFSET)?,
                received: u64_at(info, BYTES_RECEIVED_OFFSET)?,
            };
            return Some((u64::from(inode), bytes));
        }
        // An attribute without a length would loop for ever.
        attributes = attributes.get(aligned(length.max(ATTRIBUTE_HEADER_LENGTH))..)?;
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u64::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, inode: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0; INODE_OFFSET];
        body.extend(inode.to_ne_bytes());
        for (kind, value) in attributes {
            body.extend(u16::try_from(ATTRIBUTE_HEADER_LENGTH + value.len()).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(aligned(body.len()), 0);
        }
        let mut bytes = u32::try_from(HEADER_LENGTH + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER_LENGTH, 0);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn sockets_are_parsed_up_to_the_end_of_a_dump() {
        let mut info = vec![0; BYTES_ACKED_OFFSET];
        info.extend([7_u64.to_ne_bytes(), 9_u64.to_ne_bytes()].concat());
        let mut dump = message(SOCK_DIAG_BY_FAMILY, 42, &[(1, b"odd"), (INET_DIAG_INFO, &info)]);
        dump.extend(message(SOCK_DIAG_BY_FAMILY, 0, &[(INET_DIAG_INFO, &info)]));
        dump.extend(message(SOCK_DIAG_BY_FAMILY, 43, &[(INET_DIAG_INFO, b"too short")]));
        let mut found = HashMap::new();
        assert!(parse_messages(&dump, &mut found));
        assert_eq!(found, HashMap::from([(42, SocketBytes { sent: 7, received: 9 })]));
        assert!(!parse_messages(&message(MESSAGE_DONE, 1, &[]), &mut found));
    }

    #[test]
    fn truncated_messages_and_attributes_without_length_are_ignored() {
        let mut info = vec![0; BYTES_RECEIVED_OFFSET + 8];
        info[BYTES_ACKED_OFFSET] = 1;
        let complete = message(SOCK_DIAG_BY_FAMILY, 42, &[(0, b""), (INET_DIAG_INFO, &info)]);
        for end in 0..complete.len() {
            let mut found = HashMap::new();
            parse_messages(&complete[..end], &mut found);
            assert_eq!(found.len(), 0, "{end}");
        }
        let mut endless = complete;
        endless[HEADER_LENGTH + DIAG_MESSAGE_LENGTH] = 0;
        assert!(parse_messages(&endless, &mut HashMap::new()));
    }
}
