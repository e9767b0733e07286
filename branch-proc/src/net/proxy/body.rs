//! Where a message's body ends. Bytes are passed on as they are, so what is passed is held to the letter of
//! RFC 9112: a reader beyond the proxy must come to the same end.

use crate::net::proxy::limits::CHUNK_LINE_MAX;

/// How a body is delimited, and how much of it has been passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes are to come.
    Length(u64),
    /// In chunks (RFC 9112, 7.1).
    Chunked(Chunks),
    /// To the end of the connection.
    ToTheEnd,
}

/// Which parts of the chunked coding are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extras {
    /// Chunk extensions and trailers, as some servers send them.
    Pass,
    /// Sizes and data only: readers differ in the rest, and hardly a client sends it.
    Refuse,
}

/// A reader of chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunks {
    at: At,
    extras: Extras,
    /// Bytes of the line being read.
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the digits of a size; None before the first.
    Size(Option<u64>),
    /// In what follows the digits.
    Extension(u64),
    /// Before the line feed of a size's line.
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the beginning of a line of the trailer.
    Trailer,
    TrailerLine,
    TrailerLineEnd,
    LastLf,
    Done,
}

impl Body {
    pub(crate) fn chunked(extras: Extras) -> Body {
        Body::Chunked(Chunks { at: At::Size(None), extras, line: 0 })
    }

    /// How many of these bytes belong to the body and are sound.
    ///
    /// # Errors
    /// What is wrong with the coding.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        match self {
            Body::ToTheEnd => Ok(bytes.len()),
            Body::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                Ok(count)
            }
            Body::Chunked(chunks) => chunks.pass(bytes),
        }
    }

    /// Whether nothing more can come.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunks) => chunks.at == At::Done,
            Body::ToTheEnd => false,
        }
    }

    /// Whether the sender may end the connection here.
    pub(crate) fn may_end(&self) -> bool {
        *self == Body::ToTheEnd || self.is_complete()
    }
}

impl Chunks {
    fn pass(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut passed = 0;
        while let Some(&byte) = bytes.get(passed) {
            match self.at {
                At::Done => break,
                At::Data(left) => {
                    let here = (bytes.len() - passed) as u64;
                    let count = left.min(here);
                    self.at = if count == left { At::DataCr } else { At::Data(left - count) };
                    passed += count as usize;
                }
                _ => {
                    self.step(byte)?;
                    passed += 1;
                }
            }
        }
        Ok(passed)
    }

    fn step(&mut self, byte: u8) -> Result<(), &'static str> {
        self.line += 1;
        if self.line > CHUNK_LINE_MAX {
            return Err("a line of the chunked coding is too long");
        }
        self.at = self.next(byte)?;
        if matches!(self.at, At::Data(_) | At::Size(None) | At::Trailer) {
            self.line = 0;
        }
        Ok(())
    }

    fn next(&self, byte: u8) -> Result<At, &'static str> {
        let refused = Err("chunk extensions and trailers are not passed on");
        match (self.at, byte) {
            (At::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = u64::from((byte as char).to_digit(16).unwrap_or(0));
                let size = size.unwrap_or(0).checked_mul(16).ok_or("a chunk is too large")?;
                Ok(At::Size(Some(size | digit)))
            }
            (At::Size(Some(size)) | At::Extension(size), b'\r') => Ok(At::SizeEnd(size)),
            (At::Size(Some(size)), b';' | b' ' | b'\t') if self.extras == Extras::Pass => {
                Ok(At::Extension(size))
            }
            (At::Size(Some(_)), b';' | b' ' | b'\t') => refused,
            (At::Extension(size), byte) if byte != b'\n' => Ok(At::Extension(size)),
            (At::SizeEnd(0), b'\n') => Ok(At::Trailer),
            (At::SizeEnd(size), b'\n') => Ok(At::Data(size)),
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size(None)),
            (At::Trailer, b'\r') => Ok(At::LastLf),
            (At::LastLf, b'\n') => Ok(At::Done),
            (At::Trailer, byte) if byte != b'\n' && self.extras == Extras::Pass => Ok(At::TrailerLine),
            (At::Trailer, byte) if byte != b'\n' => refused,
            (At::TrailerLine, b'\r') => Ok(At::TrailerLineEnd),
            (At::TrailerLine, byte) if byte != b'\n' => Ok(At::TrailerLine),
            (At::TrailerLineEnd, b'\n') => Ok(At::Trailer),
            _ => Err("the chunked coding is broken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How much of the text is body, and whether it is whole.
    fn passed(extras: Extras, text: &[u8]) -> Result<(usize, bool), &'static str> {
        let mut body = Body::chunked(extras);
        body.pass(text).map(|count| (count, body.is_complete()))
    }

    #[test]
    fn a_length_takes_its_bytes_and_no_more() {
        let mut body = Body::Length(5);
        assert_eq!((body.pass(b"abc"), body.may_end()), (Ok(3), false));
        assert_eq!((body.pass(b"defg"), body.is_complete()), (Ok(2), true));
        assert!(Body::Length(0).is_complete() && !Body::ToTheEnd.is_complete() && Body::ToTheEnd.may_end());
    }

    #[test]
    fn chunks_end_where_they_say() {
        let text = b"5\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\nGET / HTTP/1.1";
        let end = text.len() - b"GET / HTTP/1.1".len();
        for extras in [Extras::Pass, Extras::Refuse] {
            assert_eq!(passed(extras, text), Ok((end, true)));
        }
        let rich = b"5 ;a=\"b\"\r\nhello\r\n0\r\nSum: 1\r\nOther: 2\r\n\r\nrest";
        assert_eq!(passed(Extras::Pass, rich), Ok((rich.len() - 4, true)));
        assert!(passed(Extras::Refuse, rich).is_err());
        assert!(passed(Extras::Refuse, b"0\r\nHost: evil\r\n\r\n").is_err());
    }

    #[test]
    fn coding_that_readers_take_differently_is_refused() {
        for text in [
            "5\nhello",
            "\r\n",
            "5\rhello",
            "+5\r\n",
            "0x5\r\n",
            "-1\r\n",
            "g\r\n",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "5\r\nhello\r0",
            "5;a\n\r\n",
            "0\r\n\n",
            "0\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\n\r0",
            "10000000000000000\r\n",
            "fffffffffffffffff\r\n",
            " 5\r\n",
            "\u{0}5\r\n",
        ] {
            for extras in [Extras::Pass, Extras::Refuse] {
                assert!(passed(extras, text.as_bytes()).is_err(), "{text:?} was taken");
            }
        }
        let endless = [b"5;".as_slice(), &[b'a'; CHUNK_LINE_MAX]].concat();
        assert!(passed(Extras::Pass, &endless).is_err());
        assert_eq!(passed(Extras::Refuse, b"ffffffffffffffff\r\nx"), Ok((19, false)));
    }

    proptest! {
        #[test]
        fn any_bytes_end_at_the_same_place_in_whatever_pieces_they_come(text in "([0-9a-f]{0,2}[;\r\n]{0,3}[a-c]{0,4}\r?\n?){0,6}(0\r\n\r\n)?.{0,3}") {
            crate::net::proxy::fuzz::chunks(text.as_bytes());
        }

        #[test]
        fn it_does_not_matter_in_which_pieces_bytes_come(
            text in "([0-9a-f]{0,2}[;\r\n]{0,3}[a-c]{0,4}\r?\n?){0,6}(0\r\n\r\n)?.{0,3}", cut in 0usize..40,
        ) {
            let text = text.as_bytes();
            let cut = cut.min(text.len());
            let mut pieces = Body::chunked(Extras::Pass);
            let in_two = pieces.pass(&text[..cut]).and_then(|first| {
                if first < cut { Ok(first) } else { pieces.pass(&text[cut..]).map(|second| first + second) }
            });
            prop_assert_eq!(in_two, passed(Extras::Pass, text).map(|(count, _)| count));
        }

        #[test]
        fn every_body_in_chunks_comes_through_whole(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend(format!("{:x}\r\n", chunk.len()).bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
            let end = text.len();
            text.extend(rest);
            prop_assert_eq!(passed(Extras::Refuse, &text), Ok((end, true)));
        }
    }
}
