//! Reader of an archive with a job's output: lists the files, or reads one of them. Nothing is unpacked.

use std::io::{self, Read, Seek, SeekFrom, Write};

use tar::{Archive, Entry, EntryType};

/// Maximum number of files that are listed. An agent sends fewer.
const MAX_FILES: usize = 10_000;
/// Length of a block of an archive: a header, or a part of a file.
const BLOCK_BYTES: u64 = 512;
/// Number of zero blocks at the end of a complete archive.
const END_BLOCKS: u64 = 2;

/// File of a job's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// Path relative to the output folder: bytes that the worker chose.
    pub name: Vec<u8>,
    /// Length in bytes.
    pub size: u64,
}

/// Returns the files of an archive, in the order of the archive.
///
/// # Errors
/// Returns an error if the archive can't be read.
pub fn list_files(archive: impl Read + Seek) -> io::Result<Vec<OutputFile>> {
    let mut files = Vec::new();
    for entry in Archive::new(archive).entries_with_seek()? {
        let entry = entry?;
        if is_file(&entry) && files.len() < MAX_FILES {
            files.push(OutputFile { name: entry.path_bytes().into_owned(), size: entry.size() });
        }
    }
    Ok(files)
}

/// Returns true if an archive has all of its last file, and its end mark. Without this check an archive that was cut off
/// in a file of zeros would look complete.
///
/// # Errors
/// Returns an error if the archive can't be read.
pub fn is_complete(mut archive: impl Read + Seek) -> io::Result<bool> {
    let end = {
        let mut reader = Archive::new(&mut archive);
        let mut end = 0;
        // Raw entries: the names of an untrusted archive are not read into memory.
        for entry in reader.entries_with_seek()?.raw(true) {
            let entry = entry?;
            let content = entry.size().div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
            end = entry.raw_file_position().saturating_add(content);
        }
        end
    };
    if archive.seek(SeekFrom::End(0))? != end.saturating_add(END_BLOCKS * BLOCK_BYTES) {
        return Ok(false);
    }
    archive.seek(SeekFrom::Start(end))?;
    let mut mark = Vec::new();
    archive.take(END_BLOCKS * BLOCK_BYTES).read_to_end(&mut mark)?;
    Ok(mark.iter().all(|byte| *byte == 0))
}

/// Writes the content of a file to `target`; returns false if there is no such file.
///
/// # Errors
/// Returns an error if the archive can't be read, or if `target` can't be written.
pub fn extract_file(archive: impl Read + Seek, name: &[u8], mut target: impl Write) -> io::Result<bool> {
    for entry in Archive::new(archive).entries_with_seek()? {
        let mut entry = entry?;
        if is_file(&entry) && *entry.path_bytes() == *name {
            io::copy(&mut entry, &mut target)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns true for a plain file. A sparse file could be longer than the archive.
fn is_file(entry: &Entry<'_, impl Read>) -> bool {
    entry.header().entry_type() == EntryType::Regular
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "link", "/etc/passwd").unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn files_are_listed_and_written_and_links_are_not() {
        let long_name = "x/".repeat(100) + "y";
        let bytes = archive(&[("a", "one"), (&long_name, "two")]);
        let listed = list_files(Cursor::new(&bytes)).unwrap();
        let file = |name: &str| OutputFile { name: name.as_bytes().to_vec(), size: 3 };
        assert_eq!(listed, [file("a"), file(&long_name)]);
        let mut out = Vec::new();
        assert!(extract_file(Cursor::new(&bytes), long_name.as_bytes(), &mut out).unwrap());
        assert_eq!(out, b"two");
        assert!(!extract_file(Cursor::new(&bytes), b"link", &mut out).unwrap());
        assert!(!extract_file(Cursor::new(&bytes), b"/a", &mut out).unwrap());
    }

    #[test]
    fn an_archive_that_was_cut_off_anywhere_is_not_complete() {
        let zeros = "\0".repeat(5000);
        let long_name = "x/".repeat(100) + "y";
        for files in [vec![], vec![("a", "one"), (&long_name, "two")], vec![("zeros", &zeros)]] {
            let bytes = archive(&files);
            assert!(is_complete(Cursor::new(&bytes)).unwrap());
            for len in 0..bytes.len() {
                assert!(!is_complete(Cursor::new(&bytes[..len])).unwrap_or(false), "{files:?}: {len} bytes");
            }
        }
    }

    #[test]
    fn a_damaged_archive_is_an_error_and_never_a_panic() {
        let bytes = archive(&[("a", "one"), ("b", "two")]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            if let Ok(files) = list_files(Cursor::new(&damaged)) {
                assert!(files.len() <= 3);
            }
            let _ = extract_file(Cursor::new(&damaged), b"b", io::sink());
            let _ = is_complete(Cursor::new(&damaged));
        }
    }
}
