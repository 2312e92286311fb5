//! Detection of a sandbox around this process that keeps a relay from running.
//!
//! Codex runs a model's commands in a sandbox: by default without sockets, and on Linux in a process namespace whose
//! processes all end with the command. The environment does not reveal the sandbox, because Codex sets the same
//! variables for commands outside of it.

#![expect(clippy::disallowed_methods, reason = "files of /proc")]

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names of the programs that are the first process of a sandbox's process namespace.
const FIRST_PROCESSES: [&str; 2] = ["codex-linux-sandbox", "bwrap"];

/// Sandbox in which a relay can't run, by its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Sockets are refused.
    NoSockets,
    /// Every process that is started in the sandbox ends with the command that runs there.
    ShortLived,
    /// Every process that is started in the sandbox inherits its restrictions (macOS).
    Seatbelt,
}

impl Sandbox {
    /// Returns the reason why a relay can't run in the sandbox, as a relative clause.
    fn reason(self) -> &'static str {
        match self {
            Self::NoSockets => "which refuses sockets",
            Self::ShortLived => "which ends together with this command",
            Self::Seatbelt => "whose limits it would inherit",
        }
    }

    /// Builds the message that no relay of the project at `root` is started in the sandbox, with the command that
    /// starts the relay elsewhere.
    pub fn no_relay_message(self, root: &Path) -> String {
        let (why, command) = (self.reason(), command_with_root("up", root));
        format!(
            "none can be started inside of this sandbox, {why}: run `{command}` in a terminal outside of it"
        )
    }

    /// Builds the message that `relay COMMAND` does nothing in the sandbox, with the way to run it outside.
    pub fn refusal_message(self, command: &str, root: &Path) -> String {
        let (why, outside) = (self.reason(), command_with_root(command, root));
        format!(
            "`relay {command}` has to run outside of this sandbox, {why}: run `{outside}` in a terminal outside of it, \
             or let Codex do so by the rules that `relay init` writes (as a command of its own: no cd, pipe or \
             redirection)"
        )
    }
}

/// Returns advice for making a registry writable inside a sandbox that mounts it read-only. Codex accepts only existing
/// folders.
pub fn not_writable_message(registry: &Path) -> String {
    let existing_folder = registry.ancestors().find(|dir| dir.is_dir()).unwrap_or(registry);
    let root = registry.ancestors().nth(2).unwrap_or(registry);
    let (existing_folder, root) = (existing_folder.to_string_lossy(), root.to_string_lossy());
    format!(
        "the registry {} can't be written inside of this sandbox: start Codex in {root}, or with `--sandbox \
         workspace-write --add-dir {}`",
        registry.display(),
        shell_words::quote(&existing_folder)
    )
}

/// Formats a command so that it works from any directory.
pub fn command_with_root(command: &str, root: &Path) -> String {
    format!("relay {command} --root {}", shell_words::quote(&root.to_string_lossy()))
}

/// Returns the sandbox around this process. Takes microseconds: opens one socket and reads one small file.
pub fn current_sandbox() -> Option<Sandbox> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop);
    // In the sandboxes of Flatpak, where a relay can run, bwrap is the first process, too.
    let first_cmdline =
        if Path::new("/.flatpak-info").exists() { Vec::new() } else { first_process_cmdline() };
    let is_seatbelt = std::env::var_os("CODEX_SANDBOX").is_some_and(|kind| kind == "seatbelt");
    classify_sandbox(&socket, &first_cmdline, is_seatbelt)
}

/// Returns the command line of process 1 from `/proc`; empty if it can't be read.
fn first_process_cmdline() -> Vec<u8> {
    std::fs::read("/proc/1/cmdline").unwrap_or_default()
}

fn classify_sandbox(socket: &io::Result<()>, first_cmdline: &[u8], is_seatbelt: bool) -> Option<Sandbox> {
    if socket.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied) {
        return Some(Sandbox::NoSockets);
    }
    let program = first_cmdline.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = Path::new(OsStr::from_bytes(program)).file_name();
    if name.is_some_and(|name| FIRST_PROCESSES.iter().any(|program| name == *program)) {
        return Some(Sandbox::ShortLived);
    }
    is_seatbelt.then_some(Sandbox::Seatbelt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_with_the_command_that_works() {
        let root = Path::new("/home/u/my project");
        assert_eq!(
            Sandbox::NoSockets.no_relay_message(root),
            "none can be started inside of this sandbox, which refuses sockets: run `relay up --root \
             '/home/u/my project'` in a terminal outside of it"
        );
        assert_eq!(
            Sandbox::ShortLived.refusal_message("down", Path::new("/p")),
            "`relay down` has to run outside of this sandbox, which ends together with this command: run `relay down \
             --root /p` in a terminal outside of it, or let Codex do so by the rules that `relay init` writes (as a \
             command of its own: no cd, pipe or redirection)"
        );
    }

    #[test]
    fn a_sandbox_is_recognized_by_refused_sockets_or_its_first_process() {
        let refused = || Err(io::ErrorKind::PermissionDenied.into());
        let taken = || Err(io::ErrorKind::AddrInUse.into());
        for (socket, first, is_seatbelt, expected) in [
            (Ok(()), &b"/sbin/init\0splash\0"[..], false, None),
            (Ok(()), b"", false, None),
            (Ok(()), b"/usr/bin/tini\0--\0codex-linux-sandbox\0", false, None),
            (taken(), b"systemd\0", false, None),
            (refused(), b"systemd\0", false, Some(Sandbox::NoSockets)),
            (refused(), b"codex-linux-sandbox\0", false, Some(Sandbox::NoSockets)),
            (Ok(()), b"codex-linux-sandbox\0--sandbox-policy-cwd\0", false, Some(Sandbox::ShortLived)),
            (Ok(()), b"/usr/bin/bwrap\0--unshare-pid\0", false, Some(Sandbox::ShortLived)),
            (Ok(()), b"", true, Some(Sandbox::Seatbelt)),
        ] {
            assert_eq!(
                classify_sandbox(&socket, first, is_seatbelt),
                expected,
                "{socket:?} {first:?} {is_seatbelt}"
            );
        }
    }
}
