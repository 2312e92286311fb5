//! Finder of Codex on this platform: its path, its version, and its problems.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::version::{self, Version};
use tokio::time::timeout;

use super::mcp;
use crate::environment::{DEFAULT_PATH, Variables};
use crate::process::{Event, Exit, OutputPipes, OutputSource};
use crate::shim::protocol::Command;
use crate::user::UserIds;

/// Oldest supported version: the first series with `thread.started` and `item.*` lines as they are parsed here.
const MIN_VERSION: Version = (0, 100, 0);
/// Timeout of `codex --version`. The call usually takes 20 ms, and longer if the program is on a cold disk. If it
/// times out, the Codex that was found is used without a version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);
/// Time until a program that did not answer is asked again for its version. Without it, each job would wait again.
const RETRY_PAUSE: Duration = Duration::from_secs(60);
/// Maximum number of cached answers, one for each program that jobs name.
const MAX_CACHED_ANSWERS: usize = 64;

/// Maximum number of bytes that are read of Codex's configuration file. The relevant keys are near its top.
const MAX_CONFIG: u64 = 256 * 1024;

const INSTALL_HINT: &str = "npm install -g @openai/codex, or set [codex] program in relay.toml";
const LOGIN_HINT: &str = "set CODEX_API_KEY before relay up, or log in with codex login";

/// Result of the search for Codex.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CodexInstallation {
    /// Path of the program.
    pub(crate) program: String,
    /// Version; `None` if the program was not found, or took too long to answer.
    pub(crate) version: Option<String>,
    /// Reason why this Codex can't run a job, with advice.
    pub(crate) problem: Option<String>,
}

/// A file, by its path and the time of its last change.
type FileVersion = (PathBuf, i64, i64);

/// Finder of Codex. Caches the version that a program reports until the program's file changes.
#[derive(Debug, Default)]
pub(crate) struct CodexFinder {
    cache: Mutex<HashMap<FileVersion, Answer>>,
}

/// Cached answer of a program that was asked for its version.
#[derive(Debug, Clone)]
enum Answer {
    Version(String),
    /// The program gave no answer in time. It is not asked again before this time.
    TimedOut(Instant),
}

impl Answer {
    /// Returns true if the answer is still valid, false if the program has to be asked again.
    fn is_valid(&self) -> bool {
        !matches!(self, Self::TimedOut(retry_at) if Instant::now() >= *retry_at)
    }

    fn version(&self) -> Option<String> {
        match self {
            Self::Version(version) => Some(version.clone()),
            Self::TimedOut(_) => None,
        }
    }
}

impl CodexFinder {
    /// Looks for `program` (a path, or a name on the worker's PATH) as the worker would, and checks that it is usable.
    pub(crate) async fn find_usable(
        &self,
        program: &str,
        env: &Variables,
        user: Option<UserIds>,
    ) -> CodexInstallation {
        let mut installation = self.find_program(program, env, user).await;
        if installation.problem.is_none() {
            installation.problem =
                (!has_credentials(env)).then(|| format!("codex has no credentials: {LOGIN_HINT}"));
        }
        installation
    }

    /// Like [`find_usable`](Self::find_usable), but without checking credentials, for callers that don't need the
    /// model.
    pub(crate) async fn find_program(
        &self,
        program: &str,
        env: &Variables,
        user: Option<UserIds>,
    ) -> CodexInstallation {
        let Some(path) = find_in_path(program, env) else {
            let shown = common::text_format::one_line(program, 200);
            let problem = format!("{shown} was not found on the platform: {INSTALL_HINT}");
            return CodexInstallation { problem: Some(problem), ..CodexInstallation::default() };
        };
        let mut installation = CodexInstallation {
            program: path.to_string_lossy().into_owned(),
            ..CodexInstallation::default()
        };
        match self.version(&path, env, user).await {
            Ok(Some(version))
                if version::parse_version(&version).is_some_and(|version| version < MIN_VERSION) =>
            {
                let oldest = format!("{}.{}.{}", MIN_VERSION.0, MIN_VERSION.1, MIN_VERSION.2);
                installation.problem =
                    Some(format!("codex {version} is older than {oldest}: {INSTALL_HINT}"));
                installation.version = Some(version);
            }
            Ok(version) => installation.version = version,
            Err(problem) => installation.problem = Some(problem),
        }
        installation
    }

    /// Returns the version of the program at `path`, or `None` if the program does not answer in time.
    async fn version(
        &self,
        path: &Path,
        env: &Variables,
        user: Option<UserIds>,
    ) -> Result<Option<String>, String> {
        let real_path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let meta = fs::metadata(&real_path)
            .map_err(|error| format!("{} can't be read: {error}", real_path.display()))?;
        let key = (real_path.clone(), meta.mtime(), meta.mtime_nsec());
        if let Some(answer) = self.lock_cache().get(&key).filter(|answer| answer.is_valid()) {
            return Ok(answer.version());
        }
        // A program that failed may succeed the next time, so only versions are cached without a time limit.
        let Ok(answer) = timeout(VERSION_TIMEOUT, query_version(path, env, user)).await else {
            tracing::warn!("{} --version gives no answer within {VERSION_TIMEOUT:?}", path.display());
            self.cache_answer(key, Answer::TimedOut(Instant::now() + RETRY_PAUSE));
            return Ok(None);
        };
        let answer = answer?;
        if !has_code_mode_host(&real_path) {
            tracing::warn!(
                "codex-code-mode-host is not beside {}: newer models can't use tools",
                real_path.display()
            );
        }
        self.cache_answer(key, Answer::Version(answer.clone()));
        Ok(Some(answer))
    }

    fn lock_cache(&self) -> MutexGuard<'_, HashMap<FileVersion, Answer>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache_answer(&self, file: FileVersion, answer: Answer) {
        let mut cache = self.lock_cache();
        if cache.len() >= MAX_CACHED_ANSWERS {
            cache.clear();
        }
        cache.insert(file, answer);
    }
}

/// Runs `codex --version` as the worker's user and below a shim, like every program that the worker's user could
/// replace.
async fn query_version(path: &Path, env: &Variables, user: Option<UserIds>) -> Result<String, String> {
    let shown = path.display();
    let argv = vec![path.to_string_lossy().into_owned(), "--version".to_owned()];
    let command = Command {
        orphan_report: None,
        confine: None,
        argv,
        env: env.clone(),
        cwd: "/".to_owned(),
        user,
        stdin: String::new(),
        interrupt_first: false,
    };
    match crate::process::capture(command, OutputPipes::Split, OutputSource::Stdout, None).await {
        Ok((Some(Exit::Code(0)), output)) => {
            let text = String::from_utf8_lossy(&output).into_owned();
            version::version_word(&text)
                .map(str::to_owned)
                .ok_or_else(|| format!("{shown} is not codex: {INSTALL_HINT}"))
        }
        Ok((exit, _)) => Err(format!("{shown} --version fails ({exit:?}): {INSTALL_HINT}")),
        Err(Event::SpawnFailed { message }) => Err(format!("{message}: {INSTALL_HINT}")),
        Err(_) => Err(format!("{shown} --version prints no version: {INSTALL_HINT}")),
    }
}

/// Returns true if the code-mode host, a helper of Codex, is beside the binary. In the npm package it is beside the
/// wrapped binary, not beside the script.
fn has_code_mode_host(real_path: &Path) -> bool {
    let is_script = real_path.extension().is_some_and(|extension| extension == "js");
    is_script || real_path.parent().is_some_and(|folder| folder.join("codex-code-mode-host").exists())
}

/// Returns the names of the MCP servers in the configuration of the worker's Codex.
pub(crate) fn mcp_servers(env: &Variables) -> BTreeSet<String> {
    let config = codex_home(env).and_then(|home| read_config(&home.join("config.toml")).ok());
    config.map(|config| mcp::configured_servers(&config)).unwrap_or_default()
}

fn codex_home(env: &Variables) -> Option<PathBuf> {
    let home = env.get("CODEX_HOME").map(PathBuf::from);
    home.or_else(|| env.get("HOME").map(|home| Path::new(home).join(".codex")))
}

fn find_in_path(program: &str, env: &Variables) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| is_executable(path));
    }
    let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Returns true if Codex has credentials: a key in the environment, a login, or a model provider in its configuration,
/// because a provider has its own credentials.
fn has_credentials(env: &Variables) -> bool {
    if env.get("CODEX_API_KEY").is_some_and(|key| !key.is_empty()) {
        return true;
    }
    let Some(home) = codex_home(env) else { return false };
    home.join("auth.json").exists()
        || read_config(&home.join("config.toml")).is_ok_and(|config| {
            let mut keys = config.lines().filter_map(|line| line.split_once('='));
            keys.any(|(key, _)| key.trim() == "model_provider")
        })
}

/// Reads at most [`MAX_CONFIG`] bytes of a file without blocking. The worker's user owns the file, so it may be
/// endless, or a pipe without a writer.
fn read_config(path: &Path) -> std::io::Result<String> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::File::options().read(true).custom_flags(nonblocking).open(path)?;
    let mut text = String::new();
    file.take(MAX_CONFIG).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_or_a_model_provider_of_the_user_are_credentials() {
        let home = tempfile::tempdir().unwrap();
        let mut env = Variables::from([("CODEX_HOME".to_owned(), home.path().display().to_string())]);
        assert!(!has_credentials(&env));
        fs::write(home.path().join("config.toml"), "model_providers = 1\n model_provider = \"x\"\n").unwrap();
        assert!(has_credentials(&env));
        fs::remove_file(home.path().join("config.toml")).unwrap();
        env.insert("CODEX_API_KEY".into(), "k".into());
        assert!(has_credentials(&env));
    }

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("codex");
        let env = Variables::from([("PATH".to_owned(), format!("relative:{}", dir.path().display()))]);
        fs::write(&file, "").unwrap();
        assert_eq!(find_in_path("codex", &env), None);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in_path("codex", &env), Some(file.clone()));
        assert_eq!(find_in_path(&file.display().to_string(), &env), Some(file));
    }
}
