//! `relay init`: the files that make a project ready for delegation, and their removal.
//!
//! ```text
//! request ──► manifest (the files and their content) ─┐
//!             paths (their real paths) ───────────────┴► plan: existing text ─► change ──► write (all or nothing)
//!                                                       owned_file │ block │ toml_entry │ json_entry   (pure)
//! ```
//!
//! Nothing is written before every file has been checked, and text that a person has changed stays. A checksum
//! ([`checksum`]) distinguishes it from text that init wrote.
//!
//! * [`manifest`]: the managed files, and their content.
//! * [`mod@plan`]: changes to all files of one `relay init`.
//! * [`paths`]: paths of the files, with links followed inside the project only.
//! * [`owned_file`]: files that belong to init as a whole.
//! * [`block`]: a marked block in a text.
//! * [`toml_entry`]: the table of relay in Codex's configuration.
//! * [`ignore`]: lines for `.gitignore`.
//! * [`json_entry`]: entries of hooks, permissions and MCP servers.
//! * [`change`]: the decision about one file.
//! * [`mod@write`]: execution of the plan.
//! * [`folder`]: access to folders without following links.

mod block;
mod change;
mod checksum;
pub mod folder;
mod ignore;
mod json_entry;
mod manifest;
mod owned_file;
mod paths;
mod plan;
mod toml_entry;
mod write;

pub use change::Mode;
pub use manifest::{InitRequest, rules_files};
pub use paths::AgentHomes;
pub use plan::{FileOutcome, InitPlan, PlannedFile, plan_files};
pub use write::{WriteFailure, execute_plan};
