//! Reading back. What follows the last durable record may be torn, or have holes after a power failure (H3):
//! it ends there. A bad record that a later one says was durable is damage, and named.

use crate::error::{Error, Result};
use crate::journal::record::Record;
use crate::journal::{FRAME_LEN, HEADER_LEN, Header, RECORD_MAX, u32_at, u64_at};

/// How the file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// After its last record.
    Clean,
    /// With bytes that are no record; they start at this offset.
    Torn(u64),
}

/// What may have happened to records that were not fsynced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsynced {
    /// Nothing: only the writer died, so a good record behind a bad one is damage.
    Kept,
    /// The machine went down: any of them may be missing (H3), and the journal ends before the first.
    MayBeGone,
}

/// Hands each record to `each`, in order; returns the sequence number after the last and how it ended.
///
/// # Errors
/// `Corrupt` naming offset and cause for a bad record in the middle, `Newer` for a newer format, and what
/// `each` returns.
pub(crate) fn scan(
    bytes: &[u8],
    file: &str,
    workspace: &[u8; 16],
    unsynced: Unsynced,
    mut each: impl FnMut(u64, Record) -> Result<()>,
) -> Result<(Header, u64, Tail)> {
    let header = Header::decode(bytes, file)?;
    if &header.workspace != workspace {
        let cause = "belongs to another store".to_owned();
        return Err(Error::Corrupt { file: file.to_owned(), offset: 12, cause });
    }
    let mut at = HEADER_LEN;
    let mut seq = header.first;
    while at < bytes.len() {
        match record_at(bytes, at, seq) {
            Ok((record, next)) => {
                each(at as u64, record)?;
                at = next;
                seq += 1;
            }
            Err(cause) => {
                if let Some(later) = find_later(bytes, at + 1, seq, unsynced) {
                    let cause = format!(
                        "{cause}, but the record at byte {later} is good and says that more must be here"
                    );
                    return Err(Error::Corrupt { file: file.to_owned(), offset: at as u64, cause });
                }
                return Ok((header, seq, Tail::Torn(at as u64)));
            }
        }
    }
    Ok((header, seq, Tail::Clean))
}

fn record_at(bytes: &[u8], at: usize, expected: u64) -> std::result::Result<(Record, usize), String> {
    let (payload, seq, next) = frame_at(bytes, at)?;
    if seq != expected {
        return Err(format!("record {seq} where {expected} was expected"));
    }
    let record = Record::decode(payload).map_err(|e| format!("record {seq} is malformed: {e}"))?;
    Ok((record, next))
}

fn frame_at(bytes: &[u8], at: usize) -> std::result::Result<(&[u8], u64, usize), String> {
    let rest = &bytes[at..];
    if rest.len() < FRAME_LEN {
        return Err("incomplete record".to_owned());
    }
    let len = u32_at(rest, 0) as usize;
    if len == 0 || len > RECORD_MAX {
        return Err(format!("impossible record length {len}"));
    }
    if rest.len() < FRAME_LEN + len {
        return Err("incomplete record".to_owned());
    }
    if crc32c::crc32c(&rest[8..FRAME_LEN + len]) != u32_at(rest, 4) {
        return Err("checksum does not match".to_owned());
    }
    Ok((&rest[FRAME_LEN..FRAME_LEN + len], u64_at(rest, 8), at + FRAME_LEN + len))
}

/// A good record at or after `from` that proves damage before it: any, or one that was written when record `seq`
/// was durable already. The sequence number is tried first: it makes the search cheap.
fn find_later(bytes: &[u8], from: usize, seq: u64, unsynced: Unsynced) -> Option<usize> {
    let last_possible = seq + (bytes.len() / FRAME_LEN) as u64;
    (from..bytes.len().saturating_sub(FRAME_LEN)).find(|at| {
        let candidate = u64_at(bytes, at + 8);
        let proves = unsynced == Unsynced::Kept || u64_at(bytes, at + 16) > seq;
        candidate >= seq && candidate <= last_possible && proves && frame_at(bytes, *at).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::ids::{BranchId, CommitId, Name, NodeId};
    use crate::journal::record::{Part, PartOf};
    use crate::journal::write_file;
    use crate::node::Slot;

    fn records() -> Vec<Record> {
        (0..20)
            .map(|i| Record::Abort { branches: vec![BranchId(i), BranchId(i * 1000)] })
            .chain([Record::Prune { upto: CommitId(1) }, Record::End])
            .collect()
    }

    fn file_of(records: &[Record]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let fd =
            rustix::fs::open(dir.path(), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        write_file(&Disk::default(), &fd, "journal.1", Header { workspace: [7; 16], first: 5 }, records)
            .unwrap();
        std::fs::read(dir.path().join("journal.1")).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Record>, Tail)> {
        let mut out = Vec::new();
        let (_, _, tail) = scan(bytes, "journal.1", &[7; 16], Unsynced::Kept, |_, record| {
            out.push(record);
            Ok(())
        })?;
        Ok((out, tail))
    }

    #[test]
    fn every_record_comes_back_in_order() {
        let (back, tail) = read(&file_of(&records())).unwrap();
        assert_eq!((back, tail), (records(), Tail::Clean));
    }

    /// Found by `fuzz/journal`: a part's sets came in whatever order a hash table had them.
    #[test]
    fn a_record_of_the_same_words_has_the_same_bytes() {
        let ids = (0..100).map(NodeId);
        let slot = |dir| Slot { dir, name: Name::trusted(b"name") };
        let part = |ids: &mut dyn Iterator<Item = NodeId>| {
            let objects: Vec<NodeId> = ids.collect();
            Part {
                names: objects.iter().copied().map(slot).collect(),
                objects: objects.into_iter().collect(),
            }
        };
        let bytes = |part| postcard::to_stdvec(&PartOf { changes: Vec::new(), part }).unwrap();
        assert_eq!(bytes(part(&mut ids.clone())), bytes(part(&mut ids.rev())));
    }

    #[test]
    fn a_file_cut_anywhere_gives_a_prefix_and_never_an_error_behind_the_header() {
        let whole = file_of(&records());
        for cut in HEADER_LEN..whole.len() {
            let (back, _) = read(&whole[..cut]).unwrap();
            assert_eq!(back[..], records()[..back.len()], "cut at {cut}");
        }
        for cut in 0..HEADER_LEN {
            assert!(matches!(read(&whole[..cut]), Err(Error::Corrupt { .. })), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_is_a_named_error_or_a_cut_of_the_last_record_and_never_a_wrong_record() {
        let whole = file_of(&records());
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match read(&bytes) {
                Ok((back, tail)) => {
                    assert_eq!(back.len(), records().len() - 1, "bit {bit}: {tail:?}");
                    assert_eq!(back[..], records()[..back.len()]);
                }
                Err(Error::Corrupt { .. } | Error::Newer { .. } | Error::Older { .. }) => {}
                Err(e) => panic!("bit {bit}: {e}"),
            }
        }
    }

    /// Found by `fuzz/journal`: counting on from the last number there is overflowed.
    #[test]
    fn a_first_sequence_number_that_cannot_be_counted_on_from_is_damage() {
        for first in [crate::journal::SEQUENCE_MAX + 1, u64::MAX] {
            let mut bytes = Header { workspace: [7; 16], first }.encode().to_vec();
            bytes.extend([0; 2 * FRAME_LEN]);
            assert!(matches!(read(&bytes), Err(Error::Corrupt { offset: 28, .. })), "{first}");
        }
    }
}
