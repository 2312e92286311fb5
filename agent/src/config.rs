//! `config.json`: the address of the relay, and the settings of workers.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use common::job::{MAX_AGENT_JOBS, Sandbox};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::http::Uri;

use crate::environment::Variables;

/// Maximum length of the configuration, in bytes: the largest environment that Linux allows (2 MiB), and a margin.
pub(crate) const MAX_CONFIG: u64 = 3 * 1024 * 1024;
/// Default number of slots.
const DEFAULT_MAX_JOBS: u32 = 4;

/// The agent's configuration. Unknown fields are ignored, so that a newer relay may write them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    /// Address of the relay: `wss://HOST:PORT/agent`.
    pub(crate) url: String,
    /// The relay's certificate (PEM): the only one that the agent accepts.
    pub(crate) certificate: String,
    /// Token that authenticates this platform's agent.
    pub(crate) token: String,
    /// Number of slots: jobs that run at once.
    #[serde(default = "default_max_jobs")]
    pub(crate) max_jobs: u32,
    /// User that workers run as; defaults to the agent's own.
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// Codex program that is checked to decide whether the platform is usable. A job may name another program.
    #[serde(default = "default_codex")]
    pub(crate) codex: String,
    /// Environment values for every worker.
    #[serde(default)]
    pub(crate) env: Variables,
    /// Paths that no job in a sandbox may see.
    #[serde(default)]
    pub(crate) hidden: Vec<String>,
    /// Folders that must contain the workspaces; if empty, a workspace can be anywhere.
    #[serde(default)]
    pub(crate) roots: Vec<String>,
    /// Codex arguments that the user approved.
    #[serde(default)]
    pub(crate) trusted_args: Vec<String>,
    /// Weakest sandbox mode that the user approved; if `None`, a job's own setting is used.
    #[serde(default)]
    pub(crate) sandbox: Option<Sandbox>,
    /// True if workers reach the model through the relay, and so need no credentials here.
    #[serde(default)]
    pub(crate) model_gateway: bool,
    /// True in the container of a single job: the agent exits once the relay has everything of that job.
    #[serde(default)]
    pub(crate) one_job: bool,
    /// Disk space that a single job may use in its container, in bytes; `None` for no limit.
    #[serde(default)]
    pub(crate) disk: Option<u64>,
    /// Unix socket of the relay, which takes the place of host and port in `url`.
    #[serde(default)]
    pub(crate) socket: Option<PathBuf>,
    /// True if jobs reach other hosts through the relay alone.
    #[serde(default)]
    pub(crate) network_proxy: bool,
    /// Names of the secrets that the relay adds to requests of the jobs to its proxy.
    #[serde(default)]
    pub(crate) secrets: Vec<String>,
}

fn default_codex() -> String {
    "codex".to_owned()
}

fn default_max_jobs() -> u32 {
    DEFAULT_MAX_JOBS
}

// Implemented by hand: the token and the environment values must not get into a log.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("max_jobs", &self.max_jobs)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Parses and checks a configuration.
    ///
    /// # Errors
    /// One line that describes the problem. It contains no value except the address.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        // serde's message contains the position and sometimes a value. Only the position is passed on.
        let config: Self = serde_json::from_slice(json).map_err(|error| {
            let what =
                if error.is_data() { "a field is missing or has the wrong type" } else { "it is not JSON" };
            format!(
                "the configuration can't be used: {what} (line {}, column {})",
                error.line(),
                error.column()
            )
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        check_url(&self.url)?;
        self.pinned_certificate()?;
        let is_plain = !self.token.is_empty() && self.token.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain {
            return Err(
                "the configuration's token is empty or has characters that no header may have".to_owned()
            );
        }
        if !(1..=MAX_AGENT_JOBS).contains(&self.max_jobs) {
            return Err(format!("the configuration's max_jobs must be 1 to {MAX_AGENT_JOBS}"));
        }
        let bad_entry = self
            .env
            .iter()
            .find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'));
        match bad_entry {
            Some((name, _)) => Err(format!(
                "the configuration's env has a bad entry '{}'",
                common::text_format::one_line(name, 40)
            )),
            None => Ok(()),
        }
    }

    /// Returns the relay's certificate.
    pub(crate) fn pinned_certificate(&self) -> Result<CertificateDer<'static>, String> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|_| "the configuration's certificate is not a PEM certificate".to_owned())
    }
}

/// Checks the relay's address.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|_| "the configuration's url is not valid".to_owned())?;
    if uri.scheme_str() != Some("wss") {
        return Err("the configuration's url must begin with wss://: agents connect only over TLS".to_owned());
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err("the configuration's url names no host".to_owned());
    }
    Ok(())
}

/// The configuration file and the stamp of the version that was last read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    last_read: Option<FileStamp>,
    /// Stamp of the version whose read error was reported last.
    last_unreadable: Option<FileStamp>,
}

/// Stamp of a file's version, which changes whenever the file is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    ctime: (i64, i64),
    size: u64,
}

impl ConfigFile {
    /// Creates the configuration file of a state directory.
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join("config.json"), last_read: None, last_unreadable: None }
    }

    /// Returns the configuration, or `None` if the file is missing or was not replaced since the last call.
    ///
    /// # Errors
    /// One line that describes the problem, returned only once for each version of the file.
    pub(crate) fn take_changed(&mut self) -> Result<Option<Config>, String> {
        let Ok(meta) = fs::metadata(&self.path) else { return Ok(None) };
        let stamp =
            FileStamp { inode: meta.ino(), ctime: (meta.ctime(), meta.ctime_nsec()), size: meta.size() };
        if self.last_read == Some(stamp) {
            return Ok(None);
        }
        let path = self.path.display();
        let json = if meta.size() > MAX_CONFIG {
            Err(format!("{path} is longer than {MAX_CONFIG} bytes"))
        } else {
            match fs::read(&self.path) {
                Ok(json) => Ok(json),
                // The next check tries again: the same file may be readable by then.
                Err(error) if self.last_unreadable == Some(stamp) => {
                    tracing::debug!("{path} still can't be read: {error}");
                    return Ok(None);
                }
                Err(error) => {
                    self.last_unreadable = Some(stamp);
                    return Err(format!("{path} can't be read: {error}"));
                }
            }
        };
        (self.last_read, self.last_unreadable) = (Some(stamp), None);
        Config::parse(&json?).map(Some)
    }
}

/// Replaces the configuration of a state directory atomically; only the file's owner can read the new file.
pub(crate) fn write(state: &Path, config: &Config) -> io::Result<()> {
    let new_path = state.join(format!("config.json.{}", std::process::id()));
    // An earlier process with this process id may have been killed while it wrote.
    let _ = fs::remove_file(&new_path);
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&new_path)?;
    let written = serde_json::to_writer(&mut file, config)
        .map_err(io::Error::from)
        .and_then(|()| file.flush())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new_path, state.join("config.json")));
    if written.is_err() {
        let _ = fs::remove_file(&new_path);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `json` as a configuration, with a certificate added if it has none.
    fn parse(json: &str) -> Result<Config, String> {
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let mut config = serde_json::json!({"certificate": certificate});
        match serde_json::from_str(json) {
            Ok(serde_json::Value::Object(fields)) => config.as_object_mut().unwrap().extend(fields),
            _ => return Config::parse(json.as_bytes()),
        }
        Config::parse(config.to_string().as_bytes())
    }

    #[test]
    fn missing_fields_get_defaults_and_unknown_ones_are_ignored() {
        let config = parse(r#"{"url":"wss://127.0.0.1:9/agent","token":"ab","new":1}"#).unwrap();
        assert_eq!((config.max_jobs, config.user, config.env.len()), (4, None, 0));
    }

    #[test]
    fn error_messages_never_contain_the_token() {
        for (json, part) in [
            (r#"{"url":"ws://h/agent","token":"s3cret"}"#, "wss://"),
            (r#"{"url":"wss:///agent","token":"s3cret"}"#, "is not valid"),
            (r#"{"url":"wss://h/agent","token":"s3cret","certificate":"s3"}"#, "certificate"),
            (r#"{"url":"http://h/agent","token":"s3cret"}"#, "wss://"),
            (r#"{"url":"wss://h/agent","token":"s3\ncret"}"#, "token"),
            (r#"{"url":"wss://h/agent","token":["s3cret"]}"#, "wrong type"),
            (r#"{"url":"wss://h/agent","token":"s3cret","max_jobs":0}"#, "max_jobs"),
            (r#"{"url":"wss://h/agent","token":"s3cret","env":{"A=B":"s3cret"}}"#, "A=B"),
            ("s3cret", "not JSON"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(part) && !error.contains("s3"), "{error}");
        }
        let config = parse(r#"{"url":"wss://h/agent","token":"s3cret"}"#).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn an_unreadable_file_is_reported_once_and_read_as_soon_as_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = ConfigFile::new(dir.path());
        let config = parse(r#"{"url":"wss://h/agent","token":"t"}"#).unwrap();
        // A folder has a size and an inode, and can't be read, not even by root.
        fs::create_dir(dir.path().join("config.json")).unwrap();
        assert!(file.take_changed().is_err());
        assert_eq!(
            (file.take_changed(), file.last_read),
            (Ok(None), None),
            "an unchanged file is not read again"
        );
        fs::remove_dir(dir.path().join("config.json")).unwrap();
        write(dir.path(), &config).unwrap();
        assert_eq!(file.take_changed(), Ok(Some(config.clone())));
        // The same version of the file, which could not be read before.
        let mut file = ConfigFile::new(dir.path());
        let meta = fs::metadata(dir.path().join("config.json")).unwrap();
        file.last_unreadable = Some(FileStamp {
            inode: meta.ino(),
            ctime: (meta.ctime(), meta.ctime_nsec()),
            size: meta.size(),
        });
        assert_eq!(file.take_changed(), Ok(Some(config)));
    }

    #[test]
    fn a_replaced_file_is_returned_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = ConfigFile::new(dir.path());
        assert_eq!(file.take_changed(), Ok(None));
        let config = parse(r#"{"url":"wss://h/agent","token":"t"}"#).unwrap();
        write(dir.path(), &config).unwrap();
        assert_eq!(file.take_changed(), Ok(Some(config.clone())));
        assert_eq!(file.take_changed(), Ok(None));
        write(dir.path(), &config).unwrap();
        assert_eq!(file.take_changed(), Ok(Some(config)));
        let mode = fs::metadata(dir.path().join("config.json")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
