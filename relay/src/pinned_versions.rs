//! Versions pinned in `docker/versions`.

/// Pinned versions, one `NAME=VALUE` per line.
const VERSIONS: &str = include_str!("../../docker/versions");

/// Returns the version of Codex in the platform's image, unless the settings name another.
pub fn codex_version() -> &'static str {
    VERSIONS.lines().find_map(|line| line.strip_prefix("CODEX_VERSION=")).unwrap_or("latest")
}
