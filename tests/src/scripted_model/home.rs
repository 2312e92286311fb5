//! Configuration of Codex for a scripted model.

use std::fs;
use std::io;
use std::path::Path;

/// Makes `dir` a `CODEX_HOME` whose model is the server at `base_url`. Replaces an existing `config.toml`.
///
/// The first failure of the server ends a worker's turn (no retries), so that tests of failures are fast. To test
/// retries, raise `model_providers.scripted.request_max_retries` and `stream_max_retries` with `-c`. The folder must
/// not be below the system's temporary folder: Codex refuses to put its helper programs there.
pub fn write_codex_home(dir: &Path, base_url: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("config.toml"), config(base_url))
}

/// Returns the content of `config.toml`. The model is gpt-5.5, because Codex offers it the tools directly; newer models
/// call tools from programs. Plans are enabled, and analytics are off, so that no data of a test leaves the machine.
fn config(base_url: &str) -> String {
    let base_url = base_url.escape_default();
    format!(
        r#"model = "gpt-5.5"
model_provider = "scripted"
check_for_update_on_startup = false

[model_providers.scripted]
name = "Scripted model"
base_url = "{base_url}"
wire_api = "responses"
requires_openai_auth = false
request_max_retries = 0
stream_max_retries = 0

[tools.update_plan]
enabled = true

[analytics]
enabled = false
"#
    )
}
