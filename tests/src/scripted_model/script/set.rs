//! Scripts that a server of the scripted model can play, by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{DEFAULT, Script, ScriptError};

/// Scripts of a server, by name. A script named [`DEFAULT`] always exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Scripts(BTreeMap<String, Script>);

impl Default for Scripts {
    fn default() -> Self {
        let hello =
            Script::new(DEFAULT).say("Hello! I am a scripted model: name a script and I will play it.");
        Self(BTreeMap::from([(hello.name.clone(), hello)]))
    }
}

impl Scripts {
    /// Adds a script, or replaces the one of that name.
    pub fn add(&mut self, script: Script) {
        self.0.insert(script.name.clone(), script);
    }

    /// Adds all `*.json` files of a folder.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), ScriptError> {
        let failed = |source| ScriptError::Read { path: folder.to_owned(), source };
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|ext| ext == "json") {
                self.add(Script::load(&path)?);
            }
        }
        Ok(())
    }

    /// Returns the script of that name.
    pub fn get(&self, name: &str) -> Option<&Script> {
        self.0.get(name)
    }

    /// Returns all names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl FromIterator<Script> for Scripts {
    fn from_iter<T: IntoIterator<Item = Script>>(scripts: T) -> Self {
        let mut all = Self::default();
        scripts.into_iter().for_each(|script| all.add(script));
        all
    }
}
