//! The server name in the first message of a TLS client, which is in the clear (RFC 8446, 4.1.2; RFC 6066, 3).

/// A record of the handshake protocol.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// Bytes of a record's header: type, version, length.
const RECORD_HEADER: usize = 5;
/// The alert that a name is not known here (RFC 6066), with its record's header.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What the first bytes of a client show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hello {
    /// More bytes are needed to tell.
    Partial,
    /// It names a server.
    Name(String),
    /// It is no TLS, or names none.
    NoName,
}

/// Looks at the first bytes of a client.
pub(crate) fn read(bytes: &[u8]) -> Hello {
    let (message, whole) = handshake(bytes);
    match parse(&message) {
        Parsed::Name(name) => Hello::Name(name),
        Parsed::NoName => Hello::NoName,
        Parsed::Short if whole == Whole::MayGoOn => Hello::Partial,
        Parsed::Short => Hello::NoName,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Whole {
    MayGoOn,
    Ended,
}

enum Parsed {
    Name(String),
    NoName,
    Short,
}

/// The handshake's bytes, out of the records they are cut into.
fn handshake(mut bytes: &[u8]) -> (Vec<u8>, Whole) {
    let mut message = Vec::new();
    loop {
        match bytes {
            [] => return (message, Whole::MayGoOn),
            [kind, ..] if *kind != HANDSHAKE => return (message, Whole::Ended),
            [_, major, ..] if *major != 3 => return (message, Whole::Ended),
            [_, _, _, high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length == 0 {
                    return (message, Whole::Ended);
                }
                message.extend_from_slice(&rest[..length.min(rest.len())]);
                bytes = bytes.get(RECORD_HEADER + length..).unwrap_or_default();
            }
            _ => return (message, Whole::MayGoOn),
        }
    }
}

/// A reader that takes from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What a length of so many bytes says follows it.
    fn vector(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(length_bytes)?;
        self.take(length)
    }
}

fn parse(message: &[u8]) -> Parsed {
    match message.first() {
        None => return Parsed::Short,
        Some(&kind) if kind != CLIENT_HELLO => return Parsed::NoName,
        Some(_) => {}
    }
    let Some(body) = Fields(&message[1..]).vector(3) else { return Parsed::Short };
    extensions(body).and_then(server_name).map_or(Parsed::NoName, Parsed::Name)
}

fn extensions(body: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(body);
    // Version and random, then the session's id, cipher suites, compression methods.
    fields.take(2 + 32)?;
    fields.vector(1)?;
    fields.vector(2)?;
    fields.vector(1)?;
    fields.vector(2)
}

fn server_name(extensions: &[u8]) -> Option<String> {
    let mut fields = Fields(extensions);
    loop {
        let kind = fields.number(2)?;
        let content = fields.vector(2)?;
        if kind == usize::from(SERVER_NAME) {
            let mut names = Fields(Fields(content).vector(2)?);
            let kind = names.number(1)?;
            let name = names.vector(2)?;
            return (kind == usize::from(HOST_NAME)).then(|| String::from_utf8_lossy(name).into_owned());
        }
    }
}

/// A client's hello that names this server, in records of at most `cut` bytes.
#[cfg(test)]
pub(crate) fn sample(name: &str, cut: usize) -> Vec<u8> {
    let vector = |bytes: usize, content: Vec<u8>| {
        [&content.len().to_be_bytes()[8 - bytes..], content.as_slice()].concat()
    };
    let entry = [&[HOST_NAME][..], &vector(2, name.as_bytes().to_vec())].concat();
    let grease = [&[0x0a, 0x0a][..], &vector(2, vec![0])].concat();
    let server_name = [&[0, 0][..], &vector(2, vector(2, entry))].concat();
    let mut body = [&[3, 3][..], &[7; 32]].concat();
    body.extend(vector(1, vec![9; 32]));
    body.extend(vector(2, vec![0x13, 1]));
    body.extend(vector(1, vec![0]));
    body.extend(vector(2, [grease, server_name].concat()));
    let message = [&[CLIENT_HELLO][..], &vector(3, body)].concat();
    let record = |piece: &[u8]| [&[HANDSHAKE, 3, 1][..], &vector(2, piece.to_vec())].concat();
    message.chunks(cut).flat_map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_name_is_read_however_the_message_is_cut() {
        for cut in [1, 3, 50, 16_000] {
            let bytes = sample("a.example", cut);
            assert_eq!(read(&bytes), Hello::Name("a.example".to_owned()));
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Hello::Partial, "{end} bytes, records of {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_tls_is_told_at_once() {
        for bytes in [&b"SSH-2.0-x"[..], b"G", &[22, 2], &[22, 3, 1, 0, 0], &[22, 3, 1, 0, 1, 2], &[23]] {
            assert_eq!(read(bytes), Hello::NoName, "{bytes:?}");
        }
        assert_eq!(read(&[]), Hello::Partial);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..200) {
            crate::net::proxy::fuzz::hello(&bytes);
            let mut sound = sample("a.example", 60);
            let at = at % sound.len();
            sound[at] = bytes.first().copied().unwrap_or(0);
            crate::net::proxy::fuzz::hello(&sound);
        }
    }
}
