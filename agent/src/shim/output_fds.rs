//! Stdout and stderr of a command, passed into a sandbox over a socket. So the sandbox's own programs never hold these
//! pipes, and the pipes end when the command's processes close them, as without a sandbox.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Stdout and stderr of a command that has not been started yet.
#[derive(Debug)]
pub(super) struct OutputFds {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl OutputFds {
    /// Takes this process's own stdout and stderr, and replaces them by `/dev/null`.
    pub(super) fn take_stdio() -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let null = File::options().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        Ok(Self { stdout, stderr })
    }

    /// Sends both descriptors.
    pub(super) fn send(&self, socket: &UnixStream) -> io::Result<()> {
        let descriptors = [self.stdout.as_fd(), self.stderr.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        // Descriptors can only be sent with at least one byte of data.
        sendmsg(socket, &[IoSlice::new(b"d")], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Receives both descriptors and makes them this process's own stdout and stderr.
///
/// # Errors
/// The error of a system call, or an unexpected message.
pub(super) fn receive(socket: &UnixStream) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut received: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            received.extend(descriptors);
        }
    }
    let [stdout, stderr] = received.as_slice() else {
        return Err(io::Error::other("the descriptors of the output were not received"));
    };
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    Ok(())
}
