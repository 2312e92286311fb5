//! Connections of the simulated relay: handshakes, acknowledgements and silent connections.

use common::wire::{Hello, PING_INTERVAL, RelayFrame};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::SimRelay;
use super::world::SimConnection;
use super::world::{Outgoing, PlantedBug};
use crate::daemon::core::{Connection, ConnectionId, Input};
use crate::daemon::frames;
use crate::daemon::latest_map::LatestMap;
use crate::daemon::liveness::IdleTimeout;
use crate::daemon::writer::WriterCommand;
use crate::state_dir::tokens::HolderKind;

impl SimRelay {
    pub(super) fn receive_hello(&mut self, id: u64, hello: Hello) {
        let connection_id = ConnectionId { agent: hello.agent.as_str().into(), number: id };
        let (reply, durable) = oneshot::channel();
        let jobs = hello.jobs.clone();
        self.write(WriterCommand::QueryDurable { connection_id: connection_id.clone(), jobs, reply });
        let now = self.driver.environment.now;
        let connection = SimConnection {
            id: connection_id,
            idle_timeout: IdleTimeout::starting_at(now.into()),
            next_ping: now,
            hello,
            receipts: LatestMap::new(),
            durable_answer: Some(durable),
        };
        self.driver.environment.connections.insert(id, connection);
    }

    /// Acknowledges the data that a commit has made durable.
    pub(super) fn acknowledge(&mut self, id: u64) {
        let world = &mut self.driver.environment;
        let Some(connection) = world.connections.get(&id) else { return };
        for (job, receipt) in connection.receipts.take_all().now_or_never().unwrap_or_default() {
            match frames::acknowledgement(job, receipt) {
                Ok(frames) => frames.into_iter().for_each(|frame| world.send(id, frame)),
                Err(reason) => return world.close(id, &reason),
            }
        }
    }

    /// Welcomes an agent once the durable state of its jobs is known.
    pub(super) fn welcome(&mut self, id: u64) {
        let world = &mut self.driver.environment;
        let Some(connection) = world.connections.get_mut(&id) else { return };
        let Some(reply) = &mut connection.durable_answer else { return };
        let durable = match reply.try_recv() {
            Ok(durable) => durable,
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => {
                return world.close(id, "the registry can't be read");
            }
        };
        connection.durable_answer = None;
        if world.planted_bug == Some(PlantedBug::DropsWholeHello)
            && durable.len() < connection.hello.jobs.len()
        {
            return world.close(id, "the registry can't be read");
        }
        let mut hello = connection.hello.clone();
        world.full_agents.remove(&connection.id.agent);
        frames::remove_closed_jobs(&mut hello, &durable);
        let (protocol, now) = (hello.protocol_max, world.clock.now());
        world.send(id, RelayFrame::Welcome { protocol, durable, exit_cause: None, now });
        self.handle(Input::Connected(Connection { number: id, hello, holder: HolderKind::Platform }));
    }

    /// Handles the end of a connection.
    pub fn disconnect(&mut self, id: u64) -> Vec<(u64, Outgoing)> {
        if let Some(connection) = self.driver.environment.connections.remove(&id) {
            let reason = "it was cut".to_owned();
            self.handle(Input::Disconnected { connection_id: connection.id, reason });
        }
        self.take_outgoing()
    }

    /// Pings a connection, or closes a silent one.
    pub(super) fn check_connection(&mut self, id: u64) {
        let world = &mut self.driver.environment;
        let now = world.now;
        let Some(connection) = world.connections.get_mut(&id) else { return };
        if connection.idle_timeout.check_expired(now.into()) {
            return world.close(id, "no message from the agent");
        }
        if connection.durable_answer.is_none() && connection.next_ping <= now {
            connection.next_ping = now + PING_INTERVAL;
            world.send(id, RelayFrame::Ping { nonce: id });
        }
    }
}
