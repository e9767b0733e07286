//! What a recorded disk was told, in order, and how it is written down: kind, offset, length, bytes.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};

/// One request to the disk.
pub(crate) enum Request {
    /// New bytes.
    Write { offset: u64, bytes: Vec<u8> },
    /// A discard, or a request for zeros.
    Zero { offset: u64, len: u64 },
    /// Everything answered before is to survive a power failure.
    Flush,
}

/// A request and where it begins in the log.
pub(crate) struct Logged {
    pub(crate) position: u64,
    pub(crate) request: Request,
}

impl Request {
    /// In one write: whoever looks at the length of the log sees whole requests.
    pub(crate) fn append(&self, log: &mut File) -> io::Result<()> {
        let (kind, offset, len, bytes) = match self {
            Request::Write { offset, bytes } => (b'w', *offset, bytes.len() as u64, &bytes[..]),
            Request::Zero { offset, len } => (b'z', *offset, *len, &[][..]),
            Request::Flush => (b'f', 0, 0, &[][..]),
        };
        let mut entry = vec![kind];
        entry.extend_from_slice(&offset.to_le_bytes());
        entry.extend_from_slice(&len.to_le_bytes());
        entry.extend_from_slice(bytes);
        log.write_all(&entry)
    }

    fn read(log: &mut impl Read) -> io::Result<Request> {
        let mut head = [0; 17];
        log.read_exact(&mut head)?;
        let offset = u64::from_le_bytes(head[1..9].try_into().unwrap());
        let len = u64::from_le_bytes(head[9..].try_into().unwrap());
        Ok(match head[0] {
            b'w' => {
                let mut bytes = vec![0; len as usize];
                log.read_exact(&mut bytes)?;
                Request::Write { offset, bytes }
            }
            b'z' => Request::Zero { offset, len },
            b'f' => Request::Flush,
            other => panic!("no kind of request: {other}"),
        })
    }
}

/// The whole log, from the beginning of the file.
pub(crate) fn read_all(log: &File) -> Vec<Logged> {
    let end = log.metadata().unwrap().len();
    let (mut log, mut position) = (BufReader::new(log), 0);
    let mut all = Vec::new();
    while position < end {
        let request = Request::read(&mut log).unwrap();
        let len = match &request {
            Request::Write { bytes, .. } => bytes.len() as u64,
            Request::Zero { .. } | Request::Flush => 0,
        };
        all.push(Logged { position, request });
        position += 17 + len;
    }
    all
}
