//! Host objects in records. Inode numbers and times differ each time a workspace is unpacked, so records in an
//! archive hold tokens in their place: which entry, and what of it.

use std::collections::HashMap;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags};

/// Bytes no record begins a number with; then the kind, then the entry's number.
const MARK: [u8; 3] = [0xf9, 0xfa, 0xfb];
const TOKEN_LEN: usize = MARK.len() + 2;

/// What of an object a token stands for, the longest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All a fingerprint has.
    Print = b'F' as isize,
    /// Its first part: inode, device, birth.
    Identity = b'I' as isize,
    /// Device, inode.
    Key = b'K' as isize,
    /// The inode number, as a node's id.
    Node = b'N' as isize,
}

const PARTS: [Part; 4] = [Part::Print, Part::Identity, Part::Key, Part::Node];

/// The object's attributes.
pub fn stat(path: &Path) -> Option<Statx> {
    let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, flags).ok()
}

/// Puts the objects in the tokens' places. Unknown entries leave the token as it is.
pub fn fill(payload: &[u8], objects: &[Option<Statx>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len());
    let mut rest = payload;
    while let Some((byte, after)) = rest.split_first() {
        if let Some(bytes) = rest.strip_prefix(&MARK).and_then(|token| value(token, objects)) {
            out.extend(bytes);
            rest = &rest[TOKEN_LEN..];
        } else {
            out.push(*byte);
            rest = after;
        }
    }
    out
}

fn value(token: &[u8], objects: &[Option<Statx>]) -> Option<Vec<u8>> {
    let [kind, index] = token.first_chunk()?;
    let part = PARTS.into_iter().find(|part| *part as u8 == *kind)?;
    Some(encoded(part, objects.get(usize::from(*index))?.as_ref()?))
}

/// Puts tokens in the places of the objects that the payload speaks of.
pub fn extract(payload: &[u8], objects: &[Option<Statx>]) -> Vec<u8> {
    let mut known: HashMap<Vec<u8>, [u8; TOKEN_LEN]> = HashMap::new();
    for (index, object) in objects.iter().enumerate().take(usize::from(u8::MAX)) {
        let Some(object) = object else { continue };
        for part in PARTS {
            let token = [MARK[0], MARK[1], MARK[2], part as u8, index as u8];
            known.entry(encoded(part, object)).or_insert(token);
        }
    }
    let mut known: Vec<_> = known.into_iter().filter(|(bytes, _)| bytes.len() > 2).collect();
    known.sort_by_key(|(bytes, _)| std::cmp::Reverse(bytes.len()));
    let mut out = Vec::new();
    let mut rest = payload;
    while let Some((byte, after)) = rest.split_first() {
        match known.iter().find(|(bytes, _)| rest.starts_with(bytes)) {
            Some((bytes, token)) => {
                out.extend(token);
                rest = &rest[bytes.len()..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// As postcard encodes it.
fn encoded(part: Part, st: &Statx) -> Vec<u8> {
    let dev = u64::from(st.stx_dev_major) << 32 | u64::from(st.stx_dev_minor);
    let mut out = Vec::new();
    match part {
        Part::Node => varint(st.stx_ino, &mut out),
        Part::Key => [dev, st.stx_ino].into_iter().for_each(|n| varint(n, &mut out)),
        Part::Identity => identity(dev, st, &mut out),
        Part::Print => {
            identity(dev, st, &mut out);
            let mode = u32::from(st.stx_mode);
            let dir = mode & 0o170_000 == 0o040_000;
            out.push(kind(mode));
            let size = if dir { 0 } else { st.stx_size };
            for number in [u64::from(mode & 0o7777), u64::from(st.stx_uid), u64::from(st.stx_gid), size] {
                varint(number, &mut out);
            }
            for time in [&st.stx_mtime, &st.stx_ctime] {
                let (sec, nsec) = if dir { (0, 0) } else { (time.tv_sec, time.tv_nsec) };
                varint(zigzag(sec), &mut out);
                varint(u64::from(nsec), &mut out);
            }
        }
    }
    out
}

fn identity(dev: u64, st: &Statx, out: &mut Vec<u8>) {
    varint(st.stx_ino, out);
    varint(dev, out);
    varint(zigzag(st.stx_btime.tv_sec), out);
    varint(u64::from(st.stx_btime.tv_nsec), out);
}

/// Position in the engine's list of kinds.
fn kind(mode: u32) -> u8 {
    match mode & 0o170_000 {
        0o100_000 => 0,
        0o040_000 => 1,
        0o120_000 => 2,
        0o010_000 => 3,
        0o140_000 => 4,
        0o020_000 => 5,
        _ => 6,
    }
}

fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63) as u64
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}
