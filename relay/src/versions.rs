//! Versions pinned in `docker/versions`.

/// Pinned versions, one `NAME=VALUE` per line.
const VERSIONS: &str = include_str!("../../docker/versions");

/// Version of Codex in the image unless `relay.toml` says otherwise.
pub fn codex_version() -> &'static str {
    VERSIONS.lines().find_map(|line| line.strip_prefix("CODEX_VERSION=")).unwrap_or("latest")
}
