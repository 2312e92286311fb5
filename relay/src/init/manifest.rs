//! Files that init manages, and the content of these files.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::block::MarkerSyntax;
use super::change::{Decision, Mode};
use super::json_entry::JsonEntry;
use super::paths::AgentHomes;
use super::{block, ignore, json_entry, owned_file, toml_entry};

/// Commands that Claude Code may run without asking: those that launch, follow and end jobs, and those that show a
/// result. Claude Code asks for all others, such as `apply` and `merge`, which change the user's files.
const ALLOWED_COMMANDS: [&str; 17] = [
    "up", "down", "doctor", "launch", "run", "status", "logs", "events", "wait", "cancel", "resume", "retry",
    "extend", "explain", "notices", "diff", "compare",
];
/// Hook events at which host agents receive completion notices.
const HOOK_EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop"];
/// Time limit of a hook, in seconds. A hook only reads a few small files.
const HOOK_SECONDS: u32 = 10;
/// Path of the rules file, relative to a `.codex` folder.
const RULES_PATH: &str = "rules/relay.rules";
/// Line with which a CLAUDE.md includes AGENTS.md.
const AGENTS_IMPORT: &str = "@AGENTS.md";

const SETTINGS_TEXT: &str = include_str!("content/relay.toml");
const RULES_TEXT: &str = include_str!("content/relay.rules");
const DELEGATION_TEXT: &str = include_str!("content/delegation.md");
const SKILL_TEXT: &str = include_str!("content/skill.md");

/// Request to init: the parts to write or to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitRequest {
    /// True for the MCP server and the hooks for Codex.
    pub includes_codex: bool,
    /// True for MCP server, hooks, permissions and instructions for Claude Code.
    pub includes_claude: bool,
    /// True for all projects of the user, if the program supports that.
    pub is_for_user: bool,
    /// Requested state of the files.
    pub mode: Mode,
}

pub(super) struct ManagedFile {
    pub(super) path: PathBuf,
    /// Folder that stays even if all of init's files in it are removed.
    pub(super) base: PathBuf,
    /// True if the file belongs to the project, so that links must not lead out of it.
    pub(super) is_in_project: bool,
    pub(super) content: ManagedContent,
}

pub(super) enum ManagedContent {
    /// The text of the whole file.
    Whole(String),
    /// A marked block with this body.
    Block(MarkerSyntax, String),
    /// A marked block with this body, unless the file includes AGENTS.md.
    BlockUnlessImported(MarkerSyntax, String),
    /// A marked block of a `.gitignore` with these folders, except folders that are already ignored.
    IgnoreLines(Vec<String>),
    /// The MCP server in a `config.toml`.
    McpServer,
    /// These entries in a JSON file.
    JsonEntries(Vec<JsonEntry>),
}

impl ManagedContent {
    /// Compares the content to the existing text, and returns the change.
    pub(super) fn decide(&self, existing: Option<&str>, mode: Mode) -> Result<Decision, String> {
        match self {
            Self::Whole(text) => Ok(owned_file::decide_file(text, existing, mode)),
            Self::BlockUnlessImported(..)
                if mode != Mode::Remove && existing.is_some_and(|text| text.contains(AGENTS_IMPORT)) =>
            {
                Ok(Decision::nothing())
            }
            Self::Block(syntax, body) | Self::BlockUnlessImported(syntax, body) => {
                Ok(block::decide_block(*syntax, body, existing, mode))
            }
            Self::IgnoreLines(folders) => {
                let body = ignore::missing_lines(
                    folders,
                    &block::text_outside(MarkerSyntax::Hash, existing.unwrap_or_default()),
                );
                Ok(block::decide_block(MarkerSyntax::Hash, &body, existing, mode))
            }
            Self::McpServer => toml_entry::decide_toml(existing, mode),
            Self::JsonEntries(entries) => json_entry::decide_json(entries, existing, mode),
        }
    }
}

/// Returns the rules files that Codex may read for the project at `root`, the project's own first. They need not exist.
pub fn rules_files(root: &Path, codex_home: Option<&Path>) -> Vec<PathBuf> {
    let project = root.join(".codex").join(RULES_PATH);
    std::iter::once(project).chain(codex_home.map(|home| home.join(RULES_PATH))).collect()
}

/// Returns all files of a request. A removal includes every file that init may have put into the project.
pub(super) fn managed_files(
    request: InitRequest,
    root: &Path,
    homes: &AgentHomes,
    ignored_folders: Vec<String>,
) -> Vec<ManagedFile> {
    let is_removal = request.mode == Mode::Remove;
    let project = |path: &str, content| ManagedFile {
        path: root.join(path),
        base: root.to_owned(),
        is_in_project: true,
        content,
    };
    let section = format!("## Delegating a task with relay\n\n{DELEGATION_TEXT}");
    let mut files = vec![
        project("platform/relay.toml", ManagedContent::Whole(SETTINGS_TEXT.to_owned())),
        project(".gitignore", ManagedContent::IgnoreLines(ignored_folders)),
        project("AGENTS.md", ManagedContent::Block(MarkerSyntax::Html, section.clone())),
        project(
            ".agents/skills/relay/SKILL.md",
            ManagedContent::Whole(SKILL_TEXT.replace("@delegation@", DELEGATION_TEXT)),
        ),
        project(".codex/rules/relay.rules", ManagedContent::Whole(RULES_TEXT.to_owned())),
    ];
    if is_removal || (request.includes_codex && !request.is_for_user) {
        files.push(project(".codex/config.toml", ManagedContent::McpServer));
        files.push(project(".codex/hooks.json", ManagedContent::JsonEntries(hook_entries())));
    }
    if is_removal || request.includes_claude {
        files.push(project("CLAUDE.md", ManagedContent::BlockUnlessImported(MarkerSyntax::Html, section)));
        files.push(project(".mcp.json", ManagedContent::JsonEntries(vec![claude_server_entry()])));
    }
    if is_removal || (request.includes_claude && !request.is_for_user) {
        files.push(project(".claude/settings.json", ManagedContent::JsonEntries(claude_settings_entries())));
    }
    if request.is_for_user {
        files.extend(user_files(request, homes));
    }
    files
}

/// Returns the files outside of the project that a request for all of the user's projects includes.
fn user_files(request: InitRequest, homes: &AgentHomes) -> Vec<ManagedFile> {
    let is_removal = request.mode == Mode::Remove;
    let mut files = Vec::new();
    let mut add = |home: &PathBuf, path: &str, content| {
        files.push(ManagedFile { path: home.join(path), base: home.clone(), is_in_project: false, content });
    };
    if let Some(home) = &homes.codex {
        add(home, RULES_PATH, ManagedContent::Whole(RULES_TEXT.to_owned()));
        if is_removal || request.includes_codex {
            add(home, "config.toml", ManagedContent::McpServer);
            add(home, "hooks.json", ManagedContent::JsonEntries(hook_entries()));
        }
    }
    if let Some(home) = homes.claude.as_ref().filter(|_| is_removal || request.includes_claude) {
        add(home, "settings.json", ManagedContent::JsonEntries(claude_settings_entries()));
    }
    files
}

/// Returns the hook entries, which have the same form in Codex and Claude Code.
fn hook_entries() -> Vec<JsonEntry> {
    let hook = |event: &'static str| {
        let command = format!("relay hook {event}");
        let group = json!({"hooks": [{"type": "command", "command": command, "timeout": HOOK_SECONDS}]});
        JsonEntry::Element { array_path: vec!["hooks", event], value: group, own_marker: Some("relay hook ") }
    };
    HOOK_EVENTS.into_iter().map(hook).collect()
}

fn claude_server_entry() -> JsonEntry {
    let value = json!({"command": "relay", "args": ["mcp"]});
    JsonEntry::Property { object_path: vec!["mcpServers"], name: "relay", value }
}

fn claude_settings_entries() -> Vec<JsonEntry> {
    let commands = ALLOWED_COMMANDS.map(|command| format!("Bash(relay {command}:*)"));
    // The rule `mcp__relay` allows all tools of the MCP server.
    let allowed = commands.into_iter().chain(["mcp__relay".to_owned()]);
    let allow = |rule| JsonEntry::Element {
        array_path: vec!["permissions", "allow"],
        value: Value::String(rule),
        own_marker: None,
    };
    allowed.map(allow).chain(hook_entries()).collect()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
