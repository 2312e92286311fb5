//! State that all connections of agents and subscribers share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::FromRef;
use tokio::sync::mpsc;

use super::job_repositories::JobRepositories;
use super::message::Message;
use super::model_access::ModelAccess;
use super::network_access::NetworkAccess;
use super::receipts::ReceivedEvidence;
use super::subscribe::Subscribers;
use super::tls::TlsIdentity;
use super::writer::WriterHandle;
use crate::output::store::Outputs;
use crate::state_dir::tokens::AgentTokens;
use crate::time::Clock;

/// Shared state of all connections.
#[derive(Clone)]
pub(super) struct AppState {
    /// Verifies the agents' tokens.
    pub(super) tokens: AgentTokens,
    /// TLS identity of this relay, pinned by agents.
    pub(super) identity: TlsIdentity,
    /// Writer of the registry, which receives the agents' events.
    pub(super) writer: WriterHandle,
    /// Queue of the main loop, which receives all other messages.
    pub(super) core: mpsc::Sender<Message>,
    /// Repositories of the jobs that have a clone of their own.
    pub(super) repositories: JobRepositories,
    /// Output of the jobs.
    pub(super) outputs: Outputs,
    /// Access of jobs to the model, if any of them may reach it through this relay.
    pub(super) model: Option<ModelAccess>,
    /// Access of jobs to other hosts, if any of them may have no network of their own.
    pub(super) network: Option<NetworkAccess>,
    /// Evidence that agents reported, for receipts.
    pub(super) evidence: ReceivedEvidence,
    /// Shared state of the subscribers.
    pub(super) subscribers: Subscribers,
    /// Time source of records.
    pub(super) clock: Clock,
    /// Counter that numbers the connections of agents.
    pub(super) connection_counter: Arc<AtomicU64>,
}

impl FromRef<AppState> for Subscribers {
    fn from_ref(app: &AppState) -> Self {
        app.subscribers.clone()
    }
}
