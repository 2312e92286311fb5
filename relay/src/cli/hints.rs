//! Notes about unexpected properties of a job's workspace and environment, printed at its launch.
//!
//! * Workers on this machine use the `PATH` of the `relay up` that started the relay, which may be out of date.
//! * A submodule that is not initialised is an empty folder.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use common::job::Sandbox;

use super::Context;
use super::submit::LaunchTarget;
use crate::approval::Initiator;
use crate::bounded_file;
use crate::config::Config;
use crate::engine_kind::EngineKind;

/// Maximum number of folders named in a note.
const MAX_NAMED_FOLDERS: usize = 3;

/// Prints the folders of the caller's `PATH` that are missing in the `PATH` of the running relay's workers. Nothing is
/// printed in sessions: their `PATH` has additional folders that workers don't need.
pub(super) fn hint_missing_path_folders(
    context: &Context,
    target: &LaunchTarget,
    config: &Config,
    env: &[String],
) {
    let has_path_flag = env.iter().any(|entry| entry.split('=').next() == Some("PATH"));
    if target.engine != EngineKind::Local || has_path_flag || context.initiator() != Initiator::Person {
        return;
    }
    let Some(worker_path) = target.lease().and_then(|lease| lease.path.as_deref()) else { return };
    let Ok(caller_path) = context.caller_variable("PATH") else { return };
    let missing = missing_folders(&caller_path, worker_path);
    if missing.is_empty() {
        return;
    }
    let is_sandboxed = config.codex.job_settings(target.engine).sandbox != Sandbox::Off;
    let advice = if is_sandboxed {
        "run `relay down` and `relay up` to use your PATH"
    } else {
        "`--env PATH` passes yours to this job"
    };
    context
        .output
        .print_note(&format!("the relay was started without {} in its PATH: {advice}", missing.join(", ")));
}

/// Prints the submodules of a workspace that are not initialised.
pub(super) fn hint_empty_submodules(context: &Context, workspace: &Path) {
    let submodules = empty_submodules(workspace);
    if !submodules.is_empty() {
        context.output.print_note(&format!(
            "submodules that are not initialised: {}; `--setup 'git submodule update --init'` fetches them first",
            submodules.join(", ")
        ));
    }
}

/// Returns the first few submodules with an empty or absent folder.
#[expect(clippy::disallowed_methods, reason = "only the names of the workspace's folders are read")]
fn empty_submodules(workspace: &Path) -> Vec<String> {
    let text = bounded_file::read_bounded(&workspace.join(".gitmodules")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let paths = text.lines().filter_map(|line| {
        let (key, path) = line.split_once('=')?;
        (key.trim() == "path").then(|| path.trim().to_owned())
    });
    let is_plain = |path: &String| {
        !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
    };
    let is_empty_or_absent = |path: &String| {
        std::fs::read_dir(workspace.join(path)).map_or(true, |mut entries| entries.next().is_none())
    };
    paths.filter(is_plain).filter(is_empty_or_absent).take(MAX_NAMED_FOLDERS).collect()
}

/// Returns the first few folders of `caller_path` that are not in `worker_path`.
fn missing_folders(caller_path: &str, worker_path: &str) -> Vec<String> {
    let worker_folders: BTreeSet<PathBuf> = std::env::split_paths(worker_path).collect();
    let missing = std::env::split_paths(caller_path)
        .filter(|folder| folder.is_absolute() && !worker_folders.contains(folder));
    let mut returned = BTreeSet::new();
    missing
        .filter(|folder| returned.insert(folder.clone()))
        .map(|folder| folder.display().to_string())
        .take(MAX_NAMED_FOLDERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_submodules_with_an_empty_folder_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert!(empty_submodules(dir.path()).is_empty());
        write(
            ".gitmodules",
            "[submodule \"a\"]\n\tpath = lib/a\n\turl = x\n[submodule \"b\"]\n path=lib/b\n[s]\npath = ../c\n",
        );
        write("lib/a/file", "");
        std::fs::create_dir(dir.path().join("lib/b")).unwrap();
        assert_eq!(empty_submodules(dir.path()), ["lib/b"]);
    }

    #[test]
    fn a_folder_that_only_the_callers_path_has_is_named_once() {
        assert_eq!(missing_folders("/a:/new:/b:/new:rel:", "/b:/a"), ["/new"]);
        assert!(missing_folders("/a:/b", "/b:/a:/c").is_empty());
        assert_eq!(missing_folders("/1:/2:/3:/4", "").len(), MAX_NAMED_FOLDERS);
    }
}
