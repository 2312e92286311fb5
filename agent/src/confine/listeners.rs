//! Listening Unix sockets of this network namespace, each with the path that it was bound to and the inode of its file.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// Timeout for the kernel's answer, which normally arrives at once.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);
/// Size of the receive buffer: the kernel never writes more into one message of a dump.
const MAX_MESSAGE: usize = 32 * 1024;
// Numbers, lengths and flags in `linux/netlink.h` and `linux/unix_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x0301;
const MESSAGE_DONE: u16 = 3;
const LISTENING_STATE: u32 = 1 << 10;
const SHOW_NAME_AND_FILE: u32 = 0b11;
const NAME_ATTRIBUTE: u16 = 0;
const FILE_ATTRIBUTE: u16 = 1;
const HEADER_LENGTH: usize = 16;
const REQUEST_LENGTH: usize = 24;
const SOCKET_LENGTH: usize = 16;
const ATTRIBUTE_HEADER_LENGTH: usize = 4;
/// Flag in `/proc/net/unix` of a socket that listens.
const LISTENING_FLAG: u32 = 0x1_0000;

/// A listening socket that is bound to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    /// Path that the socket was bound to. It may be relative, and may no longer exist.
    pub(super) path: PathBuf,
    /// Lower 32 bits of the inode of the socket's file, if the kernel reports them.
    pub(super) inode_low_bits: Option<u32>,
}

/// Returns all listening sockets. `unix_diag` reports more than `/proc/net/unix`, but some kernels lack it.
pub(super) fn listening_sockets() -> Vec<Listener> {
    dump_with_sock_diag()
        .unwrap_or_else(|_| parse_proc_net_unix(&fs::read("/proc/net/unix").unwrap_or_default()))
}

fn dump_with_sock_diag() -> rustix::io::Result<Vec<Listener>> {
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    let kernel = socket_with(family, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    set_socket_timeout(&kernel, Timeout::Recv, Some(REPLY_TIMEOUT))?;
    send(&kernel, &listener_query(), SendFlags::empty())?;
    let mut listeners = Vec::new();
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let (length, _) = recv(&kernel, &mut buffer[..], RecvFlags::empty())?;
        if !parse_messages(buffer.get(..length).unwrap_or_default(), &mut listeners)? {
            return Ok(listeners);
        }
    }
}

fn listener_query() -> Vec<u8> {
    let length = u32::try_from(HEADER_LENGTH + REQUEST_LENGTH).unwrap_or(0);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    let family = u8::try_from(AddressFamily::UNIX.as_raw()).unwrap_or(0);
    bytes.extend([family, 0, 0, 0]);
    for word in [LISTENING_STATE, 0, SHOW_NAME_AND_FILE, 0, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// Adds the sockets in one answer of the kernel to `listeners`; returns false after the last answer.
fn parse_messages(mut answer: &[u8], listeners: &mut Vec<Listener>) -> rustix::io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(answer, 0), u16_at(answer, 4)) {
        let length = length as usize;
        match kind {
            SOCK_DIAG_BY_FAMILY if length >= HEADER_LENGTH + SOCKET_LENGTH => {
                listeners.extend(parse_listener(
                    answer.get(HEADER_LENGTH + SOCKET_LENGTH..length).unwrap_or_default(),
                ));
            }
            MESSAGE_DONE => return Ok(false),
            _ => return Err(rustix::io::Errno::INVAL),
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

fn parse_listener(mut attributes: &[u8]) -> Option<Listener> {
    let (mut path, mut file) = (None, None);
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length).max(ATTRIBUTE_HEADER_LENGTH);
        let value = attributes.get(ATTRIBUTE_HEADER_LENGTH..length).unwrap_or_default();
        match kind {
            NAME_ATTRIBUTE => path = bound_path(value),
            FILE_ATTRIBUTE => file = u32_at(value, 0),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Listener { path: path?, inode_low_bits: file })
}

/// Returns the path of a socket. A path ends with a zero byte; an abstract name begins with one.
fn bound_path(name: &[u8]) -> Option<PathBuf> {
    let path = name.split(|byte| *byte == 0).next().filter(|path| !path.is_empty())?;
    Some(Path::new(OsStr::from_bytes(path)).to_owned())
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

/// Returns the listening sockets in `/proc/net/unix`. The last field of a line is the path, which may contain spaces.
fn parse_proc_net_unix(text: &[u8]) -> Vec<Listener> {
    let parse_line = |line: &[u8]| {
        let mut rest = line;
        let mut flags = None;
        for field in 0..7 {
            let end = rest.iter().position(|byte| *byte == b' ')?;
            if field == 3 {
                flags = u32::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok();
            }
            // Numbers are padded with spaces on the left.
            rest = rest[end..].trim_ascii_start();
        }
        let path = (!rest.starts_with(b"@") && flags? & LISTENING_FLAG != 0).then(|| bound_path(rest))??;
        Some(Listener { path, inode_low_bits: None })
    };
    text.split(|byte| *byte == b'\n').skip(1).filter_map(parse_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_listen_at_a_path_are_found() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 20563 /run/a b.sock\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 20564 /run/b.sock\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 20565 @abstract\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01   566 c.sock\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 20566\n";
        let found: Vec<PathBuf> =
            parse_proc_net_unix(text.as_bytes()).into_iter().map(|listener| listener.path).collect();
        assert_eq!(found, [PathBuf::from("/run/a b.sock"), PathBuf::from("c.sock")]);
    }

    #[test]
    fn the_kernel_reports_paths_and_inodes() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b\nc");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let file = u32::try_from(path.symlink_metadata().unwrap().ino() & u64::from(u32::MAX)).unwrap();
        assert!(dump_with_sock_diag().unwrap().contains(&Listener { path, inode_low_bits: Some(file) }));
    }
}
