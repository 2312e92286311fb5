//! What all checks know, gathered at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::{self, Config};
use crate::consent::{self, Asker, Settings, Standing};
use crate::engine::EngineKind;
use crate::exit::Failure;
use crate::places;
use crate::registry::Registry;
use crate::registry::lease::{self, Lease, PlatformStatus};
use crate::sandbox::{self, Sandbox};
use crate::start;

/// What all checks know.
#[derive(Debug)]
pub struct Scene {
    /// The project.
    pub root: PathBuf,
    /// Its registry.
    pub registry: Registry,
    /// `relay.toml`.
    pub config: Result<Config, Unusable>,
    /// How the settings stand to what a person has agreed to.
    pub standing: Option<Standing>,
    /// Who asks.
    pub asker: Asker,
    /// The engine: of the last relay, or the one that the next relay will have.
    pub engine: EngineKind,
    /// The lease of the last relay.
    pub lease: Option<Lease>,
    /// Whether it lives.
    pub lives: bool,
    /// The sandbox around this process.
    pub sandbox: Option<Sandbox>,
    /// Now.
    pub now: Timestamp,
    env: HashMap<String, String>,
}

/// Why the settings are not looked at.
#[derive(Debug)]
pub enum Unusable {
    /// The file can't be read or makes no sense.
    Unreadable(Failure),
    /// A session asks, and they are not approved.
    NotApproved,
}

impl Unusable {
    /// For a check that needs the settings.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "relay.toml can't be read",
            Self::NotApproved => "the settings are not approved",
        }
    }
}

impl Scene {
    /// Looks at files and the environment only.
    pub fn new(root: &Path, registry: &Registry, asker: Asker) -> Self {
        let read = Config::load(root);
        let lease = lease::read(registry);
        let lives = lease::is_held(registry);
        let engine = read.as_ref().map_or(EngineKind::Docker, |config| {
            if lives { start::engine_of_living(config) } else { start::engine(None, config) }
        });
        let settings = read.as_ref().ok().map(|config| Settings::of(engine, config));
        let standing = settings.as_ref().map(|settings| consent::standing(root, settings));
        let config = match read {
            Err(failure) => Err(Unusable::Unreadable(failure)),
            // A session would see files through them that its sandbox hides.
            Ok(_) if asker == Asker::Session && standing != Some(Standing::Agreed) => {
                Err(Unusable::NotApproved)
            }
            Ok(config) => Ok(config),
        };
        Self {
            root: root.to_owned(),
            registry: registry.clone(),
            asker,
            config,
            engine,
            lives,
            standing,
            now: lease::now_of(lease.as_ref()),
            lease,
            sandbox: sandbox::here(),
            env: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        }
    }

    /// An environment variable that says something.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The platform of the relay that lives.
    pub(super) fn platform(&self) -> Option<&PlatformStatus> {
        self.lease.as_ref().filter(|_| self.lives).map(|lease| &lease.platform)
    }

    /// True if a program that the settings name may be run: they are approved, or it is the default one and no file that
    /// the project could have brought along.
    pub(super) fn may_run(&self, program: &str, found: &Path) -> bool {
        let is_own = program == config::CODEX && !places::resolved(found).starts_with(&self.root);
        self.standing == Some(Standing::Agreed) || is_own
    }

    /// The command that approves the settings.
    pub(super) fn approve(&self) -> String {
        // A relay that lives goes on with the settings that it was started with.
        let command = if self.lives { self.outside("restart") } else { self.up() };
        match self.asker {
            Asker::Session => format!("ask the user to run {command} in a terminal"),
            Asker::Person => format!("{command} shows them and asks"),
        }
    }

    /// The command that starts the relay from here.
    pub(super) fn up(&self) -> String {
        self.outside("up")
    }

    fn outside(&self, command: &str) -> String {
        match self.sandbox {
            Some(_) => {
                format!("`{}` in a terminal outside of this sandbox", sandbox::outside(command, &self.root))
            }
            None => format!("`relay {command}`"),
        }
    }

    /// What Codex calls its home on this machine.
    pub(super) fn codex_home(&self) -> Option<PathBuf> {
        let own = self.variable("CODEX_HOME").map(PathBuf::from);
        own.or_else(|| self.variable("HOME").map(|home| Path::new(home).join(".codex")))
    }

    /// A program as a shell would find it.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        if program.contains('/') {
            return Some(PathBuf::from(program)).filter(|path| path.is_file());
        }
        let path = self.variable("PATH").unwrap_or_default();
        std::env::split_paths(path).map(|dir| dir.join(program)).find(|path| path.is_file())
    }
}
