//! Permissions of one job, and counts of what it used and was refused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use common::event::EventBody;
use common::ids::JobId;
use common::refused_hosts::{self, RefusedHost};

use super::refusal::Refusal;
use super::secret_route::SecretRoutes;
use super::target::Target;
use crate::config::network::{AllowList, Permission};
use crate::daemon::writer::{WriterCommand, WriterHandle};

/// Network of one job. All connections of the job share it.
#[derive(Debug)]
pub(in crate::daemon) struct JobNetwork {
    job: JobId,
    allow: Arc<AllowList>,
    secrets: SecretRoutes,
    writer: WriterHandle,
    refused: Mutex<Vec<RefusedHost>>,
    connections: AtomicU64,
    bytes: AtomicU64,
    is_closed: AtomicBool,
}

impl JobNetwork {
    /// Creates the network of a job that was refused these hosts already.
    pub(in crate::daemon) fn new(
        job: JobId,
        (allow, secrets): (Arc<AllowList>, SecretRoutes),
        refused: Vec<RefusedHost>,
        writer: WriterHandle,
    ) -> Self {
        Self {
            job,
            allow,
            secrets,
            writer,
            refused: Mutex::new(refused),
            connections: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Returns the job.
    pub(super) fn job(&self) -> &JobId {
        &self.job
    }

    /// Returns the permission to connect to a target.
    pub(super) fn permission(&self, target: &Target) -> Result<Permission, Refusal> {
        if self.is_closed() {
            return Err(Refusal::JobEnded);
        }
        let permission = self.allow.permission(target.host(), target.port());
        permission.ok_or_else(|| Refusal::NotAllowed(target.to_string()))
    }

    /// Returns the way to the hosts of the secrets.
    pub(super) fn secret_routes(&self) -> Result<&SecretRoutes, Refusal> {
        if self.is_closed() { Err(Refusal::JobEnded) } else { Ok(&self.secrets) }
    }

    /// Counts a refused target, and records the first refusal of each and each tenfold as an event.
    pub(super) async fn count_refused(&self, target: &Target) {
        let reported = {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused_hosts::count_refusal(&mut refused, &target.to_string())
        };
        if let Some(refused) = reported.filter(|_| !self.is_closed()) {
            let (job, body) = (self.job.clone(), Box::new(EventBody::NetworkRefused(refused)));
            self.writer.send(WriterCommand::RecordRelayEvent { job, body }).await;
        }
    }

    /// Adds a connection that has ended, with its bytes in both directions.
    pub(in crate::daemon) fn add_connection(&self, bytes: u64) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Ends the job's use of the network: no further connection is made.
    pub(in crate::daemon) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let (connections, bytes) =
            (self.connections.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        tracing::info!("{}: {connections} connections to other hosts, {bytes} bytes", self.job);
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}
