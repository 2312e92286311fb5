//! Messages to the main loop: inputs of the core, with the channels that two of them need.

use common::wire::RelayFrame;
use tokio::sync::{mpsc, oneshot};

use super::core::{Admission, AgentId, Connection, Input};

/// Message to the main loop.
pub(super) enum Message {
    /// An agent asks for admission.
    Register { agent: AgentId, reply: oneshot::Sender<Admission> },
    /// An agent was welcomed after its hello; its connection ends when `outbound` is dropped.
    Connected { connection: Connection, outbound: mpsc::Sender<RelayFrame> },
    /// Any other input of the core.
    Input(Input),
}

impl From<Input> for Message {
    fn from(input: Input) -> Self {
        Self::Input(input)
    }
}
