//! Connections that carry encoded frames, in order or not at all, each direction at its own pace.

use std::collections::{BTreeMap, VecDeque};

/// Id of a connection; later connections have higher ids.
pub(crate) type ConnId = u64;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Way {
    frames: VecDeque<Vec<u8>>,
    /// Drops everything that is sent from now on, without an error on either side.
    lost: bool,
    /// The sender has closed: the end follows the frames still in flight.
    ended: bool,
}

/// Result of one receive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Frame(Vec<u8>),
    /// Nothing yet.
    Nothing,
    /// The end of the connection.
    End,
}

impl Way {
    pub(crate) fn send(&mut self, frame: Vec<u8>) {
        if !self.lost && !self.ended {
            self.frames.push_back(frame);
        }
    }

    pub(crate) fn receive(&mut self) -> Arrival {
        match self.frames.pop_front() {
            Some(frame) => Arrival::Frame(frame),
            None if self.ended => Arrival::End,
            None => Arrival::Nothing,
        }
    }

    /// Ends this direction; of the frames in flight the first `kept` still arrive.
    pub(crate) fn end(&mut self, kept: usize) {
        self.frames.truncate(kept);
        self.ended = true;
    }

    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    pub(crate) fn under_way(&self) -> usize {
        self.frames.len()
    }
}

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Conn {
    /// Direction from the agent.
    pub(crate) up: Way,
    /// Direction to the agent.
    pub(crate) down: Way,
    /// True while the relay serves the connection.
    pub(crate) served: bool,
}

/// All connections from which either end may still receive.
#[derive(Debug, Default)]
pub(crate) struct Network {
    conns: BTreeMap<ConnId, Conn>,
    last: ConnId,
}

impl Network {
    pub(crate) fn dial(&mut self) -> ConnId {
        self.last += 1;
        self.conns.insert(self.last, Conn { served: true, ..Conn::default() });
        self.last
    }

    pub(crate) fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    /// Ids of the connections that the relay serves.
    pub(crate) fn served(&self) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, conn)| conn.served).map(|(id, _)| *id).collect()
    }

    /// Stops serving a connection: frames that the agent has sent are lost, frames sent to it may still arrive.
    pub(crate) fn close(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.served = false;
            conn.up.end(0);
            conn.down.end(usize::MAX);
        }
    }

    /// Closes all connections after the relay's death.
    pub(crate) fn close_all(&mut self) {
        for id in self.served() {
            self.close(id);
        }
    }

    /// Stops all losses; ends each connection that has lost a frame.
    pub(crate) fn mend(&mut self) {
        for conn in self.conns.values_mut() {
            for way in [&mut conn.up, &mut conn.down] {
                way.ended |= way.lost;
            }
            // Neither end continues with half a connection.
            if conn.up.ended || conn.down.ended {
                conn.up.ended = true;
                conn.down.ended = true;
            }
        }
    }

    /// Removes connections that neither end uses any more.
    pub(crate) fn tidy(&mut self, agent: Option<ConnId>) {
        self.conns.retain(|id, conn| conn.served || Some(*id) == agent);
    }
}
