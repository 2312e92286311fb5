//! `relay init`: the files that make a project ready for delegation, and taking them away again.
//!
//! ```text
//! request ──► pieces (which files, what in them) ─┐
//!             place (where they really lie) ──────┴► plan: text that is there ─► verdict ──► write (all or nothing)
//!                                                          whole │ block │ toml_entry │ json_entry   (pure)
//! ```
//!
//! Nothing is written before every file has been judged, and nothing that a person changed is touched: [`stamp`] tells what
//! init wrote from what somebody else did.
//!
//! * [`pieces`]: what belongs where. * [`mod@plan`]: all files of one call. * [`place`]: links are followed inside the project only.
//! * [`whole`]: files of init's own. * [`block`]: a marked part of a text. * [`toml_entry`]: a table in Codex's configuration.
//! * [`ignore`]: what `.gitignore` needs. * [`json_entry`]: entries of hooks, permissions and MCP servers. * [`verdict`]: what is done with one file.
//! * [`mod@write`]: doing it. [`folder`]: without following a link.

mod block;
pub mod folder;
mod ignore;
mod json_entry;
mod pieces;
mod place;
mod plan;
mod stamp;
mod toml_entry;
mod verdict;
mod whole;
mod write;

pub use pieces::{Request, rules_files};
pub use place::Homes;
pub use plan::{Outcome, Plan, Planned, plan};
pub use verdict::Wish;
pub use write::{Failed, carry_out};
