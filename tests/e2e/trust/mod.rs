//! What is protected from whom.

mod proof;
