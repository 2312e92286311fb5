//! Start of the command by the shim.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::protocol::Command;
use super::tree::Leader;

/// Starts `command` with the shim's stdout and stderr, and closes them in the shim. After that, the end of these pipes
/// means that no process of the command holds them.
///
/// # Errors
/// The reason why the command did not start: its working directory, program or permissions.
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
        .stdin(stdin_with_text(&command.stdin)?)
        .process_group(0);
    if let Some(ids) = command.user {
        // These calls also drop root's supplementary groups.
        builder.gid(ids.gid).uid(ids.uid);
    }
    let child = builder.spawn()?;
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the command has no process id"))?;
    // Only this thread reaps the child, so its id can't have been reused.
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(Leader { pid, pidfd })
}

/// Returns a stdin that contains `text` and then ends, so that no program waits for more input.
fn stdin_with_text(text: &str) -> io::Result<Stdio> {
    if text.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}
