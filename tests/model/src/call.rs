//! Calls: one operation each, fully spelled out. Their `Debug` form is Rust that makes them again.

use std::fmt;

/// A path of one-letter names below some root; empty for the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(pub String);

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.into()", self.0)
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Path {
        Path(text.to_owned())
    }
}

impl Path {
    /// Its names, outermost first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The path of the directory and the name in it; `None` for the root.
    pub fn split(&self) -> Option<(Path, &str)> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.rsplit_once('/') {
            Some((dir, name)) => (dir.into(), name),
            None => ("".into(), &self.0),
        })
    }

    /// One level down.
    pub fn join(&self, name: &str) -> Path {
        if self.0.is_empty() { name.into() } else { Path(format!("{}/{name}", self.0)) }
    }
}

/// Names as the product sees them: most are their letter, two are names that are easily got wrong.
const HARD_NAMES: [(&str, &[u8]); 2] = [("w", b".wh.a"), ("x", b"\xff\n 'x")];

/// The bytes behind a letter.
pub(crate) fn bytes_of(letter: &str) -> &[u8] {
    HARD_NAMES.iter().find(|(known, _)| *known == letter).map_or(letter.as_bytes(), |(_, bytes)| bytes)
}

/// The letter for some bytes, or the bytes in print if no letter means them.
pub(crate) fn letter_of(bytes: &[u8]) -> String {
    let hard = HARD_NAMES.iter().find(|(_, known)| *known == bytes).map(|(letter, _)| (*letter).to_owned());
    hard.unwrap_or_else(|| String::from_utf8_lossy(bytes).escape_debug().to_string())
}

/// An object: by path from the root of a branch, or from what a slot holds open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Below the root of a branch.
    In(u32, Path),
    /// Below an open directory; with an empty path, the open object itself.
    Under(u8, Path),
}

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link to a letter.
    Symlink(u8),
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device of this minor number.
    Char(u8),
    /// A block device of this minor number.
    Block(u8),
}

/// What a rename does with an existing target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Replaces it.
    Replace,
    /// Refuses.
    NoReplace,
    /// Swaps the two.
    Exchange,
}

/// What setting an extended attribute expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// That it is not there.
    Create,
    /// That it is.
    Replace,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// Leave it.
    Omit,
    /// The clock's.
    Now,
    /// Seconds and nanoseconds.
    At(i64, u32),
}

/// What fallocate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Allocates, and extends the file if need be.
    Extend,
    /// Allocates, the size stays.
    KeepSize,
    /// Makes a hole.
    Punch,
    /// Zeroes, and extends the file if need be.
    Zero,
}

/// What to seek.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// The next data.
    Data,
    /// The next hole.
    Hole,
}

/// How siblings of one fork relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The first commit ends the others.
    Exclusive,
    /// The others live on.
    Independent,
    /// Exclusive, and the parent takes no changes meanwhile.
    Frozen,
}

/// One operation. Branches are numbers, 0 is main; open files and directories are in numbered slots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the system calls of the same names")]
pub enum Call {
    /// creat, mkdir, symlink, mknod.
    Make { place: Place, kind: Kind, mode: u32 },
    /// link(2).
    Link { from: Place, to: Place },
    /// unlink(2).
    Unlink { place: Place },
    /// rmdir(2).
    Rmdir { place: Place },
    /// renameat2(2).
    Rename { from: Place, to: Place, mode: Mode },
    /// readlink(2).
    ReadLink { place: Place },
    /// open(2) of a file, or of a directory if not for writing, into a free slot.
    Open { slot: u8, place: Place, write: bool, truncate: bool },
    /// close(2).
    Close { slot: u8 },
    /// pread(2).
    Read { slot: u8, offset: u64, len: u32 },
    /// pwrite(2) of bytes that `fill` says.
    Write { slot: u8, offset: u64, len: u32, fill: u8 },
    /// A write at the end.
    Append { slot: u8, len: u32, fill: u8 },
    /// truncate(2), ftruncate(2).
    Truncate { place: Place, size: u64 },
    /// fallocate(2).
    Allocate { slot: u8, what: Space, offset: u64, len: u64 },
    /// copy_file_range(2).
    Copy { from: u8, offset: u64, to: u8, to_offset: u64, len: u64 },
    /// lseek(2) with SEEK_DATA or SEEK_HOLE.
    Seek { slot: u8, offset: u64, whence: Whence },
    /// fsync(2) of a file or directory.
    Sync { slot: u8, data_only: bool },
    /// readdir(3) of an open directory.
    List { slot: u8 },
    /// chmod(2).
    Chmod { place: Place, mode: u32 },
    /// lchown(2).
    Chown { place: Place, uid: Option<u32>, gid: Option<u32> },
    /// utimensat(2).
    Times { place: Place, atime: Stamp, mtime: Stamp },
    /// lsetxattr(2) of bytes that `fill` says.
    SetXattr { place: Place, name: &'static str, len: u32, fill: u8, expect: Expect },
    /// lremovexattr(2).
    RemoveXattr { place: Place, name: &'static str },
    /// Forks branches numbered from `first` on.
    Fork { parent: u32, first: u32, count: u32, group: Group },
    /// Commits into the parent.
    Commit { branch: u32 },
    /// Takes the last commit into the base back.
    Undo,
    /// Takes the last undoing back.
    Redo,
    /// Aborts, with what is below if `cascade`.
    Abort { branch: u32, cascade: bool },
    /// Notes a branch's tree under a numbered name.
    Mark { branch: u32, mark: u8 },
    /// Removes what was noted.
    Unmark { branch: u32, mark: u8 },
    /// The branch becomes what was noted.
    Restore { branch: u32, mark: u8 },
    /// Checkpoints the store.
    Checkpoint,
    /// Deletes what nobody needs.
    Reclaim,
    /// Has the kernel's place in the vfs forget what it can.
    Forget,
    /// The process dies and another opens the store.
    Crash,
}

impl Call {
    /// Whether it changes who is alive, or everything at once.
    pub fn is_structural(&self) -> bool {
        matches!(
            self,
            Call::Fork { .. }
                | Call::Commit { .. }
                | Call::Undo
                | Call::Redo
                | Call::Abort { .. }
                | Call::Restore { .. }
                | Call::Checkpoint
                | Call::Reclaim
                | Call::Crash
        )
    }
}

/// The bytes that a fill and a length stand for. Never zero, so that holes show.
pub(crate) fn filled(fill: u8, len: u32) -> Vec<u8> {
    (0..len).map(|at| fill.wrapping_add(at as u8).wrapping_add((at >> 8) as u8) | 1).collect()
}
