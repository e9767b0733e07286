//! A journal or checkpoint taken apart and put together with right checksums, so that the fuzzer gets past
//! them. Written from `docs/on-disk-format.md`, not from the code it tests.

/// The workspace id of every store the fuzzer makes.
pub const WORKSPACE: [u8; 16] = [7; 16];
/// Version of the format the seeds are in; `make_seeds` writes them again when it changes.
pub const FORMAT: u32 = 3;
const MAGIC: &[u8; 8] = b"BFSLOG\r\n";
const HEADER_LEN: usize = 40;
const FRAME_LEN: usize = 24;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its sequence number.
    pub seq: u64,
    /// The first sequence number not known to be durable when it was written.
    pub durable: u64,
    /// What it says.
    pub payload: Vec<u8>,
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Sequence number of the first record, as the header has it.
    pub first: u64,
    /// The records.
    pub frames: Vec<Frame>,
}

impl Log {
    /// The records of a file up to the first that is cut short; checksums are not looked at.
    pub fn parse(bytes: &[u8]) -> Option<Log> {
        let first = u64_at(bytes, 28)?;
        let mut rest = bytes.get(HEADER_LEN..)?;
        let mut frames = Vec::new();
        while let Some((frame, after)) = frame(rest) {
            frames.push(frame);
            rest = after;
        }
        Some(Log { first, frames })
    }

    /// The file, with right lengths and checksums.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(FORMAT.to_le_bytes());
        out.extend(WORKSPACE);
        out.extend(self.first.to_le_bytes());
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        for frame in &self.frames {
            let at = out.len();
            out.extend((frame.payload.len() as u32).to_le_bytes());
            out.extend([0; 4]);
            out.extend(frame.seq.to_le_bytes());
            out.extend(frame.durable.to_le_bytes());
            out.extend(&frame.payload);
            let crc = crc32c::crc32c(&out[at + 8..]);
            out[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        }
        out
    }

    /// Sequence numbers as a writer would have given them.
    pub fn renumber(&mut self) {
        let mut seq = self.first;
        for frame in &mut self.frames {
            frame.seq = seq;
            seq = seq.wrapping_add(1);
        }
    }
}

/// How a reader must take the file: the good records from the start, and where they end.
pub fn good_prefix(bytes: &[u8]) -> (Vec<Frame>, usize) {
    let mut frames: Vec<Frame> = Vec::new();
    let mut expected = u64_at(bytes, 28);
    let mut at = HEADER_LEN;
    while let Some((frame, rest)) = bytes.get(at..).and_then(frame) {
        let whole = &bytes[at..bytes.len() - rest.len()];
        let sum = u32::from_le_bytes([whole[4], whole[5], whole[6], whole[7]]);
        if crc32c::crc32c(&whole[8..]) != sum || Some(frame.seq) != expected {
            break;
        }
        at += whole.len();
        expected = frame.seq.checked_add(1);
        frames.push(frame);
    }
    (frames, at)
}

fn frame(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    let len = u32::from_le_bytes(bytes.first_chunk().copied()?) as usize;
    let payload = bytes.get(FRAME_LEN..FRAME_LEN.checked_add(len)?).filter(|payload| !payload.is_empty())?;
    let frame = Frame { seq: u64_at(bytes, 8)?, durable: u64_at(bytes, 16)?, payload: payload.to_vec() };
    Some((frame, &bytes[FRAME_LEN + len..]))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.first_chunk().copied().map(u64::from_le_bytes)
}
