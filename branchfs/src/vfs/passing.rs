//! Which open files the kernel reads from the host by itself (FUSE passthrough), and which are read through us.
//!
//! # The kernel's rules (fs/fuse/iomode.c), and what follows
//!
//! An inode is in one of two modes as long as it is open: *passed*, all its open files read from one host file; or
//! *served*, all are read through us. An answer to an OPEN that fits neither is EIO to the program. The mode ends with
//! the last open file; of that we hear by its RELEASE, later. So files are counted here from the moment an answer is
//! decided until the RELEASE: an inode that is free here is free there.
//!
//! Only reading passes, and only of bytes that nothing changes in place ([`branch_store::Stable`]). Who wants to write
//! to a passed inode, cut it, or read what is another host file by now, cannot have it: its number is *retired*. The
//! answer is ESTALE, upon which the kernel looks the name up again, and from then on that gives the object's second
//! number, an inode that is always served. Who reads by the first goes on with the bytes of before. When the kernel has
//! forgotten both, the first is good again.
//!
//! One second number is enough because it never passes, so that it is never retired. The price is that a file that was
//! written to under its readers is served until the kernel has forgotten it.
//!
//! A passed inode has one name: it has when it is passed, and a link to it is made by its second number. So whoever looks
//! the name up after the retirement has turned the only way to the first away.
//!
//! Lock order: a shard, then the host files, then the inode table.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use branch_store::Stable;
use parking_lot::Mutex;
use rustix::io::Errno;

use super::inodes::Inodes;

/// Most inodes passed at a time: the kernel holds a file of the host for each.
const PASSED_MAX: usize = 1 << 16;
/// Shortest file that passes, in bytes. What is shorter comes with one request and stays in the kernel's memory, while
/// showing the kernel a file costs some system calls at each open.
pub(crate) const LEN_MIN: u64 = 64 << 10;
const SHARDS: usize = 16;
const _: () = assert!(SHARDS.is_power_of_two());

/// What lets the kernel read a host file by itself, as long as it is kept.
pub type Pass = Arc<dyn Any + Send + Sync>;

/// Makes a pass for a host file. The kernel may refuse: it does without.
pub type Issue<'a> = &'a dyn Fn(BorrowedFd<'_>) -> io::Result<Pass>;

/// The files that are open, by inode number.
pub(crate) struct Passing {
    shards: [Mutex<HashMap<u64, Mode>>; SHARDS],
    /// Passes by device and inode: branches share them, and with them the kernel's memory of the file.
    passes: Mutex<HashMap<(u64, u64), Weak<dyn Any + Send + Sync>>>,
    passed: AtomicUsize,
    len_min: u64,
}

enum Mode {
    Served { files: u64 },
    Passed { files: u64, stable: Stable, pass: Pass },
}

/// How an open file is read.
pub(crate) enum Way {
    /// By the kernel, from the host.
    Passed(Pass),
    /// Through us.
    Served,
}

/// What an operation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touched {
    /// Bytes, or by which names they are found.
    Bytes,
    /// Attributes, which say the same to all who have it open.
    Attributes,
}

impl Passing {
    /// Files shorter than so many bytes do not begin to pass.
    pub(crate) fn new(len_min: u64) -> Passing {
        let shards = std::array::from_fn(|_| Mutex::new(HashMap::new()));
        Passing { shards, passes: Mutex::default(), passed: AtomicUsize::new(0), len_min }
    }

    /// Takes in an open file: passed, if its bytes are stable and the inode is passed already, or free, and the file long
    /// enough; served, if the inode is free or served.
    ///
    /// # Errors
    /// ESTALE: the number is retired, now or before.
    pub(crate) fn open<T: Clone>(
        &self,
        inodes: &Inodes<T>,
        ino: u64,
        stable: Option<&Stable>,
        issue: Issue<'_>,
    ) -> Result<Way, Errno> {
        let mut modes = self.shard(ino).lock();
        if inodes.is_retired(ino) {
            return Err(Errno::STALE);
        }
        match modes.entry(ino) {
            Entry::Vacant(free) => {
                if let Some(stable) = stable.filter(|stable| stable.len_then() >= self.len_min)
                    && let Some(pass) = self.pass(stable, issue)
                {
                    self.passed.fetch_add(1, Ordering::Relaxed);
                    free.insert(Mode::Passed { files: 1, stable: stable.clone(), pass: pass.clone() });
                    return Ok(Way::Passed(pass));
                }
                free.insert(Mode::Served { files: 1 });
                Ok(Way::Served)
            }
            Entry::Occupied(mut open) => match (open.get_mut(), stable) {
                (Mode::Served { files }, _) => {
                    *files += 1;
                    Ok(Way::Served)
                }
                (Mode::Passed { files, stable: same, pass }, Some(stable))
                    if same.identity() == stable.identity() =>
                {
                    *files += 1;
                    Ok(Way::Passed(pass.clone()))
                }
                (Mode::Passed { .. }, _) => {
                    inodes.retire(ino);
                    Err(Errno::STALE)
                }
            },
        }
    }

    /// Lets go of an open file.
    pub(crate) fn close(&self, ino: u64) {
        let mut modes = self.shard(ino).lock();
        let Entry::Occupied(mut open) = modes.entry(ino) else { return };
        let (Mode::Served { files } | Mode::Passed { files, .. }) = open.get_mut();
        *files -= 1;
        if *files == 0
            && let Mode::Passed { stable, pass, .. } = open.remove()
        {
            self.passed.fetch_sub(1, Ordering::Relaxed);
            self.give_back(stable.identity(), pass);
        }
    }

    /// The inode is to be changed in a way that a passed one cannot be.
    ///
    /// # Errors
    /// ESTALE: the number is retired, now or before.
    pub(crate) fn change<T: Clone>(&self, inodes: &Inodes<T>, ino: u64) -> Result<(), Errno> {
        let modes = self.shard(ino).lock();
        if let Some(Mode::Passed { .. }) = modes.get(&ino) {
            inodes.retire(ino);
        }
        if inodes.is_retired(ino) { Err(Errno::STALE) } else { Ok(()) }
    }

    /// What the passed inode is read from.
    pub(crate) fn passed_from(&self, ino: u64) -> Option<Stable> {
        match self.shard(ino).lock().get(&ino) {
            Some(Mode::Passed { stable, .. }) => Some(stable.clone()),
            Some(Mode::Served { .. }) | None => None,
        }
    }

    /// The mount is gone.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
        self.passes.lock().clear();
        self.passed.store(0, Ordering::Relaxed);
    }

    fn pass(&self, stable: &Stable, issue: Issue<'_>) -> Option<Pass> {
        let mut passes = self.passes.lock();
        if let Some(pass) = passes.get(&stable.identity()).and_then(Weak::upgrade) {
            return Some(pass);
        }
        if self.passed.load(Ordering::Relaxed) >= PASSED_MAX {
            return None;
        }
        // Who issues says why not.
        let pass = issue(stable.as_fd()).ok()?;
        passes.insert(stable.identity(), Arc::downgrade(&pass));
        Some(pass)
    }

    fn give_back(&self, identity: (u64, u64), pass: Pass) {
        let mut passes = self.passes.lock();
        drop(pass);
        if passes.get(&identity).is_some_and(|pass| pass.strong_count() == 0) {
            passes.remove(&identity);
        }
    }

    fn shard(&self, ino: u64) -> &Mutex<HashMap<u64, Mode>> {
        &self.shards[(ino ^ ino >> 32) as usize % SHARDS]
    }
}

impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passing").field("passed", &self.passed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use branch_store::{Access, Store, Unrecovered};

    use super::super::ino;
    use super::*;

    const INO: u64 = 1 << 32 | 7;

    struct Scene {
        dir: tempfile::TempDir,
        store: Store,
        inodes: Inodes<()>,
        passing: Passing,
        issued: AtomicUsize,
    }

    impl Scene {
        fn new() -> Scene {
            let dir = tempfile::tempdir().unwrap();
            let long = vec![b'x'; LEN_MIN as usize];
            ["a", "b"].into_iter().for_each(|name| fs::write(dir.path().join(name), &long).unwrap());
            fs::write(dir.path().join("short"), &long[1..]).unwrap();
            let store = dir.path().join(".branchfs");
            branch_store::init(dir.path(), &store).unwrap();
            let options = branch_store::Options { base: dir.path().to_owned(), store };
            let store = Unrecovered::open(options).unwrap().recover().unwrap().0;
            let inodes = Inodes::new();
            [INO, INO + 1].into_iter().for_each(|ino| _ = inodes.remember(ino, ()));
            Scene { dir, store, inodes, passing: Passing::new(LEN_MIN), issued: AtomicUsize::new(0) }
        }

        fn stable(&self, name: &str) -> Stable {
            let main = self.store.main();
            let (object, _) = main.lookup(&main.root(), name.as_bytes()).unwrap();
            main.open(&object, Access::Read).unwrap().stable().unwrap().unwrap()
        }

        /// How the file is read, in a word.
        fn open(&self, ino: u64, stable: Option<&Stable>) -> &'static str {
            let issue = |_: BorrowedFd<'_>| -> io::Result<Pass> {
                Ok(Arc::new(self.issued.fetch_add(1, Ordering::Relaxed)))
            };
            word(self.passing.open(&self.inodes, ino, stable, &issue))
        }

        fn change(&self, ino: u64) -> bool {
            self.passing.change(&self.inodes, ino).is_ok()
        }
    }

    fn word(way: Result<Way, Errno>) -> &'static str {
        match way {
            Ok(Way::Passed(_)) => "passed",
            Ok(Way::Served) => "served",
            Err(Errno::STALE) => "stale",
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_inode_is_passed_or_served_until_it_is_closed() {
        let scene = Scene::new();
        let a = scene.stable("a");
        assert_eq!((scene.open(INO, Some(&a)), scene.open(INO, Some(&a))), ("passed", "passed"));
        (0..2).for_each(|_| scene.passing.close(INO));
        assert_eq!((scene.open(INO, None), scene.open(INO, Some(&a))), ("served", "served"));
        assert!(scene.change(INO), "what is served is changed as ever");
        (0..2).for_each(|_| scene.passing.close(INO));
        assert_eq!(scene.open(INO, Some(&a)), "passed", "free again");
        assert!(!scene.inodes.is_retired(INO));
    }

    #[test]
    fn a_short_file_is_served_and_one_that_was_long_passes_on() {
        let scene = Scene::new();
        assert_eq!(scene.open(INO, Some(&scene.stable("short"))), "served");
        assert_eq!(scene.open(INO + 1, Some(&scene.stable("a"))), "passed");
        fs::write(scene.dir.path().join("a"), "cut").unwrap();
        assert_eq!(scene.open(INO + 1, Some(&scene.stable("a"))), "passed");
    }

    #[test]
    fn whoever_does_not_fit_retires_the_number() {
        let scene = Scene::new();
        let (a, b) = (scene.stable("a"), scene.stable("b"));
        let retire: [&dyn Fn(u64) -> bool; 3] =
            [&|ino| scene.open(ino, None) == "stale", &|ino| scene.open(ino, Some(&b)) == "stale", &|ino| {
                !scene.change(ino)
            }];
        for (n, retire) in (0..).zip(retire) {
            let ino = INO + n;
            _ = scene.inodes.remember(ino, ());
            assert_eq!(scene.open(ino, Some(&a)), "passed");
            assert!(retire(ino) && scene.inodes.is_retired(ino));
            scene.passing.close(ino);
            assert_eq!(
                (scene.open(ino, Some(&a)), scene.change(ino)),
                ("stale", false),
                "also when it is closed"
            );
            let now = scene.inodes.remember(ino, ()).ino;
            assert_eq!((now, scene.open(now, None), scene.change(now)), (ino::second(ino), "served", true));
        }
    }

    #[test]
    fn inodes_of_one_host_file_share_a_pass_as_long_as_one_is_open() {
        let scene = Scene::new();
        let a = scene.stable("a");
        assert_eq!((scene.open(INO, Some(&a)), scene.open(INO + 1, Some(&a))), ("passed", "passed"));
        assert_eq!(scene.issued.load(Ordering::Relaxed), 1);
        scene.passing.close(INO);
        assert_eq!(scene.open(INO, Some(&a)), "passed");
        assert_eq!(scene.issued.load(Ordering::Relaxed), 1);
        [INO, INO + 1].into_iter().for_each(|ino| scene.passing.close(ino));
        assert!(scene.passing.passes.lock().is_empty());
        assert_eq!(scene.passing.passed.load(Ordering::Relaxed), 0);
        assert_eq!(scene.open(INO, Some(&a)), "passed");
        assert_eq!(scene.issued.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_is_refused_is_served() {
        let scene = Scene::new();
        let a = scene.stable("a");
        let refuse = |_: BorrowedFd<'_>| Err(Errno::LOOP.into());
        assert_eq!(word(scene.passing.open(&scene.inodes, INO, Some(&a), &refuse)), "served");
        assert_eq!(scene.open(INO, Some(&a)), "served");
        scene.passing.close(INO + 5);
        assert!(scene.passing.passed_from(INO).is_none());
    }
}
