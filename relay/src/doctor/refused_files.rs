//! Search for files in the registry that relay refuses to open, or that it has set aside under another name.

use crate::files::dir::{RegistryDir, SET_ASIDE_PREFIX};
use crate::files::refused::{RefusalReason, RefusedEntry};
use crate::registry::{Registry, layout};

/// Maximum number of files listed by name; the rest are only counted.
const MAX_LISTED: usize = 3;

/// Returns the refused files and those that were set aside, each as a description and a path.
pub(super) fn find_refused_files(registry: &Registry) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in registry.folders() {
        match folder.names() {
            Ok(names) => names.iter().for_each(|name| found.extend(find_in_folder(registry, &folder, name))),
            Err(e) => {
                found.extend(
                    RefusedEntry::from_error(&e).map(|refused| describe_file(&folder, None, refused.reason)),
                );
            }
        }
    }
    found
}

fn find_in_folder(registry: &Registry, folder: &RegistryDir, name: &str) -> Option<(String, String)> {
    let is_top = folder == registry.folder();
    if is_top && (Registry::is_folder(name) || layout::is_old_agent_state(name)) {
        // The folders of the registry are searched separately. Relay never opens an old agent's state.
        return None;
    }
    let reason = folder.file(name).refusal_reason().ok().flatten();
    let is_link = name == "latest" || name.starts_with("latest.");
    match reason {
        Some(RefusalReason::Link) if is_link => None,
        Some(reason) => Some(describe_file(folder, Some(name), reason)),
        None if name.starts_with(SET_ASIDE_PREFIX) => {
            let path = folder.file(name).path().to_owned();
            Some((format!("{name} was set aside"), path.display().to_string()))
        }
        None => None,
    }
}

fn describe_file(folder: &RegistryDir, name: Option<&str>, reason: RefusalReason) -> (String, String) {
    let path = name.map_or_else(|| folder.path().to_owned(), |name| folder.file(name).path().to_owned());
    let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (format!("{shown} {reason}"), path.display().to_string())
}

/// Returns one line of detail and one line of advice; `None` if no file was found.
pub(super) fn detail_and_advice(found: &[(String, String)]) -> Option<(String, String)> {
    if found.is_empty() {
        return None;
    }
    let count_of_others = match found.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    let listed = found.iter().take(MAX_LISTED);
    let descriptions: Vec<&str> = listed.clone().map(|(description, _)| description.as_str()).collect();
    let paths: Vec<&str> = listed.map(|(_, path)| path.as_str()).collect();
    Some((
        format!("unexpected files, not opened: {}{count_of_others}", descriptions.join(", ")),
        format!("inspect and remove {}{count_of_others}", paths.join(" ")),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn refused_and_set_aside_files_are_named_and_expected_files_are_not() {
        let (_dir, registry) = Registry::temporary();
        symlink("a.1.json", registry.latest()).unwrap();
        std::fs::write(registry.folder().file("a.1.json"), "{}").unwrap();
        std::fs::create_dir(registry.folder().file("agent")).unwrap();
        assert_eq!(detail_and_advice(&find_refused_files(&registry)), None);
        symlink("/nowhere", registry.folder().file("a.1.log")).unwrap();
        std::fs::write(registry.requests().file(".refused-b.json-1"), "{").unwrap();
        std::fs::remove_dir(registry.archive()).unwrap();
        symlink("/nowhere", registry.archive()).unwrap();
        let (detail, advice) = detail_and_advice(&find_refused_files(&registry)).unwrap();
        for expected in
            ["a.1.log is a symbolic link", ".refused-b.json-1 was set aside", "archive is a symbolic link"]
        {
            assert!(detail.contains(expected), "{detail}");
        }
        assert!(advice.contains("platform/workers/requests/.refused-b.json-1"), "{advice}");
    }
}
