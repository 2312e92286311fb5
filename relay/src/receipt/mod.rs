//! Receipts: signed statements of what a job did, which others can check.
//!
//! ```text
//! the job has ended ─► statement ─► envelope, signed ─► receipts/NAME.N.json      (the daemon)
//!                                                            └─► relay receipt, relay verify
//! ```
//!
//! A receipt is an in-toto statement with the test-result predicate, in a DSSE envelope. The daemon signs it when the
//! result is published, because only the daemon has the facts from the agent's own connection and from the job's
//! repository. The registry lies in the project, where a session may write, so the daemon signs nothing that it read
//! from the registry. Key and receipts are in the state folder, where no sandbox writes.
//!
//! * [`key`]: the project's Ed25519 key. [`envelope`]: DSSE. [`statement`]: the statement (pure). [`store`]: the files.

pub mod envelope;
pub mod key;
pub mod statement;
pub mod store;
