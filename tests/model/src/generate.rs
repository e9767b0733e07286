//! Calls made up from a source of choices, with an eye on the model so that most of them mean something.

use crate::call::{Call, Expect, Group, Kind, Mode, Path, Place, Space, Stamp, Whence};
use crate::model::tree::{Ino, Node};
use crate::model::{MAIN, Model, SLOTS};
use crate::source::Source;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "w", "x"];
const XATTRS: [&str; 3] = ["user.a", "user.b", "trusted.t"];
const MODES: [u32; 7] = [0o644, 0o600, 0o755, 0o400, 0o4755, 0o2755, 0o1777];
const OWNERS: [u32; 4] = [0, 1, 1000, 65534];
const TIMES: [(i64, u32); 5] =
    [(0, 0), (1, 999_999_999), (1_000_000_000, 5), (1_700_000_000, 123_456_789), (4_000_000_000, 1)];
/// Offsets around pages and blocks.
const EDGES: [u64; 8] = [0, 1, 511, 4095, 4096, 4097, 8192, 12_288];
const FILE_MAX: u64 = 20_000;
const DEPTH_MAX: usize = 4;
/// Objects in a branch above which more are removed than made.
const OBJECTS_MAX: usize = 18;
const BRANCHES_MAX: usize = 6;
/// Tries for a call the model accepts.
const TRIES: usize = 20;

/// A call, most often one that means something to the model now.
pub fn generate(source: &mut impl Source, model: &Model) -> Call {
    for _ in 0..TRIES {
        let call = Maker::new(source, model).call();
        if model.accepts(&call) {
            return call;
        }
    }
    Call::Forget
}

struct Maker<'a, S> {
    source: &'a mut S,
    model: &'a Model,
    branch: u32,
    paths: Vec<(Path, Ino)>,
}

impl<'a, S: Source> Maker<'a, S> {
    fn new(source: &'a mut S, model: &'a Model) -> Self {
        let live = model.live();
        let own: Vec<u32> = live.iter().copied().filter(|number| *number != MAIN).collect();
        let all: Vec<u32> = model.branches.keys().copied().collect();
        let branch = match source.below(40) {
            0 => source.pick(&all),
            1 => MAIN,
            _ if own.is_empty() => MAIN,
            _ => source.pick(&own),
        };
        let paths = model.branches[&branch].tree.paths();
        Maker { source, model, branch, paths }
    }

    fn call(&mut self) -> Call {
        if self.branch == MAIN && self.model.live().len() == 1 && !self.source.once_in(8) {
            return self.fork();
        }
        match self.source.below(212) {
            0..=27 => self.make(),
            28..=35 => Call::Link { from: self.existing_file(), to: self.name() },
            36..=47 => Call::Unlink { place: self.doomed(false) },
            48..=53 => Call::Rmdir { place: self.doomed(true) },
            54..=77 => self.rename(),
            78..=79 => Call::ReadLink { place: self.existing() },
            80..=91 => self.open(),
            92..=97 => Call::Close { slot: self.slot() },
            98..=101 => Call::Read { slot: self.slot(), offset: self.offset(), len: self.len() as u32 },
            102..=115 => Call::Write {
                slot: self.slot(),
                offset: self.offset(),
                len: self.len() as u32,
                fill: self.byte(),
            },
            116..=119 => Call::Append { slot: self.slot(), len: self.source.below(5000), fill: self.byte() },
            120..=125 => self.truncate(),
            126..=132 => self.allocate(),
            133..=139 => self.copy(),
            140..=143 => {
                let whence = self.source.pick(&[Whence::Data, Whence::Hole]);
                Call::Seek { slot: self.slot(), offset: self.offset(), whence }
            }
            144..=146 => Call::Sync { slot: self.slot(), data_only: self.source.once_in(2) },
            147..=149 => Call::List { slot: self.slot() },
            150..=157 => Call::Chmod { place: self.existing(), mode: self.source.pick(&MODES) },
            158..=161 => Call::Chown { place: self.existing(), uid: self.owner(), gid: self.owner() },
            162..=167 => Call::Times { place: self.existing(), atime: self.stamp(), mtime: self.stamp() },
            168..=175 => self.set_xattr(),
            176..=178 => Call::RemoveXattr { place: self.existing(), name: self.source.pick(&XATTRS) },
            179..=184 => self.fork(),
            185..=190 => Call::Commit { branch: self.branch },
            191 => [Call::Undo, Call::Redo][usize::from(self.source.once_in(3))].clone(),
            192..=193 => Call::Abort { branch: self.branch, cascade: self.source.once_in(2) },
            194 => Call::Checkpoint,
            195 => Call::Reclaim,
            196..=198 => Call::Forget,
            200..=204 => Call::Mark { branch: self.branch, mark: 1 + self.source.below(3) as u8 },
            205..=209 => Call::Restore { branch: self.branch, mark: self.noted() },
            210..=211 => Call::Unmark { branch: self.branch, mark: self.noted() },
            _ if self.source.once_in(2) => Call::Crash,
            _ => Call::Forget,
        }
    }

    fn make(&mut self) -> Call {
        let kind = match self.source.below(16) {
            0..=7 => Kind::File,
            8..=11 => Kind::Dir,
            12 => Kind::Symlink(self.source.pick(b"abcd")),
            13 => Kind::Fifo,
            14 => Kind::Socket,
            _ if self.source.once_in(2) => Kind::Char(3),
            _ => Kind::Block(1),
        };
        let place = if self.is_full() { self.doomed(false) } else { self.name() };
        Call::Make { place, kind, mode: self.source.pick(&MODES) }
    }

    fn rename(&mut self) -> Call {
        let from = if self.source.once_in(12) { self.name() } else { self.existing() };
        let to = if self.source.once_in(2) { self.name() } else { self.existing() };
        let mode = match self.source.below(8) {
            0..=4 => Mode::Replace,
            5 => Mode::NoReplace,
            _ => Mode::Exchange,
        };
        Call::Rename { from, to, mode }
    }

    fn open(&mut self) -> Call {
        let free: Vec<u8> = (0..SLOTS).filter(|slot| !self.model.slots.contains_key(slot)).collect();
        if free.is_empty() {
            return Call::Close { slot: self.slot() };
        }
        let slot = self.source.pick(&free);
        let place = if self.source.once_in(4) { self.existing() } else { self.existing_file() };
        let write = !self.source.once_in(4);
        Call::Open { slot, place, write, truncate: write && self.source.once_in(10) }
    }

    fn truncate(&mut self) -> Call {
        let place =
            if self.source.once_in(2) { Place::Under(self.slot(), "".into()) } else { self.existing_file() };
        Call::Truncate { place, size: self.offset() }
    }

    fn allocate(&mut self) -> Call {
        let what =
            self.source.pick(&[Space::Extend, Space::KeepSize, Space::Punch, Space::Punch, Space::Zero]);
        Call::Allocate { slot: self.slot(), what, offset: self.offset(), len: self.len() }
    }

    fn copy(&mut self) -> Call {
        let (from, to) = (self.slot(), self.slot());
        Call::Copy { from, offset: self.offset(), to, to_offset: self.offset(), len: self.len() }
    }

    fn set_xattr(&mut self) -> Call {
        let (place, name) = (self.existing(), self.source.pick(&XATTRS));
        let expect = self.source.pick(&[Expect::Any, Expect::Any, Expect::Create, Expect::Replace]);
        Call::SetXattr { place, name, len: self.source.below(200), fill: self.byte(), expect }
    }

    fn fork(&mut self) -> Call {
        let live = self.model.live().len();
        if live > BRANCHES_MAX {
            return Call::Commit { branch: self.branch };
        }
        let first = self.model.branches.keys().max().map_or(1, |last| last + 1);
        let group = match self.source.below(8) {
            0..=2 => Group::Exclusive,
            3..=6 => Group::Independent,
            _ => Group::Frozen,
        };
        Call::Fork { parent: self.branch, first, count: 1 + self.source.below(2), group }
    }

    fn is_full(&self) -> bool {
        self.paths.len() > OBJECTS_MAX
    }

    /// The path as it is, or from an open directory above it.
    fn place(&mut self, path: Path) -> Place {
        Place::In(self.branch, path)
    }

    fn existing_such(&mut self, such: impl Fn(&Node) -> bool) -> Place {
        let tree = &self.model.branches[&self.branch].tree;
        let found: Vec<usize> =
            (0..self.paths.len()).filter(|at| such(tree.node(self.paths[*at].1))).collect();
        if found.is_empty() {
            return self.name();
        }
        let at = self.source.pick(&found);
        let path = self.paths[at].0.clone();
        self.place(path)
    }

    fn existing(&mut self) -> Place {
        if self.source.once_in(12) {
            return Place::Under(self.slot(), "".into());
        }
        self.existing_such(|_| true)
    }

    fn existing_file(&mut self) -> Place {
        if self.source.once_in(12) {
            return self.existing();
        }
        self.existing_such(Node::is_file)
    }

    /// Something to remove; now and then of the wrong kind.
    fn doomed(&mut self, dir: bool) -> Place {
        if self.source.once_in(6) {
            return self.name();
        }
        self.existing_such(|node| node.is_dir() == dir)
    }

    /// A name in some directory; sometimes one that is taken, or below what is no directory.
    fn name(&mut self) -> Place {
        let name = self.source.pick(&NAMES);
        let dirs: Vec<u8> = (0..SLOTS)
            .filter(|slot| self.model.slots.get(slot).is_some_and(|h| h.dir && h.branch == self.branch))
            .collect();
        if !dirs.is_empty() && self.source.once_in(6) {
            return Place::Under(self.source.pick(&dirs), name.into());
        }
        let wrong = self.source.once_in(40);
        let tree = &self.model.branches[&self.branch].tree;
        let shallow = |path: &Path| path.names().count() < DEPTH_MAX;
        let fits = |(path, ino): &(Path, Ino)| shallow(path) && tree.node(*ino).is_dir() != wrong;
        let found: Vec<usize> = (0..self.paths.len()).filter(|at| fits(&self.paths[*at])).collect();
        let dir = if found.is_empty() { "".into() } else { self.paths[self.source.pick(&found)].0.clone() };
        self.place(dir.join(name))
    }

    /// A mark of the branch, most often one that there is.
    fn noted(&mut self) -> u8 {
        let noted: Vec<u8> = self.model.branches[&self.branch].marks.keys().copied().collect();
        if noted.is_empty() || self.source.once_in(8) {
            self.source.below(4) as u8
        } else {
            self.source.pick(&noted)
        }
    }

    fn slot(&mut self) -> u8 {
        let open: Vec<u8> = self.model.slots.keys().copied().collect();
        if open.is_empty() { self.source.below(u32::from(SLOTS)) as u8 } else { self.source.pick(&open) }
    }

    fn offset(&mut self) -> u64 {
        match self.source.below(3) {
            0 => self.source.pick(&EDGES),
            1 => u64::from(self.source.below(300)),
            _ => u64::from(self.source.below(FILE_MAX as u32)),
        }
    }

    fn len(&mut self) -> u64 {
        match self.source.below(4) {
            0 => self.source.pick(&EDGES),
            1 | 2 => u64::from(self.source.below(300)),
            _ => u64::from(self.source.below(9000)),
        }
    }

    fn byte(&mut self) -> u8 {
        self.source.below(256) as u8
    }

    fn owner(&mut self) -> Option<u32> {
        if self.source.once_in(3) { None } else { Some(self.source.pick(&OWNERS)) }
    }

    fn stamp(&mut self) -> Stamp {
        match self.source.below(3) {
            0 => Stamp::Omit,
            1 => Stamp::Now,
            _ => {
                let (sec, nsec) = self.source.pick(&TIMES);
                Stamp::At(sec, nsec)
            }
        }
    }
}
