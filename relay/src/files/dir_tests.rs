//! Tests with every kind of entry that may take the place of a file or a folder of the registry.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, Instant};

use super::super::atomic::Durability;
use super::*;

/// Folder of a registry, and a victim: a file outside of the registry that must not be touched.
struct TestRegistry {
    root: tempfile::TempDir,
    dir: RegistryDir,
}

const VICTIM_TEXT: &str = "nobody may read or change this\n";

impl TestRegistry {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("outside")).unwrap();
        fs::write(root.path().join("outside/victim"), VICTIM_TEXT).unwrap();
        let dir = RegistryDir::of_project(root.path());
        dir.ensure().unwrap();
        Self { root, dir }
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.root.path().join("platform/workers").join(name)
    }

    fn victim(&self) -> PathBuf {
        self.root.path().join("outside/victim")
    }

    /// Creates an entry of each kind instead of a file; returns names and expected reasons.
    fn create_entries(&self) -> Vec<(&'static str, RefusalReason)> {
        symlink(self.victim(), self.path_of("link")).unwrap();
        symlink(self.root.path().join("outside/nothing"), self.path_of("dangling")).unwrap();
        fs::hard_link(self.victim(), self.path_of("second")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, self.path_of("fifo"), Mode::RWXU).unwrap();
        std::os::unix::net::UnixListener::bind(self.path_of("socket")).unwrap();
        fs::create_dir(self.path_of("folder")).unwrap();
        let mut created = vec![
            ("link", RefusalReason::Link),
            ("dangling", RefusalReason::Link),
            ("second", RefusalReason::HardLink),
            ("fifo", RefusalReason::Fifo),
            ("socket", RefusalReason::Socket),
            ("folder", RefusalReason::Directory),
        ];
        // A copy of /dev/zero, which never ends. Only root can create it, and give a file away.
        #[cfg(target_os = "linux")]
        {
            let zero = rustix::fs::makedev(1, 5);
            let kind = rustix::fs::FileType::CharacterDevice;
            if rustix::fs::mknodat(rustix::fs::CWD, self.path_of("device"), kind, Mode::RWXU, zero).is_ok() {
                created.push(("device", RefusalReason::Device));
            }
        }
        fs::write(self.path_of("foreign"), "theirs").unwrap();
        if std::os::unix::fs::chown(self.path_of("foreign"), Some(12345), None).is_ok() {
            created.push(("foreign", RefusalReason::OtherOwner(12345)));
        }
        created
    }
}

fn reason(error: &io::Error) -> Option<RefusalReason> {
    RefusedEntry::from_error(error).map(|refused| refused.reason)
}

/// Operation on a file.
type FileOperation = fn(&FileRef) -> io::Result<()>;

#[test]
fn only_regular_files_of_the_owner_are_read_and_no_open_blocks() {
    let registry = TestRegistry::new();
    let began = Instant::now();
    let reads: [FileOperation; 4] = [
        |file| file.open().map(drop),
        |file| file.read(1000).map(drop),
        |file| file.metadata().map(drop),
        |file| file.open_to_write().map(drop),
    ];
    for (name, expected) in registry.create_entries() {
        let file = registry.dir.file(name);
        for read in reads {
            assert_eq!(reason(&read(&file).unwrap_err()), Some(expected), "{name}");
        }
        assert_eq!(file.refusal_reason().unwrap(), Some(expected), "{name}");
        assert_eq!(file.size(), None, "{name}");
        assert!(file.exists(), "{name}");
    }
    assert_eq!(registry.dir.file("absent").open().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_write_sets_other_entries_aside_and_changes_no_file_outside() {
    let writes: [FileOperation; 7] = [
        |file| file.open_to_append()?.write_all(b"mine"),
        |file| file.open_or_create()?.write_all(b"mine"),
        |file| file.replace(b"mine", Durability::Cached),
        |file| file.create(b"mine", Durability::Cached),
        |file| {
            file.sibling("new").replace(b"mine", Durability::Cached)?;
            file.sibling("new").rename(file)
        },
        |file| {
            file.sibling("new").replace(b"mine", Durability::Cached)?;
            file.sibling("new").rename_no_replace(file)
        },
        |file| {
            file.remove()?;
            file.create_new()?.write_all(b"mine")
        },
    ];
    for (number, write) in writes.into_iter().enumerate() {
        let registry = TestRegistry::new();
        let before = fs::metadata(registry.victim()).unwrap();
        for (name, expected) in registry.create_entries() {
            let file = registry.dir.file(name);
            write(&file).unwrap_or_else(|e| panic!("{number} {name}: {e}"));
            assert_eq!(fs::read(registry.path_of(name)).unwrap(), b"mine", "{number} {name}");
            let set_aside_file = registry.dir.file(format!(".refused-{name}-1"));
            // The last operation removes the entry without inspection; all others keep it for inspection.
            let is_kept = set_aside_file.refusal_reason().unwrap() == Some(expected);
            assert!(is_kept || number == 6, "{number} {name}");
        }
        let after = fs::metadata(registry.victim()).unwrap();
        assert_eq!(fs::read_to_string(registry.victim()).unwrap(), VICTIM_TEXT, "{number}");
        assert_eq!((after.mode(), after.uid(), after.mtime()), (before.mode(), before.uid(), before.mtime()));
        assert!(!registry.root.path().join("outside/nothing").exists());
    }
}

#[test]
fn a_link_in_place_of_a_folder_is_never_entered_and_a_new_folder_replaces_it() {
    let registry = TestRegistry::new();
    let outside = registry.root.path().join("outside");
    symlink(&outside, registry.path_of("requests")).unwrap();
    let requests = registry.dir.subfolder("requests");
    assert_eq!(reason(&requests.names().unwrap_err()), Some(RefusalReason::Link));
    assert_eq!(reason(&requests.file("victim").read(1000).unwrap_err()), Some(RefusalReason::Link));
    requests.file("victim").remove().unwrap();
    assert_eq!(fs::read_to_string(registry.victim()).unwrap(), VICTIM_TEXT);
    assert!(fs::symlink_metadata(registry.path_of("requests")).unwrap().is_dir());
    assert_eq!(fs::read_link(registry.path_of(".refused-requests-1")).unwrap(), outside);
    requests.file("new").create(b"x", Durability::Synced).unwrap();
    assert_eq!(registry.dir.subfolder("requests").names().unwrap(), ["new"]);
    fs::write(registry.path_of("names"), "a file").unwrap();
    registry.dir.subfolder("names").ensure().unwrap();
    assert!(registry.path_of("names").is_dir());
}

#[test]
fn a_link_on_the_way_to_the_registry_is_refused_and_stays() {
    for linked in ["platform", "platform/workers"] {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("outside/workers")).unwrap();
        fs::create_dir_all(root.path().join(linked).parent().unwrap()).unwrap();
        symlink(root.path().join("outside"), root.path().join(linked)).unwrap();
        let dir = RegistryDir::of_project(root.path());
        let error = dir.ensure().unwrap_err();
        assert_eq!(reason(&error), Some(RefusalReason::Link));
        let shown = error.to_string();
        assert!(
            shown.contains(&format!("{linked} is a symbolic link and is not opened: remove it")),
            "{shown}"
        );
        assert_eq!(fs::read_dir(root.path().join("outside")).unwrap().count(), 1);
    }
}

#[test]
fn a_registry_of_another_user_is_read_and_never_changed() {
    let registry = TestRegistry::new();
    registry.dir.file("a").create(b"theirs", Durability::Cached).unwrap();
    if std::os::unix::fs::chown(registry.path_of(""), Some(12345), None).is_err() {
        return;
    }
    std::os::unix::fs::chown(registry.path_of("a"), Some(12345), None).unwrap();
    let dir = RegistryDir::of_project(registry.root.path());
    assert_eq!(dir.file("a").read(100).unwrap(), b"theirs");
    let changes: [FileOperation; 5] = [
        |file| file.open_to_append().map(drop),
        |file| file.replace(b"x", Durability::Cached),
        |file| file.sibling("b").create(b"x", Durability::Cached),
        |file| file.remove(),
        |file| file.dir().subfolder("requests").file("x").create(b"x", Durability::Cached),
    ];
    for change in changes {
        let error = change(&dir.file("a")).unwrap_err();
        assert_eq!(reason(&error), Some(RefusalReason::ForeignRegistry(12345)));
        assert!(
            error.to_string().ends_with("belongs to user 12345 and is not opened: run this as user 12345")
        );
    }
    assert_eq!(reason(&dir.ensure().unwrap_err()), Some(RefusalReason::ForeignRegistry(12345)));
    assert_eq!(dir.names().unwrap(), ["a"]);
}

#[test]
fn a_file_that_is_larger_than_allowed_is_not_read() {
    let registry = TestRegistry::new();
    registry.dir.file("a").create(&[b'x'; 101], Durability::Cached).unwrap();
    let error = registry.dir.file("a").read(100).unwrap_err();
    assert!(error.to_string().ends_with("a has more than 100 bytes and is not read: remove it"), "{error}");
    assert_eq!(registry.dir.file("a").read(101).unwrap().len(), 101);
}

#[test]
fn a_name_never_leads_out_of_its_folder() {
    let registry = TestRegistry::new();
    for name in ["../../outside/victim", "/etc/passwd", "..", "."] {
        let file = registry.dir.file(name);
        assert!(file.open().is_err(), "{name}");
        let _ = file.remove();
        assert!(registry.victim().exists() && registry.path_of("").exists(), "{name}");
    }
}
