//! Content that nobody needs as soon as the journal says so durably: until then a power failure may bring back what
//! speaks of it.

use std::collections::VecDeque;

use crate::content::Contents;
use crate::ids::{LayerId, NodeId};
use crate::measuring::allocated;

/// More files than this are not waited with.
const FILES_MAX: usize = 256;
/// More bytes than this are not.
const BYTES_MAX: u64 = 1 << 20;

/// What is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doomed {
    Layer(LayerId),
    File(LayerId, NodeId),
}

/// What waits for its end, and how much that is.
#[derive(Default)]
pub(super) struct Waiting {
    /// With the sequence number up to which the journal must be durable.
    all: VecDeque<(u64, Doomed)>,
    bytes: u64,
}

impl Waiting {
    /// A file that is made anew lives.
    pub(super) fn spare(&mut self, layer: LayerId, id: NodeId) {
        self.all.retain(|(_, doomed)| *doomed != Doomed::File(layer, id));
    }

    /// One that may go, as the journal is durable up to here.
    fn next(&mut self, durable: u64) -> Option<Doomed> {
        let ready = self.all.iter().position(|(upto, _)| *upto <= durable)?;
        let (_, doomed) = self.all.remove(ready)?;
        if self.all.is_empty() {
            self.bytes = 0;
        }
        Some(doomed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Contents {
    /// Something goes once the journal is durable up to a sequence number.
    pub(crate) fn doom(&self, upto: u64, doomed: Doomed) {
        let bytes = match doomed {
            Doomed::File(layer, id) => {
                // Nobody's any more: a branch with a limit has this space again.
                self.note_bytes(layer, id, 0);
                self.stat(layer, id).map_or(0, |stat| allocated(&stat))
            }
            Doomed::Layer(_) => 0,
        };
        let mut waiting = self.waiting.lock();
        waiting.all.push_back((upto, doomed));
        waiting.bytes += bytes;
    }

    /// Whether so much waits that the disk should have it back.
    pub(crate) fn is_waiting_long(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.all.len() > FILES_MAX || waiting.bytes > BYTES_MAX
    }

    /// What waits to be deleted.
    pub(crate) fn waiting(&self) -> Vec<Doomed> {
        self.waiting.lock().all.iter().map(|(_, doomed)| *doomed).collect()
    }

    /// The journal is durable up to here. What cannot be deleted costs space; recovery finds it.
    pub(crate) fn bury(&self, durable: u64) {
        while self.bury_one(durable) {}
    }

    /// Under the lock: whoever makes a file again spares it first, and waits for one deletion, not for all.
    fn bury_one(&self, durable: u64) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(doomed) = waiting.next(durable) else { return false };
        match doomed {
            Doomed::Layer(layer) => self.discard_layer(layer).ok(),
            Doomed::File(layer, id) => self.remove(layer, id).ok(),
        };
        true
    }
}
