//! Classification of a command line or a process: its kind, its title, and the limits that a rule sets for it. Pure.
//!
//! ```text
//!  command line ─► split: parts, words ─┐                                   ┌─► lookup (reads table) ─► kind
//!                                       ├─► programs: wrappers, shells off ─┤
//!  argv of a process ───────────────────┘    interpreter: node, python off  └─► title
//! ```
//!
//! * [`work`]: the result, and which results may be nested. * [`own`]: [`Rules`], with the rules of `relay.toml`, which
//!   take precedence. * [`mod@line`]: a command line, from Codex or a person. * [`argv`]: a process.
//! * [`table`]: the built-in rules, as data only. [`lookup`]: the search in them.
//! * [`split`]: the parts and words of a command line; [`nesting`]: the search for closing brackets. * [`programs`]:
//!   shells, wrappers, filters and commands that do no work. * [`interpreter`]: the program that an interpreter runs.
//! * [`title`]: short titles, secrets masked.

mod argv;
mod interpreter;
mod line;
mod lookup;
mod nesting;
mod own;
mod programs;
mod split;
mod table;
mod title;
mod work;

pub(crate) use argv::runs_a_program;
pub(crate) use line::{inner, words};
pub(crate) use own::Rules;
pub(crate) use work::{Work, level};
