//! Classification of a command line or a process: its kind, its title, and the limits that a rule sets for it. Pure.
//!
//! ```text
//!  command line ─► shell_lexer: words ─┐                                   ┌─► matcher (reads table) ─► kind
//!                                      ├─► programs: wrappers, shells off ─┤
//!  argv of a process ──────────────────┘    interpreter: node, python off  └─► title
//! ```
//!
//! * [`classification`]: the result of a classification, and the kinds that may be nested as steps.
//! * [`user_rules`]: [`Rules`], with the rules of `relay.toml`, which take precedence.
//! * [`command_line`]: classification of a command line; [`argv`]: classification of a process.
//! * [`table`]: the built-in rules, as data only; [`matcher`]: the search in the table.
//! * [`shell_lexer`]: the commands and words of a command line; [`delimiters`]: the search for closing brackets.
//! * [`programs`]: shells, wrappers, filters and commands that do no work.
//! * [`interpreter`]: the program that an interpreter runs; [`title`]: short titles, secrets masked.

mod argv;
mod classification;
mod command_line;
mod delimiters;
mod interpreter;
mod matcher;
mod programs;
mod shell_lexer;
mod table;
mod title;
mod user_rules;

pub(crate) use argv::is_program;
pub(crate) use classification::{Classification, nesting_level};
pub(crate) use command_line::{line_words, strip_shell};
pub(crate) use user_rules::Rules;
