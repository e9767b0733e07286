//! One frame: the length of the body as a `u32` in little endian, then the body, a JSON text.
//!
//! Nothing the peer sends can make the reader allocate more than it has received, or panic.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest body, in bytes, on both sides. The diff of a branch with some 300 000 changed paths fits.
pub const FRAME_MAX: usize = 64 << 20;
pub(crate) const HEADER_LEN: usize = 4;

const _: () = assert!(FRAME_MAX <= u32::MAX as usize, "the header is a u32");

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The body is longer than [`FRAME_MAX`]. When writing, nothing has been sent.
    #[error("a frame of {len} bytes is longer than the limit of {FRAME_MAX}")]
    TooLong {
        /// The length in the header, or of the body to write.
        len: u64,
    },
    /// The stream ended inside a frame.
    #[error("the connection ended inside a frame: {got} bytes of {expected}")]
    Truncated {
        /// Bytes this part of the frame (header or body) has.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// The frame was whole, but its body is not JSON of the expected type. The stream is still in step.
    #[error("malformed frame: {0}")]
    Malformed(#[source] serde_json::Error),
    /// The operating system refused.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
}

/// Writes one frame. [`FrameError::TooLong`] and [`FrameError::Malformed`] leave the stream untouched.
pub fn write_frame<T: Serialize>(mut to: impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode(message)?)?;
    Ok(to.flush()?)
}

/// Reads one frame; `None` when the stream ends before it.
pub fn read_frame<T: DeserializeOwned>(mut from: impl Read) -> Result<Option<T>, FrameError> {
    let mut header = [0; HEADER_LEN];
    let got = read_up_to(&mut from, &mut header)?;
    read_after_header(from, header, got)
}

/// Header and body in one buffer, so that a frame is one write.
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut buffer = vec![0; HEADER_LEN];
    serde_json::to_writer(&mut buffer, message).map_err(FrameError::Malformed)?;
    let len = buffer.len() - HEADER_LEN;
    if len > FRAME_MAX {
        return Err(FrameError::TooLong { len: len as u64 });
    }
    let header = u32::try_from(len).map_err(|_| FrameError::TooLong { len: len as u64 })?;
    buffer[..HEADER_LEN].copy_from_slice(&header.to_le_bytes());
    Ok(buffer)
}

/// The rest of a frame of whose header `got` bytes have been read, 0 meaning the end of the stream.
pub(crate) fn read_after_header<T: DeserializeOwned>(
    from: impl Read,
    header: [u8; HEADER_LEN],
    got: usize,
) -> Result<Option<T>, FrameError> {
    match got {
        0 => return Ok(None),
        HEADER_LEN => {}
        _ => return Err(FrameError::Truncated { expected: HEADER_LEN, got }),
    }
    let len = u32::from_le_bytes(header) as usize;
    if len > FRAME_MAX {
        return Err(FrameError::TooLong { len: len as u64 });
    }
    // `take` grows the buffer with what arrives: the length alone costs nothing.
    let mut body = Vec::new();
    let got = from.take(len as u64).read_to_end(&mut body)?;
    if got < len {
        return Err(FrameError::Truncated { expected: len, got });
    }
    serde_json::from_slice(&body).map(Some).map_err(FrameError::Malformed)
}

/// Fills `buffer` as far as the stream goes.
pub(crate) fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Request, Verb};

    fn list() -> Request {
        Request { id: 7, verb: Verb::List }
    }

    #[test]
    fn a_frame_comes_back_and_the_end_is_none() {
        let mut wire = Vec::new();
        write_frame(&mut wire, &list()).expect("fits");
        write_frame(&mut wire, &list()).expect("fits");
        let mut from = &wire[..];
        assert_eq!(read_frame::<Request>(&mut from).expect("whole"), Some(list()));
        assert_eq!(read_frame::<Request>(&mut from).expect("whole"), Some(list()));
        assert_eq!(read_frame::<Request>(&mut from).expect("clean end"), None);
    }

    #[test]
    fn a_cut_at_every_byte_is_truncated() {
        let whole = encode(&list()).expect("fits");
        for cut in 1..whole.len() {
            let error = read_frame::<Request>(&whole[..cut]).expect_err("cut short");
            assert!(matches!(error, FrameError::Truncated { .. }), "{cut}: {error}");
        }
    }

    #[test]
    fn an_oversized_length_is_refused_on_the_header_alone() {
        let header = (FRAME_MAX as u32 + 1).to_le_bytes();
        let error = read_frame::<Request>(&header[..]).expect_err("too long");
        assert!(matches!(error, FrameError::TooLong { len } if len == FRAME_MAX as u64 + 1));
    }

    #[test]
    fn an_oversized_body_is_refused_and_nothing_is_sent() {
        let mut wire = Vec::new();
        let error = write_frame(&mut wire, &"x".repeat(FRAME_MAX)).expect_err("two quotes too long");
        assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
        assert!(wire.is_empty());
    }

    #[test]
    fn a_malformed_body_leaves_the_stream_in_step() {
        let mut wire = Vec::new();
        wire.extend(5u32.to_le_bytes());
        wire.extend(b"nope!");
        write_frame(&mut wire, &list()).expect("fits");
        let mut from = &wire[..];
        assert!(matches!(read_frame::<Request>(&mut from), Err(FrameError::Malformed(_))));
        assert_eq!(read_frame::<Request>(&mut from).expect("in step"), Some(list()));
    }

    #[test]
    fn random_bytes_never_panic() {
        // xorshift, so that a failure can be replayed from the seed.
        for seed in 1..3000u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut bytes = Vec::new();
            for _ in 0..seed % 97 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.push(state as u8);
            }
            // Half of them with a truthful header, so that the JSON reader sees the noise too.
            if seed % 2 == 0 {
                let len = bytes.len() as u32;
                bytes.splice(..0, len.to_le_bytes());
            }
            let read = read_frame::<Request>(&bytes[..]);
            assert!(!matches!(read, Ok(Some(_))), "seed {seed} made a request of noise");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let body = "[".repeat(1 << 20);
        let mut wire = (body.len() as u32).to_le_bytes().to_vec();
        wire.extend(body.as_bytes());
        assert!(matches!(read_frame::<Request>(&wire[..]), Err(FrameError::Malformed(_))));
    }
}
