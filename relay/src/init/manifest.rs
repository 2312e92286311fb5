//! The files that init manages, and their content.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::block::Marks;
use super::change::{Decision, Mode};
use super::json_entry::Entry;
use super::paths::Homes;
use super::{block, ignore, json_entry, owned_file, toml_entry};

/// Commands that Claude Code need not ask for. Claude Code has no sandbox with a way through files, so the list
/// contains every command that a host agent uses. Commands for people (init, prune) and for programs (serve, hook, mcp)
/// are left out.
const ROUTINE: [&str; 15] = [
    "up", "down", "doctor", "launch", "run", "status", "logs", "events", "wait", "cancel", "resume", "retry",
    "extend", "explain", "notices",
];
/// Hook events at which host agents receive completion notices.
const EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop"];
/// Time limit of a hook, in seconds; a hook reads a few small files.
const HOOK_SECONDS: u32 = 10;
/// Path of the rules, below a `.codex` folder.
const RULES: &str = "rules/relay.rules";
/// Line with which a CLAUDE.md includes AGENTS.md.
const IMPORT: &str = "@AGENTS.md";

const SETTINGS_TEXT: &str = include_str!("content/relay.toml");
const RULES_TEXT: &str = include_str!("content/relay.rules");
const DELEGATION: &str = include_str!("content/delegation.md");
const SKILL_TEXT: &str = include_str!("content/skill.md");

/// A request to init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// MCP server and hooks for Codex.
    pub codex: bool,
    /// MCP server, hooks, permissions and instructions for Claude Code.
    pub claude: bool,
    /// For all projects of the user, if the program supports that.
    pub user: bool,
    /// Put or remove.
    pub mode: Mode,
}

/// A file managed by init.
pub(super) struct ManagedFile {
    pub(super) path: PathBuf,
    /// Folder that stays when all of init's files in it are removed.
    pub(super) base: PathBuf,
    /// True if the file belongs to the project, so that links must not lead out of it.
    pub(super) in_project: bool,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// The whole file.
    Whole(String),
    /// A marked block with this body.
    Block(Marks, String),
    /// A marked block with this body, unless the file includes AGENTS.md.
    BlockUnlessImported(Marks, String),
    /// A marked block that ignores these folders, without those ignored already.
    Ignored(Vec<String>),
    /// The MCP server in a `config.toml`.
    McpServer,
    /// These entries in JSON.
    Entries(Vec<Entry>),
}

impl Content {
    /// Compares the content to the existing text `there` and decides on the change.
    pub(super) fn decide(&self, there: Option<&str>, mode: Mode) -> Result<Decision, String> {
        match self {
            Self::Whole(text) => Ok(owned_file::decide_file(text, there, mode)),
            Self::BlockUnlessImported(..)
                if mode != Mode::Remove && there.is_some_and(|text| text.contains(IMPORT)) =>
            {
                Ok(Decision::nothing())
            }
            Self::Block(marks, body) | Self::BlockUnlessImported(marks, body) => {
                Ok(block::decide_block(*marks, body, there, mode))
            }
            Self::Ignored(folders) => {
                let body = ignore::missing(folders, &block::outside(Marks::Hash, there.unwrap_or_default()));
                Ok(block::decide_block(Marks::Hash, &body, there, mode))
            }
            Self::McpServer => toml_entry::decide_toml(there, mode),
            Self::Entries(entries) => json_entry::decide_json(entries, there, mode),
        }
    }
}

/// Rules files that Codex may read for the project at `root`, the project's own first. They need not exist.
pub fn rules_files(root: &Path, codex_home: Option<&Path>) -> Vec<PathBuf> {
    let project = root.join(".codex").join(RULES);
    std::iter::once(project).chain(codex_home.map(|home| home.join(RULES))).collect()
}

/// Returns all files of a request. A removal includes every file that init may have put into the project.
pub(super) fn managed_files(
    request: Request,
    root: &Path,
    homes: &Homes,
    ignored: Vec<String>,
) -> Vec<ManagedFile> {
    let removes = request.mode == Mode::Remove;
    let project = |path: &str, content| ManagedFile {
        path: root.join(path),
        base: root.to_owned(),
        in_project: true,
        content,
    };
    let section = format!("## Delegating a task with relay\n\n{DELEGATION}");
    let mut pieces = vec![
        project("platform/relay.toml", Content::Whole(SETTINGS_TEXT.to_owned())),
        project(".gitignore", Content::Ignored(ignored)),
        project("AGENTS.md", Content::Block(Marks::Html, section.clone())),
        project(
            ".agents/skills/relay/SKILL.md",
            Content::Whole(SKILL_TEXT.replace("@delegation@", DELEGATION)),
        ),
        project(".codex/rules/relay.rules", Content::Whole(RULES_TEXT.to_owned())),
    ];
    if removes || (request.codex && !request.user) {
        pieces.push(project(".codex/config.toml", Content::McpServer));
        pieces.push(project(".codex/hooks.json", Content::Entries(hooks())));
    }
    if removes || request.claude {
        pieces.push(project("CLAUDE.md", Content::BlockUnlessImported(Marks::Html, section)));
        pieces.push(project(".mcp.json", Content::Entries(vec![claude_server()])));
    }
    if removes || (request.claude && !request.user) {
        pieces.push(project(".claude/settings.json", Content::Entries(claude_settings())));
    }
    if request.user {
        pieces.extend(of_user(request, homes));
    }
    pieces
}

/// Returns the files outside of the project.
fn of_user(request: Request, homes: &Homes) -> Vec<ManagedFile> {
    let removes = request.mode == Mode::Remove;
    let mut pieces = Vec::new();
    let mut add = |home: &PathBuf, path: &str, content| {
        pieces.push(ManagedFile { path: home.join(path), base: home.clone(), in_project: false, content });
    };
    if let Some(home) = &homes.codex {
        add(home, RULES, Content::Whole(RULES_TEXT.to_owned()));
        if removes || request.codex {
            add(home, "config.toml", Content::McpServer);
            add(home, "hooks.json", Content::Entries(hooks()));
        }
    }
    if let Some(home) = homes.claude.as_ref().filter(|_| removes || request.claude) {
        add(home, "settings.json", Content::Entries(claude_settings()));
    }
    pieces
}

/// Returns the hook entries, which Codex and Claude Code write alike.
fn hooks() -> Vec<Entry> {
    let hook = |event: &'static str| {
        let command = format!("relay hook {event}");
        let group = json!({"hooks": [{"type": "command", "command": command, "timeout": HOOK_SECONDS}]});
        Entry::Element { at: vec!["hooks", event], value: group, kin: Some("relay hook ") }
    };
    EVENTS.into_iter().map(hook).collect()
}

fn claude_server() -> Entry {
    let value = json!({"command": "relay", "args": ["mcp"]});
    Entry::Property { at: vec!["mcpServers"], name: "relay", value }
}

fn claude_settings() -> Vec<Entry> {
    let commands = ROUTINE.map(|command| format!("Bash(relay {command}:*)"));
    // Tools of the MCP server.
    let allowed = commands.into_iter().chain(["mcp__relay".to_owned()]);
    let allow =
        |rule| Entry::Element { at: vec!["permissions", "allow"], value: Value::String(rule), kin: None };
    allowed.map(allow).chain(hooks()).collect()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
