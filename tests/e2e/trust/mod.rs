//! What a less trusted party may write, a more trusted one opens as data.

mod planted;
mod registry;
