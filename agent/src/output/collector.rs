//! Collector of a job's output: writes the regular files below its working folder to stdout, as a tar archive, and a
//! report to stderr. It runs like a command of the job: as the worker's user or in the sandbox.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::text_format::one_line;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use serde::{Deserialize, Serialize};

/// Maximum number of files that are kept.
const MAX_FILES: u32 = 1000;
/// Maximum length of all files together, in bytes.
const MAX_TOTAL_BYTES: u64 = 256 << 20;
/// Maximum number of files and folders whose names are read.
const MAX_ENTRY_COUNT: u32 = 100_000;
/// Maximum depth of folders, so that recursion needs few descriptors.
const MAX_DEPTH: u32 = 32;
/// Maximum number of skipped entries that the report names.
const MAX_NAMED: usize = 5;
/// Maximum length of a name in the report, in bytes.
const MAX_NAME: usize = 80;

/// Summary of the entries that the archive contains and of those that it omits.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) files: u32,
    pub(crate) bytes: u64,
    /// Number of entries that were not kept.
    pub(crate) skipped: u32,
    /// Some of the skipped entries, with the reasons.
    pub(crate) named: Vec<String>,
}

/// Runs the collector in the current folder.
///
/// # Errors
/// One line with the reason.
pub(crate) fn run() -> Result<(), String> {
    let stdout = io::BufWriter::new(io::stdout().lock());
    let report = collect(Path::new("."), stdout).map_err(|error| error.to_string())?;
    let report = serde_json::to_string(&report).map_err(|error| error.to_string())?;
    writeln!(io::stderr(), "{report}").map_err(|error| error.to_string())
}

fn collect(folder: &Path, output: impl Write) -> io::Result<Report> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = openat(CWD, folder, flags, Mode::empty())?;
    let mut collector =
        Collector { archive: tar::Builder::new(output), entry_count: 0, report: Report::default() };
    collector.walk(&top, Path::new(""), 0)?;
    collector.archive.into_inner()?.flush()?;
    Ok(collector.report)
}

struct Collector<W: Write> {
    archive: tar::Builder<W>,
    entry_count: u32,
    report: Report,
}

impl<W: Write> Collector<W> {
    /// Adds the files of a folder. Only an error of the archive ends the walk.
    fn walk(&mut self, folder: &OwnedFd, prefix: &Path, depth: u32) -> io::Result<()> {
        let names = match self.read_names(folder) {
            Ok(names) => names,
            Err(error) => {
                self.skip(prefix, &error.to_string());
                return Ok(());
            }
        };
        for name in names {
            let path = prefix.join(OsStr::from_bytes(name.to_bytes()));
            let kind = statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map(|stat| FileType::from_raw_mode(stat.st_mode));
            match kind {
                Ok(FileType::RegularFile) => self.add(folder, &name, &path)?,
                Ok(FileType::Directory) if depth < MAX_DEPTH => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    match openat(folder, &name, flags, Mode::empty()) {
                        Ok(inner) => self.walk(&inner, &path, depth + 1)?,
                        Err(error) => self.skip(&path, &format!("can't be opened: {error}")),
                    }
                }
                Ok(FileType::Directory) => {
                    self.skip(&path, &format!("is more than {MAX_DEPTH} folders deep"));
                }
                Ok(FileType::Symlink) => self.skip(&path, "is a symbolic link"),
                Ok(_) => self.skip(&path, "is no regular file"),
                Err(error) => self.skip(&path, &format!("can't be read: {error}")),
            }
        }
        Ok(())
    }

    /// Returns the sorted names in a folder. Fails if too many names have been read.
    fn read_names(&mut self, folder: impl AsFd) -> io::Result<Vec<CString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.entry_count >= MAX_ENTRY_COUNT {
                return Err(io::Error::other(format!("there are more than {MAX_ENTRY_COUNT} entries")));
            }
            self.entry_count += 1;
            names.push(name.to_owned());
        }
        names.sort();
        Ok(names)
    }

    fn add(&mut self, folder: &OwnedFd, name: &CStr, path: &Path) -> io::Result<()> {
        // The entry may have become something else since its type was read.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = openat(folder, name, flags, Mode::empty()).and_then(|fd| Ok((fstat(&fd)?, fd)));
        let (stat, fd) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.skip(path, &format!("can't be read: {error}"));
                return Ok(());
            }
        };
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.skip(path, "is no regular file");
        } else if self.report.files >= MAX_FILES {
            self.skip(path, &format!("is one too many: {MAX_FILES} are kept"));
        } else if size > MAX_TOTAL_BYTES - self.report.bytes {
            self.skip(path, &format!("is too large: {} MiB are kept", MAX_TOTAL_BYTES >> 20));
        } else {
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(if stat.st_mode & 0o100 == 0 { 0o644 } else { 0o755 });
            header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
            // Zeros fill up a file that has become shorter, so that the following entries are not shifted.
            let content = File::from(fd).chain(io::repeat(0)).take(size);
            self.archive.append_data(&mut header, path, content)?;
            self.report.files += 1;
            self.report.bytes += size;
        }
        Ok(())
    }

    fn skip(&mut self, path: &Path, reason: &str) {
        self.report.skipped += 1;
        if self.report.named.len() < MAX_NAMED {
            let shown = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
            self.report.named.push(format!("{} {reason}", one_line(&shown.to_string_lossy(), MAX_NAME)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns the names and contents in an archive.
    fn content(archive: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let read = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path_bytes().into_owned(), bytes)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn regular_files_are_kept_whatever_their_names_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let (top, secret) = (dir.path().join("top"), dir.path().join("secret"));
        fs::create_dir_all(top.join("sub/.git")).unwrap();
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("key"), "secret").unwrap();
        fs::write(top.join("a"), "one").unwrap();
        fs::write(top.join("sub/.git/config"), "two").unwrap();
        let odd_name = OsStr::from_bytes(b"-odd \n\xff\x1b[31m");
        fs::write(top.join(odd_name), "three").unwrap();
        let long = "x".repeat(200);
        fs::write(top.join(&long), "four").unwrap();
        symlink(&secret, top.join("link")).unwrap();
        symlink(secret.join("key"), top.join("key")).unwrap();
        rustix::fs::mkfifoat(CWD, top.join("pipe"), 0o600.into()).unwrap();
        File::create(top.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let mut archive = Vec::new();
        let report = collect(&top, &mut archive).unwrap();
        let expected = [
            (odd_name.as_bytes().to_vec(), b"three".to_vec()),
            (b"a".to_vec(), b"one".to_vec()),
            (b"sub/.git/config".to_vec(), b"two".to_vec()),
            (long.into_bytes(), b"four".to_vec()),
        ];
        assert_eq!(content(&archive), expected);
        assert_eq!((report.files, report.bytes, report.skipped), (4, 15, 4));
        let named = "key is a symbolic link|link is a symbolic link|pipe is no regular file|sparse is too large: 256 \
                     MiB are kept";
        assert_eq!(report.named.join("|"), named);
    }

    #[test]
    fn files_beyond_the_maximum_number_and_too_deep_folders_count_as_skipped() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..=MAX_FILES {
            fs::write(dir.path().join(format!("{n:05}")), "").unwrap();
        }
        let deep = dir.path().join("d/".repeat(40));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "").unwrap();
        let report = collect(dir.path(), io::sink()).unwrap();
        assert_eq!((report.files, report.skipped), (MAX_FILES, 2), "{:?}", report.named);
    }
}
