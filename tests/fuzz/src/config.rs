//! Check of `relay.toml`: any text is a valid configuration, or is refused with one line that names the file.

use relay::internals::load_config;

use super::folder;

/// Panics if a text is refused with a reason of several lines, or one that does not name the file.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let platform = folder().join("platform");
    std::fs::create_dir_all(&platform).expect("a folder");
    std::fs::write(platform.join("relay.toml"), text).expect("a file");
    if let Err(reason) = load_config(folder()) {
        assert!(!reason.contains('\n') && reason.contains("relay.toml"), "{reason}");
    }
}
