//! The simulated network: connections that carry encoded frames in order, each direction at its own pace.

use std::collections::{BTreeMap, VecDeque};

/// Id of a connection; later connections have higher ids.
pub(crate) type ConnId = u64;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    frames: VecDeque<Vec<u8>>,
    /// True if every frame sent from now on is lost, without an error on either side.
    loses_frames: bool,
    /// True once the sender has closed: the end follows the frames still in flight.
    is_ended: bool,
}

/// Result of receiving from one direction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Frame(Vec<u8>),
    /// No frame is in flight.
    Nothing,
    Closed,
}

impl Direction {
    pub(crate) fn send(&mut self, frame: Vec<u8>) {
        if !self.loses_frames && !self.is_ended {
            self.frames.push_back(frame);
        }
    }

    pub(crate) fn receive(&mut self) -> Arrival {
        match self.frames.pop_front() {
            Some(frame) => Arrival::Frame(frame),
            None if self.is_ended => Arrival::Closed,
            None => Arrival::Nothing,
        }
    }

    /// Ends this direction. Of the frames in flight only the first `arriving` still arrive.
    pub(crate) fn end(&mut self, arriving: usize) {
        self.frames.truncate(arriving);
        self.is_ended = true;
    }

    pub(crate) fn lose_frames(&mut self) {
        self.loses_frames = true;
    }

    pub(crate) fn frames_in_flight(&self) -> usize {
        self.frames.len()
    }
}

/// A connection between agent and relay.
#[derive(Debug, Default)]
pub(crate) struct Conn {
    /// Direction from the agent.
    pub(crate) up: Direction,
    /// Direction to the agent.
    pub(crate) down: Direction,
    /// True while the relay serves the connection.
    pub(crate) is_served: bool,
}

/// All connections from which either end may still receive.
#[derive(Debug, Default)]
pub(crate) struct Network {
    conns: BTreeMap<ConnId, Conn>,
    last_id: ConnId,
}

impl Network {
    pub(crate) fn connect(&mut self) -> ConnId {
        self.last_id += 1;
        self.conns.insert(self.last_id, Conn { is_served: true, ..Conn::default() });
        self.last_id
    }

    pub(crate) fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    /// Ids of the connections that the relay serves.
    pub(crate) fn served_connections(&self) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, conn)| conn.is_served).map(|(id, _)| *id).collect()
    }

    /// Stops serving a connection: frames from the agent are lost; frames to the agent may still arrive.
    pub(crate) fn close(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.is_served = false;
            conn.up.end(0);
            conn.down.end(usize::MAX);
        }
    }

    /// Closes all connections after the relay's death.
    pub(crate) fn close_all(&mut self) {
        for id in self.served_connections() {
            self.close(id);
        }
    }

    /// Ends every connection of which one direction loses frames or has ended.
    pub(crate) fn end_broken_connections(&mut self) {
        for conn in self.conns.values_mut() {
            for direction in [&mut conn.up, &mut conn.down] {
                direction.is_ended |= direction.loses_frames;
            }
            if conn.up.is_ended || conn.down.is_ended {
                conn.up.is_ended = true;
                conn.down.is_ended = true;
            }
        }
    }

    /// Removes connections that neither end uses any more.
    pub(crate) fn remove_unused(&mut self, agent: Option<ConnId>) {
        self.conns.retain(|id, conn| conn.is_served || Some(*id) == agent);
    }
}
