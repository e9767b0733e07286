//! POSIX ACLs as extended attributes: the kernel hands them to us as they are (acl(5), and
//! `include/uapi/linux/posix_acl_xattr.h` for the layout). They are kept, not enforced; but the mode must
//! follow them as on any filesystem: `sed -i`, `cp -p` and `tar -x` set a mode in no other way.

use rustix::io::Errno;

/// The attribute that holds the access ACL.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What an access ACL means for the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The nine permission bits.
    pub(super) permissions: u32,
    /// Whether it says more than a mode can; if not, there is nothing to keep.
    pub(super) extended: bool,
}

/// Decodes the value of [`ACCESS`].
///
/// # Errors
/// EOPNOTSUPP for another version, EINVAL for what is no ACL.
pub(super) fn decode(value: &[u8]) -> Result<Meaning, Errno> {
    let (version, entries) = value.split_first_chunk().ok_or(Errno::INVAL)?;
    if u32::from_le_bytes(*version) != VERSION {
        return Err(Errno::OPNOTSUPP);
    }
    let (entries, rest) = entries.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Errno::INVAL);
    }
    let permissions_of = |wanted: u16| {
        let mut found =
            entries.iter().map(|e| [u16::from_le_bytes([e[0], e[1]]), u16::from_le_bytes([e[2], e[3]])]);
        found.find(|[tag, _]| *tag == wanted).map(|[_, permissions]| u32::from(permissions))
    };
    let [Some(user), Some(group), Some(other)] = [USER_OBJ, GROUP_OBJ, OTHER].map(permissions_of) else {
        return Err(Errno::INVAL);
    };
    let group = permissions_of(MASK).unwrap_or(group);
    if [user, group, other].iter().any(|permissions| *permissions > 7) {
        return Err(Errno::INVAL);
    }
    Ok(Meaning { permissions: user << 6 | group << 3 | other, extended: entries.len() > 3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, permissions) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(u32::MAX.to_le_bytes());
        }
        value
    }

    #[test]
    fn three_entries_are_a_mode() {
        let decoded = decode(&acl(&[(USER_OBJ, 6), (GROUP_OBJ, 4), (OTHER, 4)]));
        assert_eq!(decoded, Ok(Meaning { permissions: 0o644, extended: false }));
    }

    #[test]
    fn the_mask_is_the_groups_part_of_the_mode() {
        let decoded = decode(&acl(&[(USER_OBJ, 7), (2, 6), (GROUP_OBJ, 0), (MASK, 6), (OTHER, 1)]));
        assert_eq!(decoded, Ok(Meaning { permissions: 0o761, extended: true }));
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        let whole = acl(&[(USER_OBJ, 6), (GROUP_OBJ, 4), (OTHER, 4)]);
        assert_eq!(decode(b""), Err(Errno::INVAL));
        assert_eq!(decode(&whole[..whole.len() - 1]), Err(Errno::INVAL));
        assert_eq!(decode(&whole[..whole.len() - 8]), Err(Errno::INVAL), "an entry is missing");
        assert_eq!(decode(&acl(&[(USER_OBJ, 8), (GROUP_OBJ, 4), (OTHER, 4)])), Err(Errno::INVAL));
        assert_eq!(decode(&1_u32.to_le_bytes()), Err(Errno::OPNOTSUPP));
    }
}
