//! Connections that carry encoded frames, in order or not at all, each direction at its own pace.

use std::collections::{BTreeMap, VecDeque};

/// Which connection: the later, the higher.
pub(crate) type ConnId = u64;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Way {
    frames: VecDeque<Vec<u8>>,
    /// What is sent from now on never arrives, though nobody is told.
    lost: bool,
    /// The sender is gone: behind what is still under way comes the end.
    ended: bool,
}

/// What a receiver finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A frame.
    Frame(Vec<u8>),
    /// Nothing yet.
    Nothing,
    /// The end.
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

    /// Ends it; of what is under way the first `kept` frames still arrive.
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
    /// From the agent.
    pub(crate) up: Way,
    /// To the agent.
    pub(crate) down: Way,
    /// Whether the relay still serves it.
    pub(crate) served: bool,
}

/// All connections that either end may still hear of.
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

    /// Those that the relay serves.
    pub(crate) fn served(&self) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, conn)| conn.served).map(|(id, _)| *id).collect()
    }

    /// The relay serves it no more: what the agent has sent is lost, what was sent to it may still arrive.
    pub(crate) fn close(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.served = false;
            conn.up.end(0);
            conn.down.end(usize::MAX);
        }
    }

    /// The relay has died.
    pub(crate) fn close_all(&mut self) {
        for id in self.served() {
            self.close(id);
        }
    }

    /// Nothing is lost from now on; a connection that has lost something ends.
    pub(crate) fn mend(&mut self) {
        for conn in self.conns.values_mut() {
            for way in [&mut conn.up, &mut conn.down] {
                way.ended |= way.lost;
            }
            // Neither end goes on with half a connection.
            if conn.up.ended || conn.down.ended {
                conn.up.ended = true;
                conn.down.ended = true;
            }
        }
    }

    /// Forgets what neither end looks at any more.
    pub(crate) fn tidy(&mut self, agent: Option<ConnId>) {
        self.conns.retain(|id, conn| conn.served || Some(*id) == agent);
    }
}
