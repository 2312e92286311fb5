//! `relay.toml`: any text is a configuration, or yields one line that says where it is wrong.

use relay::internals::load_config;

use super::folder;

/// Panics if a text is refused without naming its place in one line.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let platform = folder().join("platform");
    std::fs::create_dir_all(&platform).expect("a folder");
    std::fs::write(platform.join("relay.toml"), text).expect("a file");
    if let Err(reason) = load_config(folder()) {
        assert!(!reason.contains('\n') && reason.contains("relay.toml"), "{reason}");
    }
}
