//! Receipts: what was done for a job, in a form that others can check.
//!
//! ```text
//! the job has ended ─► statement ─► envelope, signed ─► receipts/NAME.N.json      (the daemon)
//!                                                            └─► relay receipt, relay verify
//! ```
//!
//! A receipt is an in-toto statement with the test-result predicate, in a DSSE envelope. The daemon signs it when the
//! result is published, since it alone has the facts from the agent's own connection and from the job's repository:
//! the registry lies in the project, where a session may write, so nothing is signed that was read from there. Key and
//! receipts are in the state folder, where no sandbox writes.
//!
//! * [`key`]: the project's Ed25519 key. [`envelope`]: DSSE. [`statement`]: the statement (pure). [`store`]: the files.

pub mod envelope;
pub mod key;
pub mod statement;
pub mod store;
