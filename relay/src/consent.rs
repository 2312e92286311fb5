//! What a person has agreed to: a session of a host agent starts no other settings than these outside of its sandbox.
//!
//! A session may write `platform/relay.toml`, and `relay up` does outside of every sandbox what stands there: engine, image,
//! folders that are mounted, programs that are run. So that the file is no way out, a relay keeps a digest of it where no
//! sandbox lets a session write, and starts for a session only what a person has started before.
//!
//! ```text
//! person:   relay up │ launch │ init ─► STATE/relay/consent/KEY: digest of engine and settings
//! session:  relay up │ launch │ doctor ─► the same digest? ─► goes on │ a line that asks for the person
//! ```

#![expect(clippy::disallowed_methods, reason = "the person's own state, which no session may write")]

use std::env::VarError;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config;
use crate::engine::EngineKind;
use crate::exit::Failure;
use crate::registry::atomic::{self, Durability};

/// Who wants something started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Somebody at a terminal, or a script of theirs.
    Person,
    /// A session of a host agent, from a command or as a tool.
    Session,
}

/// What is to be started.
#[derive(Debug, Clone, Copy)]
pub struct Matter<'a> {
    /// The project.
    pub root: &'a Path,
    /// Its engine.
    pub engine: EngineKind,
    /// The text of `platform/relay.toml`; empty where there is none.
    pub settings: &'a str,
}

/// Settings that reach no further than a job: a session may choose them.
const HARMLESS: [&str; 2] = ["limits", "step"];

/// Notes the consent of a person, and returns whether it was another matter the last time; holds a session to it.
///
/// # Errors
/// Exit code 5 when no person has consented to what a session wants to start.
pub fn settle(asker: Asker, matter: &Matter<'_>) -> Result<bool, Failure> {
    let place = place(matter.root, &|name| std::env::var(name));
    match asker {
        // Without such a place sessions can't start anything, which their line says; the person's own start goes on.
        Asker::Person => Ok(place.is_some_and(|place| note(&place, matter).unwrap_or(false))),
        Asker::Session => check(place.as_deref(), matter).map(|()| false),
    }
}

/// Forgets what a person has agreed to.
pub fn forget(root: &Path) {
    if let Some(place) = place(root, &|name| std::env::var(name)) {
        // What can't be removed is a digest, and of use to nobody.
        let _ = fs::remove_file(place);
    }
}

fn note(place: &Path, matter: &Matter<'_>) -> io::Result<bool> {
    let digest = digest(matter);
    let known = fs::read_to_string(place).ok();
    if known.as_ref() == Some(&digest) {
        return Ok(false);
    }
    if let Some(folder) = place.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    atomic::replace(place, digest.as_bytes(), Durability::Cached)?;
    Ok(known.is_some())
}

fn check(place: Option<&Path>, matter: &Matter<'_>) -> Result<(), Failure> {
    let what = match place.map(fs::read_to_string) {
        Some(Ok(known)) if known == digest(matter) => return Ok(()),
        Some(Ok(_)) => format!("{} or the engine has changed since a person started the relay", config::FILE),
        Some(Err(_)) | None => "no person has started the relay of this project yet".to_owned(),
    };
    let root = matter.root.display();
    Err(Failure::unreachable(format!(
        "{what}: ask the person to look at it and to run `relay up --root {root}` in a terminal"
    )))
}

/// Where the consent for the project at `root` is kept: below the person's state, which no session may write to.
fn place(root: &Path, variable: &dyn Fn(&str) -> Result<String, VarError>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).ok().map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let key = hex::encode(Sha256::digest(root.as_os_str().as_encoded_bytes()));
    Some(state.join("relay/consent").join(&key[..32]))
}

/// The same for the same effects: comments, order and what is harmless count for nothing.
fn digest(matter: &Matter<'_>) -> String {
    let mut table: toml::Table = matter.settings.parse().unwrap_or_default();
    for name in HARMLESS {
        table.remove(name);
    }
    hex::encode(Sha256::digest(format!("{}\n{table}", matter.engine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matter(settings: &str) -> Matter<'_> {
        Matter { root: Path::new("/project"), engine: EngineKind::Docker, settings }
    }

    #[test]
    fn a_session_starts_what_a_person_has_started_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("relay/consent/key");
        let known = matter("[platform]\nname = \"a\"\n[limits]\njob = \"1h\"\n");
        let refused = check(Some(&place), &known).unwrap_err().message;
        assert!(refused.contains("no person has started the relay of this project yet"), "{refused}");
        assert!(check(None, &known).is_err());
        assert!(!note(&place, &known).unwrap(), "the first time nothing has changed");
        assert!(!note(&place, &known).unwrap());
        for same in [
            known.settings,
            "# with a comment\n[platform]\nname = 'a'\n",
            "[limits]\njob = \"2h\"\n[platform]\nname = \"a\"\n[[step]]\nmatch = 'x'\nkind = \"test\"\n",
        ] {
            assert!(check(Some(&place), &matter(same)).is_ok(), "{same}");
        }
        for other in [
            "",
            "[platform]\nname = \"a\"\nworkspaces = \"/\"\n",
            "[platform]\nname = \"a\"\n[notify]\ncommand = [\"sh\"]\n",
            "[platform]\nname = \"a\"\n[codex]\nprogram = \"/tmp/codex\"\n",
        ] {
            let refused = check(Some(&place), &matter(other)).unwrap_err().message;
            assert!(refused.contains("has changed since a person started the relay"), "{other}: {refused}");
        }
        assert!(note(&place, &matter("")).unwrap(), "a person is told of a change");
        let local = Matter { engine: EngineKind::Local, ..known };
        assert!(check(Some(&place), &local).is_err(), "another engine is another matter");
    }

    #[test]
    fn consent_is_kept_with_the_person_s_state_and_each_project_has_its_own() {
        let of = |root: &str, set: &[(&str, &str)]| {
            place(Path::new(root), &|name| {
                let found = set.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
            })
        };
        let home = of("/a", &[("HOME", "/home/u")]).unwrap();
        assert!(home.starts_with("/home/u/.local/state/relay/consent"), "{}", home.display());
        let state = of("/a", &[("HOME", "/home/u"), ("XDG_STATE_HOME", "/state")]).unwrap();
        assert!(state.starts_with("/state/relay/consent"), "{}", state.display());
        assert_eq!(state.file_name(), home.file_name());
        assert_ne!(of("/b", &[("HOME", "/home/u")]).unwrap(), home);
        assert_eq!(of("/a", &[("HOME", "relative")]), None);
    }
}
