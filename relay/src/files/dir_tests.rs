//! Every kind of entry that may take the place of a file or a folder of the registry.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, Instant};

use super::super::atomic::Durability;
use super::*;

/// A victim file outside of the registry, and the registry's folder.
struct Place {
    root: tempfile::TempDir,
    dir: RegistryDir,
}

const VICTIM: &str = "nobody may read or change this\n";

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("outside")).unwrap();
        fs::write(root.path().join("outside/victim"), VICTIM).unwrap();
        let dir = RegistryDir::of_project(root.path());
        dir.ensure().unwrap();
        Self { root, dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join("platform/workers").join(name)
    }

    fn victim(&self) -> PathBuf {
        self.root.path().join("outside/victim")
    }

    /// Creates an entry of each kind in the place of a file; returns their names.
    fn plant(&self) -> Vec<(&'static str, RefusalReason)> {
        symlink(self.victim(), self.at("link")).unwrap();
        symlink(self.root.path().join("outside/nothing"), self.at("dangling")).unwrap();
        fs::hard_link(self.victim(), self.at("second")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, self.at("fifo"), Mode::RWXU).unwrap();
        std::os::unix::net::UnixListener::bind(self.at("socket")).unwrap();
        fs::create_dir(self.at("folder")).unwrap();
        let mut planted = vec![
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
            if rustix::fs::mknodat(rustix::fs::CWD, self.at("device"), kind, Mode::RWXU, zero).is_ok() {
                planted.push(("device", RefusalReason::Device));
            }
        }
        fs::write(self.at("foreign"), "theirs").unwrap();
        if std::os::unix::fs::chown(self.at("foreign"), Some(12345), None).is_ok() {
            planted.push(("foreign", RefusalReason::OtherOwner(12345)));
        }
        planted
    }
}

fn reason(error: &io::Error) -> Option<RefusalReason> {
    RefusedEntry::from_error(error).map(|refused| refused.reason)
}

/// An operation on a file.
type Act = fn(&FileRef) -> io::Result<()>;

#[test]
fn nothing_but_a_file_of_the_owner_is_read_and_nothing_blocks() {
    let place = Place::new();
    let began = Instant::now();
    let reads: [Act; 4] = [
        |file| file.open().map(drop),
        |file| file.read(1000).map(drop),
        |file| file.metadata().map(drop),
        |file| file.open_to_write().map(drop),
    ];
    for (name, expected) in place.plant() {
        let file = place.dir.file(name);
        for read in reads {
            assert_eq!(reason(&read(&file).unwrap_err()), Some(expected), "{name}");
        }
        assert_eq!(file.refusal_reason().unwrap(), Some(expected), "{name}");
        assert_eq!(file.size(), None, "{name}");
        assert!(file.exists(), "{name}");
    }
    assert_eq!(place.dir.file("absent").open().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_is_in_the_way_of_a_write_is_set_aside_and_its_other_side_is_untouched() {
    let writes: [Act; 7] = [
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
        let place = Place::new();
        let before = fs::metadata(place.victim()).unwrap();
        for (name, expected) in place.plant() {
            let file = place.dir.file(name);
            write(&file).unwrap_or_else(|e| panic!("{number} {name}: {e}"));
            assert_eq!(fs::read(place.at(name)).unwrap(), b"mine", "{number} {name}");
            let aside = place.dir.file(format!(".refused-{name}-1"));
            // An entry that is removed without inspection is gone; every other one is kept for inspection.
            let kept = aside.refusal_reason().unwrap() == Some(expected);
            assert!(kept || number == 6, "{number} {name}");
        }
        let after = fs::metadata(place.victim()).unwrap();
        assert_eq!(fs::read_to_string(place.victim()).unwrap(), VICTIM, "{number}");
        assert_eq!((after.mode(), after.uid(), after.mtime()), (before.mode(), before.uid(), before.mtime()));
        assert!(!place.root.path().join("outside/nothing").exists());
    }
}

#[test]
fn a_link_in_place_of_a_folder_is_never_entered_and_a_new_folder_replaces_it() {
    let place = Place::new();
    let outside = place.root.path().join("outside");
    symlink(&outside, place.at("requests")).unwrap();
    let requests = place.dir.subfolder("requests");
    assert_eq!(reason(&requests.names().unwrap_err()), Some(RefusalReason::Link));
    assert_eq!(reason(&requests.file("victim").read(1000).unwrap_err()), Some(RefusalReason::Link));
    requests.file("victim").remove().unwrap();
    assert_eq!(fs::read_to_string(place.victim()).unwrap(), VICTIM);
    assert!(fs::symlink_metadata(place.at("requests")).unwrap().is_dir());
    assert_eq!(fs::read_link(place.at(".refused-requests-1")).unwrap(), outside);
    requests.file("new").create(b"x", Durability::Synced).unwrap();
    assert_eq!(place.dir.subfolder("requests").names().unwrap(), ["new"]);
    fs::write(place.at("names"), "a file").unwrap();
    place.dir.subfolder("names").ensure().unwrap();
    assert!(place.at("names").is_dir());
}

#[test]
fn a_link_on_the_way_to_the_registry_is_refused_and_left_as_it_is() {
    for linked in ["platform", "platform/workers"] {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("outside/workers")).unwrap();
        fs::create_dir_all(root.path().join(linked).parent().unwrap()).unwrap();
        symlink(root.path().join("outside"), root.path().join(linked)).unwrap();
        let dir = RegistryDir::of_project(root.path());
        let refused = dir.ensure().unwrap_err();
        assert_eq!(reason(&refused), Some(RefusalReason::Link));
        let shown = refused.to_string();
        assert!(
            shown.contains(&format!("{linked} is a symbolic link and is not opened: remove it")),
            "{shown}"
        );
        assert_eq!(fs::read_dir(root.path().join("outside")).unwrap().count(), 1);
    }
}

#[test]
fn a_registry_of_another_user_is_read_and_never_changed() {
    let place = Place::new();
    place.dir.file("a").create(b"theirs", Durability::Cached).unwrap();
    if std::os::unix::fs::chown(place.at(""), Some(12345), None).is_err() {
        return;
    }
    std::os::unix::fs::chown(place.at("a"), Some(12345), None).unwrap();
    let dir = RegistryDir::of_project(place.root.path());
    assert_eq!(dir.file("a").read(100).unwrap(), b"theirs");
    let changes: [Act; 5] = [
        |file| file.open_to_append().map(drop),
        |file| file.replace(b"x", Durability::Cached),
        |file| file.sibling("b").create(b"x", Durability::Cached),
        |file| file.remove(),
        |file| file.dir().subfolder("requests").file("x").create(b"x", Durability::Cached),
    ];
    for change in changes {
        let refused = change(&dir.file("a")).unwrap_err();
        assert_eq!(reason(&refused), Some(RefusalReason::ForeignRegistry(12345)));
        assert!(
            refused.to_string().ends_with("belongs to user 12345 and is not opened: run this as user 12345")
        );
    }
    assert_eq!(reason(&dir.ensure().unwrap_err()), Some(RefusalReason::ForeignRegistry(12345)));
    assert_eq!(dir.names().unwrap(), ["a"]);
}

#[test]
fn a_file_larger_than_its_kind_may_be_is_not_read() {
    let place = Place::new();
    place.dir.file("a").create(&[b'x'; 101], Durability::Cached).unwrap();
    let refused = place.dir.file("a").read(100).unwrap_err();
    assert!(
        refused.to_string().ends_with("a has more than 100 bytes and is not read: remove it"),
        "{refused}"
    );
    assert_eq!(place.dir.file("a").read(101).unwrap().len(), 101);
}

#[test]
fn a_name_never_leads_out_of_its_folder() {
    let place = Place::new();
    for name in ["../../outside/victim", "/etc/passwd", "..", "."] {
        let file = place.dir.file(name);
        assert!(file.open().is_err(), "{name}");
        let _ = file.remove();
        assert!(place.victim().exists() && place.at("").exists(), "{name}");
    }
}
