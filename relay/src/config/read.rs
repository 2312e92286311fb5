//! Reader of `relay.toml`. Errors are reported with their line.

use std::path::Path;

use common::text_format::one_line;

use super::raw::RawConfig;
use super::resolved::Config;
use super::serde_util::ConfigError;
use crate::exit::Failure;
use crate::files::dir::RegistryDir;
use crate::files::refused::RefusedEntry;

/// Path of the configuration file, relative to the project root.
pub const CONFIG_PATH: &str = "platform/relay.toml";
/// Name of the configuration file in its folder.
const CONFIG_NAME: &str = "relay.toml";
/// Maximum size of the configuration file, in bytes. A thousand rules need a tenth of it.
const MAX_FILE_SIZE: u64 = 1 << 20;

impl Config {
    /// Reads the configuration of the project at `root`; a missing file means the defaults.
    ///
    /// # Errors
    /// Returns a one-line message with file, line and reason.
    pub fn load(root: &Path) -> Result<Self, Failure> {
        let path = root.join(CONFIG_PATH);
        // A session may write the file, or replace it with another kind of entry.
        let text = match RegistryDir::of_settings(root).file(CONFIG_NAME).read_any_text(MAX_FILE_SIZE) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e)
                if RefusedEntry::from_error(&e).is_some() || e.kind() == std::io::ErrorKind::FileTooLarge =>
            {
                return Err(Failure::usage(e.to_string()));
            }
            Err(e) => return Err(Failure::usage(format!("{}: {e}", path.display()))),
        };
        let failure = |error: ConfigError| {
            let line = line_number(&text, error.range.start);
            Failure::usage(format!("{}:{line}: {}", path.display(), error.reason))
        };
        let raw: RawConfig = toml::from_str(&text).map_err(|e| {
            failure(ConfigError { range: e.span().unwrap_or_default(), reason: one_line(e.message(), 300) })
        })?;
        let config = raw.resolve(root).map_err(failure)?;
        Ok(Self { text, ..config })
    }
}

/// Returns the number of the line that a byte is in; the first line is 1.
fn line_number(text: &str, byte: usize) -> usize {
    text.get(..byte).unwrap_or(text).matches('\n').count() + 1
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
