//! Giving a host object its final owner, mode, times and extended attributes. What the host does not permit an
//! ordinary user is no reason to stop: the branch keeps it to itself, and the commit reports it.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Gid, Mode, Statx, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::base::stat_at;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::node::{Kind, Meta, Time, time_of};

const SUID: u32 = 0o4000;
const SGID: u32 = 0o2000;

/// Something the host refused to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    what: String,
    pub(crate) errno: Errno,
}

impl Refused {
    fn new(what: impl std::fmt::Display, errno: Errno) -> Refused {
        Refused { what: format!("{what} could not be set"), errno }
    }

    /// The object as a whole.
    pub(crate) fn node(errno: Errno) -> Refused {
        Refused { what: "the device node could not be made".to_owned(), errno }
    }

    /// In words, of the object at a path.
    pub(crate) fn of(&self, path: &[u8]) -> String {
        let why = std::io::Error::from_raw_os_error(self.errno.raw_os_error());
        format!("{}: {}: {why}", String::from_utf8_lossy(path), self.what)
    }
}

/// Who the object belongs to after all.
struct Owned {
    user: bool,
    group: bool,
    /// Without being given to anybody.
    already: bool,
}

/// Sets what differs from what was found. Returns what the host refused.
///
/// # Errors
/// The host's that are no refusals.
pub(crate) fn set_meta(
    disk: &Disk,
    (dir, name): (impl AsFd, &[u8]),
    found: &Statx,
    kind: Kind,
    meta: &Meta,
) -> Result<Vec<Refused>> {
    disk.set_meta(&dir).map_err(|e| Error::host("set attributes of", name, e))?;
    let mut refused = Vec::new();
    let owned = set_owner(&dir, name, found, meta, &mut refused)?;
    // Attributes before the mode: a read-only file refuses them to its ordinary owner.
    let written = crate::xattr::write_all(&dir, name, &meta.xattrs)?;
    refused.extend(
        written.refused.into_iter().map(|(name, errno)| Refused::new(String::from_utf8_lossy(&name), errno)),
    );
    if kind != Kind::Symlink {
        // Another owner takes the set-ID bits away, an ACL has a mode of its own.
        let same = owned.already && !written.touched;
        let now = if same { mode_of(found) } else { mode_of(&stat_at(&dir, name)?) };
        set_mode(&dir, (name, kind), (now, meta.mode), &owned, &mut refused)?;
    }
    set_times(&dir, name, found, meta, &mut refused)?;
    Ok(refused)
}

fn set_owner(
    dir: impl AsFd,
    name: &[u8],
    now: &Statx,
    meta: &Meta,
    refused: &mut Vec<Refused>,
) -> Result<Owned> {
    if (now.stx_uid, now.stx_gid) == (meta.uid, meta.gid) {
        return Ok(Owned { user: true, group: true, already: true });
    }
    let chown = |uid: Option<u32>, gid: Option<u32>| {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(&dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
    };
    let Err(e) = chown(Some(meta.uid), Some(meta.gid)) else {
        return Ok(Owned { user: true, group: true, already: false });
    };
    refusal("chown", name, e)?;
    // A group of ours is ours to give.
    let group = now.stx_gid == meta.gid || chown(None, Some(meta.gid)).is_ok();
    let user = now.stx_uid == meta.uid;
    if !user {
        refused.push(Refused::new(format!("owner {}", meta.uid), e));
    }
    if !group {
        refused.push(Refused::new(format!("group {}", meta.gid), e));
    }
    Ok(Owned { user, group, already: false })
}

fn set_mode(
    dir: impl AsFd,
    (name, kind): (&[u8], Kind),
    (now, wanted): (u32, u32),
    owned: &Owned,
    refused: &mut Vec<Refused>,
) -> Result<()> {
    // To run as somebody was meant for another somebody.
    let foreign = if kind == Kind::Dir {
        0
    } else {
        (if owned.user { 0 } else { SUID }) | (if owned.group { 0 } else { SGID })
    };
    let mode = wanted & !foreign;
    let mut errno = Errno::PERM;
    let mut seen = now;
    if now != mode {
        match rustix::fs::chmodat(&dir, name, Mode::from_raw_mode(mode), AtFlags::empty()) {
            // A group that is not ours takes the set-group-ID bit away, and the host does not say so.
            Ok(()) if mode & SGID != 0 => seen = mode_of(&stat_at(&dir, name)?),
            Ok(()) => seen = mode,
            Err(e) => {
                refusal("chmod", name, e)?;
                errno = e;
            }
        }
    }
    if seen != wanted {
        refused.push(Refused::new(format!("mode {wanted:o}"), errno));
    }
    Ok(())
}

fn mode_of(st: &Statx) -> u32 {
    u32::from(st.stx_mode) & 0o7777
}

fn set_times(
    dir: impl AsFd,
    name: &[u8],
    now: &Statx,
    meta: &Meta,
    refused: &mut Vec<Refused>,
) -> Result<()> {
    let modified = meta.mtime.is_some_and(|mtime| mtime != time_of(&now.stx_mtime));
    let accessed = meta.atime != time_of(&now.stx_atime);
    if !modified && !accessed {
        return Ok(());
    }
    let time = |t: Time| Timespec { tv_sec: t.sec, tv_nsec: i64::from(t.nsec) as _ };
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let times =
        Timestamps { last_access: time(meta.atime), last_modification: meta.mtime.map_or(omit, time) };
    if let Err(e) = rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
        refusal("utimens", name, e)?;
        // Anybody's look moves the access time of what is not ours: nothing that the branch has asked for.
        if modified {
            refused.push(Refused::new("times", e));
        }
    }
    Ok(())
}

/// Whether an error is the host's no to this user, this object or this filesystem, and not a failure.
fn refusal(op: &'static str, name: &[u8], errno: Errno) -> Result<()> {
    match errno {
        Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOTSUP | Errno::OVERFLOW => Ok(()),
        other => Err(Error::host(op, name, other)),
    }
}
