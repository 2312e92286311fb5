//! Detection of a host agent among the ancestors of this process.
//!
//! A command line can change the environment of a command, but not the ancestors of its process.

#![expect(clippy::disallowed_methods, reason = "files of /proc")]

use std::fs;
use std::path::Path;

/// Maximum number of ancestors that are checked.
const MAX_ANCESTORS: usize = 64;
/// Names of the programs that run the commands of a model.
const HOST_AGENTS: [&str; 2] = ["codex", "claude"];

/// Returns true if an ancestor of this process is a host agent. Always false on other systems than Linux, which list
/// ancestors only with an extra program.
pub fn is_below_host_agent() -> bool {
    let mut pid = std::process::id();
    for _ in 0..MAX_ANCESTORS {
        let Some((parent, _)) = read_parent_and_name(pid) else { return false };
        if parent == 0 {
            return false;
        }
        let Some((_, name)) = read_parent_and_name(parent) else { return false };
        let command_line = fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default();
        if is_host_agent(&name, &command_line) {
            return true;
        }
        pid = parent;
    }
    false
}

fn read_parent_and_name(pid: u32) -> Option<(u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat)
}

/// Parses parent and name of a process from `/proc/PID/stat`. The name is in brackets and may contain any character.
fn parse_stat(stat: &str) -> Option<(u32, String)> {
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let parent = after.split_whitespace().nth(1)?.parse().ok()?;
    Some((parent, name))
}

/// Returns true for the process of a host agent: its own name says so, or the name of the script that node runs.
fn is_host_agent(name: &str, command_line: &[u8]) -> bool {
    let words = command_line.split(|byte| *byte == 0).take(2);
    let is_script = words.into_iter().any(|word| {
        let word = String::from_utf8_lossy(word);
        let path = Path::new(word.as_ref());
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        HOST_AGENTS.contains(&name.strip_suffix(".js").unwrap_or(name)) || word.contains("/claude-code/")
    });
    HOST_AGENTS.contains(&name) || is_script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_agent_is_known_by_its_name_or_its_script() {
        assert!(is_host_agent("codex", b""));
        assert!(is_host_agent("node", b"node\0/usr/local/bin/codex\0exec\0"));
        assert!(is_host_agent("node", b"node\0/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js\0"));
        assert!(!is_host_agent("bash", b"bash\0-c\0codex exec\0"));
        assert!(!is_host_agent("vim", b"vim\0codex.md\0"));
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_hide_the_parent() {
        assert_eq!(parse_stat("7 (a) b (c) S 42 7 7 0"), Some((42, "a) b (c".to_owned())));
        assert_eq!(parse_stat("7 (sh) S 1 7"), Some((1, "sh".to_owned())));
        assert_eq!(parse_stat("nonsense"), None);
    }
}
