//! Starts the command.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::protocol::Command;
use super::tree::Leader;

/// Starts `command` with our stdout and stderr as its own, and closes ours: from then on the end of those pipes means
/// that nobody in the command's tree holds them any more.
///
/// # Errors
/// Whatever kept it from starting; `cwd`, program and rights are all possible.
pub(super) fn spawn(command: &Command) -> io::Result<Leader> {
    let [program, arguments @ ..] = command.argv.as_slice() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program"));
    };
    let mut builder = std::process::Command::new(program);
    builder
        .args(arguments)
        .env_clear()
        .envs(&command.env)
        .current_dir(&command.cwd)
        .stdin(stdin(&command.stdin)?)
        .process_group(0);
    if let Some(ids) = command.user {
        // Also drops root's supplementary groups.
        builder.gid(ids.gid).uid(ids.uid);
    }
    let child = builder.spawn()?;
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the command has no process id"))?;
    // Nobody but this thread reaps the child, so its number can't have been given away.
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(Leader { pid, pidfd })
}

/// All of stdin is there from the start and ends: a program that waits for more would wait for ever.
fn stdin(text: &str) -> io::Result<Stdio> {
    if text.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}
