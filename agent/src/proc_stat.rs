//! Parser of `/proc/PID/stat`, shared by the shim, which ends its descendants, and the observer, which
//! measures processes.

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::{Errno, read};

/// Field numbers of `proc_pid_stat(5)`.
mod field {
    pub(super) const PARENT: usize = 4;
    pub(super) const SESSION: usize = 6;
    pub(super) const USER_TIME: usize = 14;
    pub(super) const WAITED_SYSTEM_TIME: usize = 17;
    pub(super) const THREADS: usize = 20;
    pub(super) const START_TIME: usize = 22;
    pub(super) const RESIDENT_PAGES: usize = 24;
    pub(super) const ARGUMENTS_ADDRESS: usize = 48;
    pub(super) const EXIT_CODE: usize = 52;
}

/// Maximum length of the line in that file, in bytes: 50 numbers of 20 digits and the name.
const MAX_LINE: usize = 2048;

/// Parsed `/proc/PID/stat` of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat<'a> {
    /// Name of the program: any bytes except NUL, not always text.
    pub(crate) name: &'a [u8],
    pub(crate) state: u8,
    pub(crate) parent: u32,
    pub(crate) session: u32,
    /// Start time in clock ticks since boot. Unique together with the process id.
    pub(crate) start_ticks: u64,
    /// True if the process has ended and no thread is left. The state letter alone is not enough: a process whose first
    /// thread has ended has the same letter while other threads run.
    pub(crate) is_zombie: bool,
    /// Clock ticks used by the process and by the children that it waited for.
    pub(crate) cpu_ticks: u64,
    pub(crate) resident_pages: u64,
    /// Address of the arguments, which changes when the process executes another program. 0 if the kernel hides it.
    pub(crate) arguments_address: u64,
    /// Wait status of a zombie. 0 if the kernel hides the status.
    pub(crate) wait_status: i32,
}

pub(crate) fn parse(line: &[u8]) -> Option<ProcessStat<'_>> {
    let name_begin = line.iter().position(|byte| *byte == b'(')? + 1;
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let name = line.get(name_begin..name_end)?;
    let rest = std::str::from_utf8(line.get(name_end + 1..)?).ok()?;
    let mut words = rest.split_ascii_whitespace();
    let state = *words.next()?.as_bytes().first()?;
    let mut fields = [0_u64; field::EXIT_CODE + 1];
    let mut field_count = field::PARENT;
    for (slot, word) in fields.iter_mut().skip(field::PARENT).zip(words) {
        // Some fields can be negative, but not those used here.
        *slot = word.parse().unwrap_or(0);
        field_count += 1;
    }
    if field_count <= field::RESIDENT_PAGES {
        return None;
    }
    let field_u32 = |number: usize| u32::try_from(fields[number]).unwrap_or(0);
    Some(ProcessStat {
        name,
        state,
        parent: field_u32(field::PARENT),
        session: field_u32(field::SESSION),
        start_ticks: fields[field::START_TIME],
        is_zombie: matches!(state, b'Z' | b'X') && fields[field::THREADS] <= 1,
        cpu_ticks: fields[field::USER_TIME..=field::WAITED_SYSTEM_TIME].iter().sum(),
        resident_pages: fields[field::RESIDENT_PAGES],
        arguments_address: fields[field::ARGUMENTS_ADDRESS],
        wait_status: i32::try_from(fields[field::EXIT_CODE]).unwrap_or(0),
    })
}

/// Reader of `/proc`. It reuses its buffers.
#[derive(Debug)]
pub(crate) struct ProcFs {
    directory: OwnedFd,
    path: String,
    buffer: Vec<u8>,
}

impl ProcFs {
    /// Opens `/proc`.
    pub(crate) fn open() -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, "/proc", flags, Mode::empty())?;
        Ok(Self { directory, path: String::new(), buffer: Vec::new() })
    }

    /// Returns the id of every visible process, and the inode of its folder, which changes when the id is reused.
    pub(crate) fn process_ids(&self) -> impl Iterator<Item = (u32, u64)> + use<> {
        let entries = Dir::read_from(&self.directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.file_name().to_str().ok()?.parse().ok()?, entry.ino())))
    }

    /// Reads and parses the `stat` of a process; returns `None` if the process is gone.
    pub(crate) fn stat(&mut self, pid: u32) -> Option<ProcessStat<'_>> {
        self.read(pid, "stat", MAX_LINE).and_then(parse)
    }

    /// Reads at most `limit` bytes of one file of a process; returns `None` if it can't be read. One system call is
    /// enough for these files.
    pub(crate) fn read(&mut self, pid: u32, file: &str, limit: usize) -> Option<&[u8]> {
        let fd = self.open_file(pid, file, OFlags::RDONLY)?;
        self.buffer.resize(limit, 0);
        let length = read(&fd, &mut self.buffer[..]).ok()?;
        self.buffer.get(..length)
    }

    /// Opens one file or folder of a process.
    pub(crate) fn open_file(&mut self, pid: u32, file: &str, flags: OFlags) -> Option<OwnedFd> {
        self.path.clear();
        // Writing to a string can't fail.
        let _ = write!(self.path, "{pid}/{file}");
        openat(self.folder(), &self.path, flags | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    fn folder(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_blanks_and_line_breaks_does_not_shift_the_fields() {
        let line =
            b"42 (a) R\n1 (\xff) Z 7 1 6 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 9000 1 2 18446744073709551615";
        let stat = ProcessStat {
            name: b"a) R\n1 (\xff",
            state: b'Z',
            parent: 7,
            session: 6,
            start_ticks: 9000,
            is_zombie: true,
            cpu_ticks: 10,
            resident_pages: 2,
            arguments_address: 0,
            wait_status: 0,
        };
        assert_eq!(parse(line), Some(stat));
    }

    #[test]
    fn a_truncated_line_is_refused() {
        for line in ["", "42", "42 (a", "42 )a(", "42 (a)", "42 (a) R", "42 (a) R 1 2 3"] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_process_whose_first_thread_ended_is_no_zombie() {
        let line = b"42 (a) Z 7 1 6 0 -1 0 0 0 0 0 1 2 3 4 20 0 5 0 9000 1 2 3";
        assert_eq!(parse(line).map(|stat| stat.is_zombie), Some(false));
    }

    #[test]
    fn this_process_is_found_with_its_parent() {
        let me = std::process::id();
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned());
        let mut proc = ProcFs::open().unwrap();
        assert_eq!(proc.stat(me).map(|stat| (stat.parent, stat.is_zombie)), Some((parent, false)));
        assert!(proc.process_ids().any(|(pid, _)| pid == me));
        assert_eq!(proc.stat(u32::MAX), None);
    }
}
