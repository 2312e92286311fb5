//! Archives of files that a worker gets back.

use std::io;

use tar::{Archive, Builder, EntryType, Header};

/// Returns the files and folders of an archive, all of them with the same owner. The archive is from an engine, and the
/// owners in it need not be those that a container knows: podman without root reports others. Links are left out.
///
/// # Errors
/// The archive is damaged.
pub(super) fn set_owner(archive: &[u8], (uid, gid): (u32, u32)) -> io::Result<Vec<u8>> {
    let mut owned = Builder::new(Vec::new());
    for entry in Archive::new(archive).entries()? {
        let entry = entry?;
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Directory) {
            continue;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(entry.header().mode()? & 0o777);
        header.set_mtime(entry.header().mtime()?);
        header.set_size(entry.size());
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        let path = entry.path()?.into_owned();
        owned.append_data(&mut header, path, entry)?;
    }
    owned.into_inner()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn files_and_folders_get_the_owner_and_links_are_left_out() {
        let long = format!("sessions/{}/a.jsonl", "x".repeat(150));
        let mut archive = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_uid(1);
        header.set_mode(0o4755);
        header.set_size(0);
        header.set_entry_type(EntryType::Directory);
        archive.append_data(&mut header, "sessions", io::empty()).unwrap();
        header.set_entry_type(EntryType::Symlink);
        archive.append_link(&mut header, "sessions/link", "/etc").unwrap();
        header.set_entry_type(EntryType::Regular);
        header.set_size(5);
        archive.append_data(&mut header, &long, &b"hello"[..]).unwrap();
        let owned = set_owner(&archive.into_inner().unwrap(), (1001, 50)).unwrap();
        let mut found = Vec::new();
        for entry in Archive::new(&*owned).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap()),
                (1001, 50, 0o755)
            );
            let path = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((path, text));
        }
        assert_eq!(found, [("sessions".to_owned(), String::new()), (long, "hello".to_owned())]);
        assert!(set_owner(&[1; 600], (0, 0)).is_err());
    }
}
