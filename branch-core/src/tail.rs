//! The end of an output, bounded.

use std::collections::VecDeque;

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// The last bytes written; what came before them is counted. In JSON `text` (bytes that are no UTF-8
/// replaced) and `dropped`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    bytes: VecDeque<u8>,
    max: usize,
    dropped: u64,
}

impl Tail {
    pub(crate) fn new(max: usize) -> Tail {
        Tail { bytes: VecDeque::new(), max, dropped: 0 }
    }

    /// The last bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.iter().copied().collect()
    }

    /// The last bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// How many bytes came before them and are lost.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend(piece);
        let excess = self.bytes.len().saturating_sub(self.max);
        self.bytes.drain(..excess);
        self.dropped += excess as u64;
        debug_assert!(self.bytes.len() <= self.max);
    }
}

impl Serialize for Tail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Tail", 2)?;
        object.serialize_field("text", &self.text())?;
        object.serialize_field("dropped", &self.dropped)?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_the_beginning_counted() {
        let mut tail = Tail::new(4);
        tail.push(b"ab");
        tail.push(b"cdef");
        assert_eq!((tail.bytes(), tail.dropped()), (b"cdef".to_vec(), 2));
        tail.push(b"0123456789");
        assert_eq!((tail.bytes(), tail.dropped()), (b"6789".to_vec(), 12));
    }
}
