//! Sources of the configuration: a file, or stdin. Both can provide changes while the agent runs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigFile, check_url};

/// Name of the file in the state directory with the relay's address, used if the configuration came through stdin. The
/// address is not a secret: a program that listens there still needs the relay's certificate.
const ADDRESS_FILE: &str = "relay-url";
/// Maximum length of the address in [`ADDRESS_FILE`], in bytes.
const MAX_ADDRESS: u64 = 1024;

/// Source of the configuration.
#[derive(Debug)]
pub(crate) enum ConfigSource {
    /// File in the state directory, which `worker-agent configure` replaces.
    File(ConfigFile),
    /// Stdin, read once, so that token and environment are never on disk. Later only the relay's address can change.
    Memory {
        /// Configuration from stdin. Its address is updated from `address_file`.
        config: Box<Config>,
        address_file: PathBuf,
        /// True once the configuration has been returned.
        was_returned: bool,
    },
}

impl ConfigSource {
    /// Creates the source for a configuration that was read from stdin.
    pub(crate) fn in_memory(config: Config, state: &Path) -> Self {
        Self::Memory { config: Box::new(config), address_file: state.join(ADDRESS_FILE), was_returned: false }
    }

    /// Returns the configuration, if it is new or has changed since the last call.
    ///
    /// # Errors
    /// One line that describes the problem, returned only once per change.
    pub(crate) fn take_changed(&mut self) -> Result<Option<Config>, String> {
        match self {
            Self::File(file) => file.take_changed(),
            Self::Memory { config, address_file, was_returned } => {
                let new_address = read_address(address_file).filter(|url| *url != config.url);
                if *was_returned && new_address.is_none() {
                    return Ok(None);
                }
                *was_returned = true;
                if let Some(url) = new_address {
                    config.url = url;
                }
                Ok(Some((**config).clone()))
            }
        }
    }
}

/// Reads the relay's address from a file. If the file has no valid address, returns `None`, and the last address stays
/// in use.
fn read_address(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok().filter(|meta| meta.is_file() && meta.len() <= MAX_ADDRESS)?;
    let text = if meta.len() > 0 { fs::read_to_string(path).ok()? } else { return None };
    let url = text.trim();
    check_url(url).ok()?;
    Some(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_from_stdin_is_returned_again_only_with_a_new_address() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let json = serde_json::json!({"url": "wss://h:1/agent", "token": "t", "certificate": certificate});
        let mut source =
            ConfigSource::in_memory(Config::parse(json.to_string().as_bytes()).unwrap(), dir.path());
        assert_eq!(source.take_changed().unwrap().unwrap().url, "wss://h:1/agent");
        assert_eq!(source.take_changed(), Ok(None));
        for (text, url) in [
            ("wss://h:2/agent\n", Some("wss://h:2/agent")),
            ("ws://h:3/agent", None),
            ("", None),
            ("wss://h:2/agent", None),
        ] {
            fs::write(dir.path().join(ADDRESS_FILE), text).unwrap();
            assert_eq!(source.take_changed().unwrap().map(|config| config.url).as_deref(), url, "{text}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is on disk");
    }
}
