//! Which names are durable: every namespace call since its directories were synced, so that any of them can be
//! taken back, on the very same inodes (H4: the journal knows them by number).

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use branch_store::{Call, Entry};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

/// A name in a directory, which is named by its inode.
type Slot = (u64, Vec<u8>);

pub struct Ledger {
    /// Holds what has no name left, so that it can get one back.
    attic: PathBuf,
    roots: Vec<PathBuf>,
    dirs: HashMap<u64, OwnedFd>,
    ops: Vec<Op>,
    /// Before the call under way: what it is about to take a name from, and its name in the attic.
    pending: Option<Pending>,
    saved: u64,
}

struct Op {
    what: What,
    root: usize,
    text: String,
}

enum What {
    Made(Slot),
    Moved { from: Slot, to: Slot, exchange: bool, replaced: Option<OwnedFd> },
    Linked(Slot),
    Removed { at: Slot, file: Option<OwnedFd>, ino: u64 },
}

#[derive(Default)]
struct Pending {
    existed: bool,
    object: Option<OwnedFd>,
    ino: u64,
    in_attic: Option<PathBuf>,
}

impl Op {
    fn slots(&self) -> Vec<&Slot> {
        match &self.what {
            What::Made(at) | What::Linked(at) | What::Removed { at, .. } => vec![at],
            What::Moved { from, to, .. } => vec![from, to],
        }
    }

    /// Whether this cannot be without what came before.
    fn needs(&self, earlier: &Op) -> bool {
        let before = earlier.slots();
        let emptied = match &self.what {
            What::Removed { file: None, ino, .. } => before.iter().any(|slot| slot.0 == *ino),
            _ => false,
        };
        emptied || self.slots().iter().any(|slot| before.contains(slot))
    }
}

impl Ledger {
    pub fn new(attic: &Path, roots: &[PathBuf]) -> Ledger {
        std::fs::create_dir(attic).unwrap();
        let (attic, roots) = (attic.to_owned(), roots.to_vec());
        Ledger { attic, roots, dirs: HashMap::new(), ops: Vec::new(), pending: None, saved: 0 }
    }

    /// Calls whose names are not durable.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// The root that a descriptor is below.
    pub fn root_of(&self, fd: BorrowedFd<'_>) -> usize {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        // The longest: the store may lie in the base.
        let within = self.roots.iter().enumerate().filter(|(_, root)| path.starts_with(root));
        let deepest = within.max_by_key(|(_, root)| root.as_os_str().len());
        deepest.unwrap_or_else(|| panic!("{} is outside of base and store", path.display())).0
    }

    fn slot(&mut self, at: &Entry<'_>) -> Slot {
        let ino = rustix::fs::fstat(at.dir).unwrap().st_ino;
        self.dirs.entry(ino).or_insert_with(|| at.dir.try_clone_to_owned().unwrap());
        (ino, at.name.to_vec())
    }

    /// The call is about to happen: what is about to lose its last name gets one in the attic.
    pub fn before(&mut self, call: &Call<'_>) {
        // Of a call that failed.
        if let Some(unused) = self.pending.take().and_then(|pending| pending.in_attic) {
            std::fs::remove_file(unused).unwrap();
        }
        let mut pending = Pending::default();
        let losing = match call {
            Call::Make { at, .. } => {
                pending.existed = stat_at(at).is_some();
                None
            }
            Call::Rename { to, exchange: false, .. } => Some(to),
            Call::Remove { at, .. } => Some(at),
            _ => None,
        };
        if let Some(at) = losing
            && let Some(st) = stat_at(at)
        {
            pending.ino = st.st_ino;
            if st.st_mode & 0o170_000 != 0o040_000 {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                pending.object = Some(rustix::fs::openat(at.dir, at.name, flags, Mode::empty()).unwrap());
                if st.st_nlink == 1 {
                    let kept = self.fresh_place();
                    rustix::fs::linkat(at.dir, at.name, rustix::fs::CWD, &kept, AtFlags::empty()).unwrap();
                    pending.in_attic = Some(kept);
                }
            }
        }
        self.pending = Some(pending);
    }

    fn fresh_place(&mut self) -> PathBuf {
        self.saved += 1;
        self.attic.join(self.saved.to_string())
    }

    /// It has happened.
    pub fn after(&mut self, call: &Call<'_>) {
        let pending = self.pending.take().unwrap_or_default();
        let (what, dir) = match call {
            Call::Make { at, .. } if !pending.existed => (What::Made(self.slot(at)), at.dir),
            Call::Rename { from, to, exchange } => {
                let (from_slot, to_slot) = (self.slot(from), self.slot(to));
                let replaced = pending.object.filter(|_| !exchange);
                let moved = What::Moved { from: from_slot, to: to_slot, exchange: *exchange, replaced };
                (moved, to.dir)
            }
            Call::Link { to, .. } => (What::Linked(self.slot(to)), to.dir),
            Call::Remove { at, .. } => {
                let slot = self.slot(at);
                (What::Removed { at: slot, file: pending.object, ino: pending.ino }, at.dir)
            }
            _ => return,
        };
        let root = self.root_of(dir);
        self.ops.push(Op { what, root, text: describe(call) });
    }

    /// The names in a directory are durable, and with them what they cannot be without: a rename is one (H1).
    pub fn sync_dir(&mut self, ino: u64) {
        self.settle(|op| op.slots().iter().any(|slot| slot.0 == ino));
    }

    /// All names on a filesystem are.
    pub fn sync_root(&mut self, root: usize) {
        self.settle(|op| op.root == root);
    }

    fn settle(&mut self, is_seed: impl Fn(&Op) -> bool) {
        let seeds: Vec<usize> = (0..self.ops.len()).filter(|i| is_seed(&self.ops[*i])).collect();
        let durable = self.with_what_came_before(&seeds);
        let mut i = 0;
        self.ops.retain(|_| {
            i += 1;
            !durable[i - 1]
        });
    }

    /// These calls, and those before them on the same names.
    pub fn with_what_came_before(&self, wanted: &[usize]) -> Vec<bool> {
        let mut kept = vec![false; self.ops.len()];
        wanted.iter().for_each(|i| kept[*i] = true);
        for i in (0..kept.len()).rev().filter(|i| *i > 0) {
            if kept[i] {
                (0..i).filter(|j| self.ops[i].needs(&self.ops[*j])).for_each(|j| kept[j] = true);
            }
        }
        kept
    }

    /// All calls but this one and those after it on the same names.
    pub fn without(&self, lost: usize) -> Vec<bool> {
        let mut kept = vec![true; self.ops.len()];
        kept[lost] = false;
        for i in lost + 1..kept.len() {
            kept[i] = (0..i).all(|j| kept[j] || !self.ops[i].needs(&self.ops[j]));
        }
        kept
    }

    /// Takes back every call that is not kept, the last first.
    ///
    /// # Errors
    /// EINVAL: no filesystem could look so (a directory below itself).
    pub fn take_back(&mut self, kept: &[bool]) -> Result<Vec<String>, Errno> {
        let ops = std::mem::take(&mut self.ops);
        let mut lost = Vec::new();
        for (op, _) in ops.into_iter().zip(kept).rev().filter(|(_, kept)| !**kept) {
            lost.push(op.text.clone());
            self.undo(op.what)?;
        }
        std::fs::remove_dir_all(&self.attic).unwrap();
        std::fs::create_dir(&self.attic).unwrap();
        Ok(lost)
    }

    fn undo(&mut self, what: What) -> Result<(), Errno> {
        match what {
            What::Made(at) | What::Linked(at) => self.take_away(&at),
            What::Moved { from, to, exchange, replaced } => {
                let flags = if exchange { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
                let (a, b) = (&self.dirs[&to.0], &self.dirs[&from.0]);
                rustix::fs::renameat_with(a, &to.1[..], b, &from.1[..], flags)?;
                if let Some(file) = replaced {
                    self.give_back(&to, &file);
                }
            }
            What::Removed { at, file: Some(file), .. } => self.give_back(&at, &file),
            What::Removed { at, file: None, ino } => {
                let parent = &self.dirs[&at.0];
                rustix::fs::mkdirat(parent, &at.1[..], Mode::from_raw_mode(0o700)).unwrap();
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let again = rustix::fs::openat(parent, &at.1[..], flags, Mode::empty()).unwrap();
                self.dirs.insert(ino, again);
            }
        }
        Ok(())
    }

    fn take_away(&mut self, at: &Slot) {
        let place = self.fresh_place();
        let dir = &self.dirs[&at.0];
        let st = stat_at(&Entry { dir: std::os::fd::AsFd::as_fd(dir), name: &at.1 })
            .unwrap_or_else(|| panic!("{} is not there to be taken away", String::from_utf8_lossy(&at.1)));
        if st.st_mode & 0o170_000 != 0o040_000 && st.st_nlink > 1 {
            rustix::fs::unlinkat(dir, &at.1[..], AtFlags::empty()).unwrap();
        } else {
            rustix::fs::renameat(dir, &at.1[..], rustix::fs::CWD, &place).unwrap();
        }
    }

    fn give_back(&self, at: &Slot, file: &OwnedFd) {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(rustix::fs::CWD, &path, &self.dirs[&at.0], &at.1[..], follow)
            .unwrap_or_else(|e| panic!("{e}: {} is given back", String::from_utf8_lossy(&at.1)));
    }
}

fn stat_at(at: &Entry<'_>) -> Option<Stat> {
    match rustix::fs::statat(at.dir, at.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(st) => Some(st),
        Err(Errno::NOENT) => None,
        Err(e) => panic!("{e}"),
    }
}

/// For failed assertions.
pub fn describe(call: &Call<'_>) -> String {
    let path = |fd: &BorrowedFd<'_>| {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
        path.components().skip(4).collect::<PathBuf>().display().to_string()
    };
    let at = |at: &Entry<'_>| format!("{}/{}", path(&at.dir), String::from_utf8_lossy(at.name));
    match call {
        Call::Make { name, at: a } | Call::Remove { name, at: a } => format!("{name} {}", at(a)),
        Call::Rename { from, to, exchange } => {
            let arrow = if *exchange { "<->" } else { "->" };
            format!("rename {} {arrow} {}", at(from), at(to))
        }
        Call::Link { from, to } => format!("link {} -> {}", at(from), at(to)),
        Call::Change { name, of } | Call::Sync { name, of } => format!("{name} {}", path(of)),
        Call::SyncAll { of } => format!("syncfs {}", path(of)),
    }
}
