//! POSIX access control lists, pure: what the bytes of the two attributes say, and whether they may. The layout
//! is that of Linux (`include/uapi/linux/posix_acl_xattr.h`), the words are those of acl(5).
//!
//! The kernel checks permissions by them; what is ours is that ACL and mode agree, and who inherits what: the
//! rules are in [`rules`].

use rustix::io::Errno;

mod rules;

/// The attribute that holds the access ACL.
pub(super) const ACCESS: &[u8] = branch_store::ACL_ACCESS;
/// The attribute that holds a directory's default ACL.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_LEN: usize = 8;
/// No user and no group has this number; entries that name nobody carry it.
const NOBODY: u32 = u32::MAX;
const ALL: u16 = 7;

/// A valid ACL: in the order of acl(5), each obligatory entry once, a mask where somebody is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    who: Who,
    /// Read, write, execute: `0..=7`.
    permissions: u32,
}

/// In the order in which an ACL has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    UserObj,
    User(u32),
    GroupObj,
    Group(u32),
    Mask,
    Other,
}

impl Acl {
    /// Decodes an attribute's value. A header without entries is no ACL at all.
    ///
    /// # Errors
    /// EOPNOTSUPP for another version, EINVAL for what is no ACL, as Linux.
    pub(super) fn decode(value: &[u8]) -> Result<Option<Acl>, Errno> {
        let (version, entries) = value.split_first_chunk().ok_or(Errno::INVAL)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::OPNOTSUPP);
        }
        let (entries, rest) = entries.as_chunks::<ENTRY_LEN>();
        if !rest.is_empty() {
            return Err(Errno::INVAL);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let entries = entries.iter().map(Entry::decode).collect::<Result<_, _>>()?;
        let acl = Acl { entries };
        if acl.is_valid() { Ok(Some(acl)) } else { Err(Errno::INVAL) }
    }

    /// The attribute's value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(size_of_val(&VERSION) + self.entries.len() * ENTRY_LEN);
        value.extend(VERSION.to_le_bytes());
        for entry in &self.entries {
            value.extend(entry.encode());
        }
        value
    }

    /// Users or groups may be named twice, as for Linux: the first entry counts.
    fn is_valid(&self) -> bool {
        let ranks = || self.entries.iter().map(|entry| entry.who.rank());
        let once = |wanted: Who| ranks().filter(|rank| *rank == wanted.rank()).count();
        let named = self.entries.iter().any(|entry| matches!(entry.who, Who::User(_) | Who::Group(_)));
        ranks().is_sorted()
            && [Who::UserObj, Who::GroupObj, Who::Other].into_iter().all(|who| once(who) == 1)
            && (usize::from(named)..=1).contains(&once(Who::Mask))
    }
}

impl Entry {
    fn decode(bytes: &[u8; ENTRY_LEN]) -> Result<Entry, Errno> {
        let [t0, t1, p0, p1, id @ ..] = *bytes;
        let (tag, permissions, id) =
            (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([p0, p1]), u32::from_le_bytes(id));
        if permissions > ALL {
            return Err(Errno::INVAL);
        }
        let who = match tag {
            0x01 => Who::UserObj,
            0x02 if id != NOBODY => Who::User(id),
            0x04 => Who::GroupObj,
            0x08 if id != NOBODY => Who::Group(id),
            0x10 => Who::Mask,
            0x20 => Who::Other,
            _ => return Err(Errno::INVAL),
        };
        Ok(Entry { who, permissions: u32::from(permissions) })
    }

    fn encode(&self) -> [u8; ENTRY_LEN] {
        let (tag, id): (u16, u32) = match self.who {
            Who::UserObj => (0x01, NOBODY),
            Who::User(id) => (0x02, id),
            Who::GroupObj => (0x04, NOBODY),
            Who::Group(id) => (0x08, id),
            Who::Mask => (0x10, NOBODY),
            Who::Other => (0x20, NOBODY),
        };
        let ([t0, t1], [p0, p1, ..]) = (tag.to_le_bytes(), self.permissions.to_le_bytes());
        let [i0, i1, i2, i3] = id.to_le_bytes();
        [t0, t1, p0, p1, i0, i1, i2, i3]
    }
}

impl Who {
    fn rank(self) -> u8 {
        match self {
            Who::UserObj => 0,
            Who::User(_) => 1,
            Who::GroupObj => 2,
            Who::Group(_) => 3,
            Who::Mask => 4,
            Who::Other => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const U: (u16, u16, u32) = (0x01, 6, NOBODY);
    const G: (u16, u16, u32) = (0x04, 4, NOBODY);
    const M: (u16, u16, u32) = (0x10, 7, NOBODY);
    const O: (u16, u16, u32) = (0x20, 4, NOBODY);

    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    #[test]
    fn a_valid_acl_is_encoded_as_it_was_decoded() {
        let valid: &[&[(u16, u16, u32)]] = &[
            &[U, G, O],
            &[U, G, M, O],
            &[U, (2, 7, 0), (2, 0, 1000), G, (8, 5, 9), M, O],
            &[U, (2, 7, 5), (2, 0, 5), G, M, O],
            &[U, (2, 7, 9), (2, 0, 5), G, M, O],
        ];
        for entries in valid {
            let bytes = value(entries);
            let acl = Acl::decode(&bytes).unwrap().unwrap();
            assert_eq!(acl.encode(), bytes, "{entries:?}");
        }
    }

    #[test]
    fn a_header_alone_is_no_acl() {
        assert_eq!(Acl::decode(&value(&[])), Ok(None));
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        let invalid: &[&[(u16, u16, u32)]] = &[
            &[U, G],
            &[U, O],
            &[G, O],
            &[G, U, O],
            &[U, O, G],
            &[U, U, G, O],
            &[U, G, O, O],
            &[U, G, G, O],
            &[U, G, M, M, O],
            &[U, (2, 6, 5), G, O],
            &[U, G, (8, 6, 5), O],
            &[U, G, (2, 6, 5), M, O],
            &[(2, 6, 5), U, G, M, O],
            &[U, (2, 6, NOBODY), G, M, O],
            &[U, G, (8, 6, NOBODY), M, O],
            &[(1, 8, NOBODY), G, O],
            &[U, (4, 0xffff, NOBODY), O],
            &[U, G, (0x40, 4, NOBODY), O],
            &[U, (3, 4, 5), G, M, O],
        ];
        for entries in invalid {
            assert_eq!(Acl::decode(&value(entries)), Err(Errno::INVAL), "{entries:?}");
        }
        let whole = value(&[U, G, O]);
        assert_eq!(Acl::decode(&whole[..whole.len() - 1]), Err(Errno::INVAL));
        assert_eq!(Acl::decode(b""), Err(Errno::INVAL));
        assert_eq!(Acl::decode(b"\x02\0\0"), Err(Errno::INVAL));
        assert_eq!(Acl::decode(&1_u32.to_le_bytes()), Err(Errno::OPNOTSUPP));
    }
}
