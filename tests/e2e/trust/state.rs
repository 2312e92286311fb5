//! The state folder with approvals, keys and tokens, which no other user may write.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use relay_tests::harness::{Engine, Site, programs};
use rustix::fs::{CWD, Mode, mkfifoat};

use super::planted_objects::{OTHER_USER, run_in_time, run_successfully};

/// Checks that `relay up` and the daemon fail with one line that contains these words.
fn check_refused(site: &Site, words: &str) {
    for args in [&["up"][..], &["serve"], &["up", "--yes"]] {
        let output = site.command_without_approval(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{args:?}: {stderr}");
        assert!(stderr.contains(words), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    }
}

/// Returns the folders that no other user may write, outermost first.
fn trusted_folders(site: &Site) -> [std::path::PathBuf; 4] {
    let base = site.state_home().join("relay");
    [base.clone(), base.join("consent"), site.state(), site.state().join("tokens")]
}

#[test]
fn a_state_folder_that_other_users_can_write_is_refused() {
    let site = Site::up(Engine::Local);
    site.relay(&["down"]);
    for folder in trusted_folders(&site) {
        let mode = fs::metadata(&folder).unwrap().permissions();
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        check_refused(&site, &format!("other users can write the state folder {}", folder.display()));
        fs::set_permissions(&folder, mode).unwrap();
    }
    run_successfully(&site, &["up"]);
}

#[test]
fn a_state_folder_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let site = Site::up(Engine::Local);
    site.relay(&["down"]);
    for folder in trusted_folders(&site) {
        chown(&folder, Some(OTHER_USER), None).unwrap();
        check_refused(&site, &format!("the state folder {} belongs to user {OTHER_USER}", folder.display()));
        chown(&folder, Some(0), None).unwrap();
    }
    run_successfully(&site, &["up"]);
}

#[test]
fn man_pages_are_not_written_through_links_or_into_pipes() {
    let site = Site::new(Engine::Local);
    let (pages, victim) = (site.root().join("man1"), site.home().join(".bashrc"));
    fs::create_dir(&pages).unwrap();
    fs::write(&victim, "mine\n").unwrap();
    symlink(&victim, pages.join("relay.1")).unwrap();
    mkfifoat(CWD, pages.join("relay-up.1"), Mode::RWXU).unwrap();
    let written = run_in_time(&site, &["completions", "--man", "man1"], "");
    assert!(written.status.success(), "{written:?}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine\n");
    for page in ["relay.1", "relay-up.1"] {
        let meta = fs::symlink_metadata(pages.join(page)).unwrap();
        assert!(meta.is_file() && meta.mode() & 0o022 == 0, "{page}: {meta:?}");
    }
    let left = fs::read_dir(&pages)
        .unwrap()
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().ends_with(".1"));
    assert_eq!(left.count(), 0, "a temporary file is left");
}

/// Returns everything below a folder that other users may write.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if !meta.is_symlink() && meta.mode() & 0o022 != 0 {
            found.push(format!("{:o} {}", meta.mode(), entry.path().display()));
        }
        if meta.is_dir() {
            found.extend(open_to_others(&entry.path()));
        }
    }
    found
}

#[test]
fn other_users_can_not_write_files_of_relay_whatever_the_umask() {
    let site = Site::new(Engine::Local);
    let project = site.state_home().join("fresh");
    fs::create_dir(&project).unwrap();
    let relay = programs::dir().join("relay");
    let line =
        format!("umask 0; exec {} --root {} init --codex --claude", relay.display(), project.display());
    let mut shell = site.environment(Command::new("sh"));
    let output = shell.args(["-c", &line]).env("CODEX_HOME", site.codex_home()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(project.join("platform/relay.toml").exists());
    assert_eq!(open_to_others(&project), [""; 0]);
    assert_eq!(open_to_others(&site.state_home().join("relay")), [""; 0]);
}
