//! File systems of their own for sites, which need root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Site;

/// A site of which a folder is a file system of its own. The mounts go behind the site.
#[derive(Debug)]
pub struct Mounted {
    /// The site.
    pub site: Site,
    _mounts: Mounts,
}

/// Taken down in the order opposite to that in which they were made.
#[derive(Debug)]
struct Mounts {
    root: PathBuf,
    paths: Vec<PathBuf>,
}

impl Mounted {
    /// Gives the registry of a site a memory of this size (as `mount` takes it). Its agent's spool lies elsewhere.
    ///
    /// # Panics
    /// When they can't be mounted.
    pub fn tmpfs(site: Site, room: &str) -> Self {
        Self::with_options(site, &format!("size={room}"))
    }

    /// The same with room for this many files.
    ///
    /// # Panics
    /// When they can't be mounted.
    pub fn few_files(site: Site, files: u32) -> Self {
        Self::with_options(site, &format!("size=64m,nr_inodes={files}"))
    }

    fn with_options(site: Site, options: &str) -> Self {
        let mut mounts = Mounts { root: site.root().to_owned(), paths: Vec::new() };
        mounts.add(&site.registry(), &["-t", "tmpfs", "-o", &format!("{options},mode=0700"), "tmpfs"]);
        Self { site, _mounts: mounts }
    }

    /// Gives a site a workspace that nobody can write.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn read_only(site: Site) -> Self {
        Self::closed(site, "workspace-projects/read-only")
    }

    /// Gives a site a folder for all workspaces that nobody can write.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn all_read_only(site: Site) -> Self {
        Self::closed(site, "workspace-projects")
    }

    fn closed(site: Site, folder: &str) -> Self {
        let mut mounts = Mounts { root: site.root().to_owned(), paths: Vec::new() };
        mounts.add(&site.root().join(folder), &["-t", "tmpfs", "-o", "ro", "tmpfs"]);
        Self { site, _mounts: mounts }
    }
}

impl Mounts {
    fn add(&mut self, path: &Path, arguments: &[&str]) {
        fs::create_dir_all(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let output = Command::new("mount").args(arguments).arg(path).output();
        let output = output.unwrap_or_else(|e| panic!("mount: {e}"));
        assert!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr));
        self.paths.push(path.to_owned());
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in self.paths.iter().rev() {
            // Lazily: whatever still has a file open in there must not leave a mount behind.
            let _ = Command::new("umount").arg("-l").arg(path).output();
        }
        // The site could not remove what something was mounted on.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Makes files in a folder until no more can be made.
///
/// # Panics
/// When one can't be made for another reason.
pub fn crowd(folder: &Path) {
    fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for n in 0.. {
        match fs::File::create(folder.join(n.to_string())) {
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => return,
            made => drop(made.unwrap_or_else(|e| panic!("{}: {e}", folder.display()))),
        }
    }
}

/// Writes a file until nothing more goes into its file system.
///
/// # Panics
/// When it can't be written for another reason.
pub fn fill(path: &Path) {
    use std::io::{ErrorKind, Write};
    let mut file = fs::File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for size in [64 * 1024, 4096, 1] {
        loop {
            match file.write(&vec![b'x'; size]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::StorageFull => break,
                Err(e) => panic!("{}: {e}", path.display()),
            }
        }
    }
}
