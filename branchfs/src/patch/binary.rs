//! `GIT binary patch`: content that is no text, whole, in zlib's format and base 85.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Bytes in one line; its first character says how many: `A`–`Z` 1–26, `a`–`z` 27–52.
const LINE: usize = 52;
const DIGITS: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// Both directions, so that the patch can be taken back, too.
pub(super) fn write(out: &mut dyn Write, old: &[u8], new: &[u8]) -> io::Result<()> {
    writeln!(out, "GIT binary patch")?;
    literal(out, new)?;
    literal(out, old)
}

fn literal(out: &mut dyn Write, content: &[u8]) -> io::Result<()> {
    writeln!(out, "literal {}", content.len())?;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content)?;
    for line in encoder.finish()?.chunks(LINE) {
        out.write_all(&encode(line))?;
    }
    writeln!(out)
}

fn encode(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u8;
    let mut line = vec![if length <= 26 { b'A' + length - 1 } else { b'a' + length - 27 }];
    for chunk in bytes.chunks(4) {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        let mut rest = u32::from_be_bytes(word);
        let mut digits = [0; 5];
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[(rest % 85) as usize];
            rest /= 85;
        }
        line.extend(digits);
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_their_length_and_are_padded_to_whole_words() {
        assert_eq!(encode(&[0]), b"A00000\n");
        assert_eq!(encode(&[0xff; 4]), b"D|NsC0\n");
        assert_eq!(encode(&[0; 26])[0], b'Z');
        assert_eq!(encode(&[0; 27])[0], b'a');
        assert_eq!(encode(&[0; 52])[0], b'z');
        assert_eq!(encode(&[0; 52]).len(), 1 + 65 + 1);
    }

    #[test]
    fn nothing_is_a_stream_of_nothing() {
        let mut out = Vec::new();
        literal(&mut out, b"").unwrap();
        let text = String::from_utf8(out).unwrap();
        // Eight bytes: header, one empty block, checksum.
        assert!(text.starts_with("literal 0\nH") && text.ends_with("\n\n"), "{text}");
        assert_eq!(text.lines().nth(1).map(str::len), Some(11));
    }
}
