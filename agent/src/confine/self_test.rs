//! Test that Codex's sandbox works on this machine. Each Codex program has to pass it once.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::sandbox::SharedSettings;
use super::temp_dir;
use crate::process::{Event, Exit, OutputPipes, OutputSource, capture};
use crate::shim::protocol::Command;
use crate::workspace::WorkspaceDir;

/// Timeout of the test. A sandbox takes 0.2 s to start, and longer if Codex is read from a cold disk.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Script that tries what a job must and must not be able to do. Before, the shim in the sandbox has verified the
/// mounts.
const SCRIPT: &str = r#"
echo x >written || { echo "the workspace can't be written"; exit 1; }
if ls hidden || cat hidden/file || echo x >hidden/new || rm -rf hidden || mv hidden moved; then
    echo "a hidden folder can be reached"; exit 1
fi 2>/dev/null
[ -d hidden ] || { echo "a hidden folder can be removed"; exit 1; }
if [ "$(tr '\0' '\n' </proc/$1/cmdline 2>/dev/null | head -n 1)" = "$2" ]; then
    echo "the agent's process can be seen"; exit 1
fi
if echo x >"$3"; then echo "$3 can be written"; exit 1; fi 2>/dev/null
"#;
/// Advice for the user if the sandbox does not work.
const HINT: &str = "allow unprivileged user namespaces or update Codex, or set [codex] sandbox = \"off\" \
                     in relay.toml and approve it with `relay up`";

/// Identity of a program's file: path, device, inode, time of the last change (seconds, nanoseconds) and size.
type ProgramIdentity = (PathBuf, u64, u64, i64, i64, u64);

/// Codex programs that have passed the test.
#[derive(Debug, Default)]
pub(crate) struct VerifiedPrograms {
    programs: Mutex<HashSet<ProgramIdentity>>,
}

impl VerifiedPrograms {
    /// Tests the sandbox, unless its Codex program has already passed the test.
    ///
    /// # Errors
    /// One line with the failed property, and advice.
    pub(crate) async fn verify(&self, shared: &SharedSettings) -> Result<(), String> {
        let program = identify(Path::new(&shared.codex))
            .ok_or_else(|| format!("{} can't be read", common::text_format::one_line(&shared.codex, 200)))?;
        if self.programs.lock().unwrap_or_else(PoisonError::into_inner).contains(&program) {
            return Ok(());
        }
        run_test(shared)
            .await
            .map_err(|reason| format!("Codex's sandbox does not work here: {reason}; {HINT}"))?;
        self.programs.lock().unwrap_or_else(PoisonError::into_inner).insert(program);
        Ok(())
    }
}

fn identify(program: &Path) -> Option<ProgramIdentity> {
    let real_path = fs::canonicalize(program).ok()?;
    let meta = fs::metadata(&real_path).ok()?;
    Some((real_path, meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}

async fn run_test(shared: &SharedSettings) -> Result<(), String> {
    let test_dir = shared.state.join("proof");
    let (workspace, outside) = (test_dir.join("workspace"), test_dir.join("outside"));
    let hidden = workspace.join("hidden");
    let broken = |error: std::io::Error| error.to_string();
    let _ = fs::remove_dir_all(&test_dir);
    DirBuilder::new().recursive(true).mode(0o700).create(&hidden).map_err(broken)?;
    fs::write(hidden.join("file"), "hidden").map_err(broken)?;
    let mut shared = shared.clone();
    // The state directory is hidden from jobs. Only for this test, a folder in it is the workspace.
    shared.hidden_paths = vec![hidden];
    temp_dir::DEFAULT_TEMP_DIR.clone_into(&mut shared.temp_dir);
    let folder = WorkspaceDir::open(&workspace.to_string_lossy(), &[])?;
    let own_cmdline = std::fs::read("/proc/self/cmdline").map_err(broken)?;
    let own_name =
        String::from_utf8_lossy(own_cmdline.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    let pid = std::process::id().to_string();
    let argv = ["sh", "-c", SCRIPT, "sh", &pid, &own_name, &outside.to_string_lossy()];
    let mut command = Command {
        orphan_report: None,
        confine: None,
        argv: argv.map(str::to_owned).into(),
        env: shared.env.clone(),
        cwd: ".".to_owned(),
        user: None,
        stdin: String::new(),
        interrupt_first: false,
    };
    let sandbox = shared.job_sandbox(&folder, None)?;
    sandbox.wrap(&mut command);
    let captured =
        timeout(TEST_TIMEOUT, capture(command, OutputPipes::Merged, OutputSource::Stdout, Some(&folder)))
            .await;
    drop(sandbox);
    let failure = |output: &[u8]| {
        let text = String::from_utf8_lossy(output).into_owned();
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        common::text_format::one_line(&last, 200)
    };
    let result = match captured {
        Err(_) => Err(format!("it did not start within {} s", TEST_TIMEOUT.as_secs())),
        Ok(Ok((Some(Exit::Code(0)), _))) if !outside.exists() => Ok(()),
        Ok(Ok((_, output))) => Err(failure(&output)),
        Ok(Err(Event::SpawnFailed { message })) => Err(message),
        Ok(Err(_)) => Err("it was killed".to_owned()),
    };
    let _ = fs::remove_dir_all(&test_dir);
    result
}
