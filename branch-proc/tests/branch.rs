//! `branch()` over directories that stand for branches: who goes on where, and that nothing is left of a create that
//! fails. The call through the C library, over real branches, is tested in `libbranch`.
#![allow(clippy::unwrap_used)] // also in helpers

mod common;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use branch_proc::branch::{
    BranchError, CHILDREN_MAX, Child, Descriptors, Isolation, Myself, Request, Role, Worlds, create,
};
use common::{Seen, Witness, alone};

/// Directories instead of branches.
struct Directories {
    views: OwnedFd,
    /// Where they are made, if this process can name it.
    path: PathBuf,
    base: PathBuf,
    made: Vec<String>,
    attached: u32,
    /// The attach that is refused, from 1 on.
    refuse: Option<u32>,
}

impl Directories {
    fn new(dir: &Path) -> Directories {
        let (path, base) = (dir.join("views"), dir.join("base"));
        for made in [&path, &base] {
            fs::create_dir_all(made).unwrap();
        }
        let views = File::open(&path).unwrap().into();
        Directories { views, path, base, made: Vec::new(), attached: 0, refuse: None }
    }

    fn left(&self) -> usize {
        fs::read_dir(&self.path).unwrap().count()
    }
}

impl Worlds for Directories {
    fn make(&mut self, count: u32) -> io::Result<Vec<String>> {
        let start = self.made.len();
        for number in 1..=count {
            let name = format!("b{}-{number}", start);
            rustix::fs::mkdirat(&self.views, &name, rustix::fs::Mode::RWXU)?;
            self.made.push(name);
        }
        Ok(self.made[start..].to_vec())
    }

    fn views(&self) -> io::Result<OwnedFd> {
        self.views.try_clone()
    }

    fn base(&self) -> &Path {
        &self.base
    }

    fn attach(&mut self, name: &str, pid: i32, _pidfd: BorrowedFd<'_>) -> io::Result<()> {
        assert!(self.made.iter().any(|made| made == name) && pid > 0);
        self.attached += 1;
        match self.refuse {
            Some(number) if number == self.attached => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
            _ => Ok(()),
        }
    }

    fn commit(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn abort(&mut self, name: &str) -> io::Result<()> {
        fs::remove_dir_all(self.path.join(name))
    }

    fn keeps(&self) -> Vec<RawFd> {
        vec![self.views.as_raw_fd()]
    }
}

fn request(count: u32, isolation: Isolation) -> Request {
    Request { count, isolation, descriptors: Descriptors::Inherited }
}

/// Children that live `life` and end with its answer.
fn children(
    request: Request,
    worlds: Option<&mut dyn Worlds>,
    life: impl FnOnce(&Myself) -> i32,
) -> Vec<Child> {
    // SAFETY: the children use nothing of the other threads': they make system calls, allocate (which the C library
    // cares for) and end with _exit.
    match unsafe { create(request, worlds) }.unwrap() {
        Role::Parent(children) => children,
        Role::Child(myself) => {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life(&myself)));
            let code = caught.unwrap_or(101);
            // SAFETY: ends the process.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Why no children were made.
fn refused(request: Request, worlds: Option<&mut dyn Worlds>) -> BranchError {
    // SAFETY: as above.
    match unsafe { create(request, worlds) } {
        Err(error) => error,
        Ok(Role::Parent(children)) => panic!("made {children:?}"),
        // SAFETY: ends the process.
        Ok(Role::Child(_)) => unsafe { libc::_exit(0) },
    }
}

/// How a child ended, as `waitpid(2)` says.
fn wait(child: &Child) -> i32 {
    let mut status = 0;
    // SAFETY: status is a valid place for the answer.
    assert_eq!(unsafe { libc::waitpid(child.pid, &raw mut status, 0) }, child.pid);
    status
}

fn code(child: &Child) -> i32 {
    let status = wait(child);
    assert!(libc::WIFEXITED(status), "status {status:#x}");
    libc::WEXITSTATUS(status)
}

/// Descriptors and children of this process. The caller is [`alone`].
fn holdings() -> (Vec<String>, String) {
    let mut open: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| Some(fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
        .filter(|target| !target.starts_with("/proc/"))
        .collect();
    open.sort();
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let children = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    (open, children.collect())
}

#[test]
fn the_parent_and_each_child_go_on_with_their_number_in_files_and_memory_of_their_own() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    for isolation in [Isolation::Full, Isolation::None] {
        static SHARED: AtomicU32 = AtomicU32::new(7);
        let mut worlds = Directories::new(&dir.path().join(format!("{isolation:?}")));
        let base = worlds.base.clone();
        fs::write(base.join("there"), "base").unwrap();
        let made = children(request(3, isolation), Some(&mut worlds), |myself| {
            let number = myself.number();
            assert_eq!(SHARED.swap(number, Ordering::Relaxed), 7);
            fs::write(base.join("who"), number.to_string()).unwrap();
            assert!(!base.join("there").exists());
            i32::try_from(number).unwrap()
        });
        assert_eq!(made.iter().map(code).collect::<Vec<_>>(), [1, 2, 3]);
        for (child, number) in made.iter().zip(1..) {
            let view = worlds.path.join(child.name.as_deref().unwrap());
            assert_eq!(fs::read_to_string(view.join("who")).unwrap(), number.to_string());
        }
        assert_eq!(fs::read_to_string(base.join("there")).unwrap(), "base");
        assert!(!base.join("who").exists());
        assert_eq!(SHARED.load(Ordering::Relaxed), 7);
        assert_eq!(worlds.attached, 3);
    }
}

#[test]
fn without_worlds_there_are_only_processes() {
    let _alone = alone();
    for isolation in [Isolation::Full, Isolation::None] {
        let made = children(request(2, isolation), None, |myself| {
            assert_eq!(myself.name(), None);
            // SAFETY: plain system call.
            if myself.number() == 2 { unsafe { libc::kill(libc::getpid(), libc::SIGKILL) } } else { 7 }
        });
        assert_eq!(made.iter().map(code).collect::<Vec<_>>(), [7, 128 + 9], "{isolation:?}");
    }
}

#[test]
fn a_child_is_the_callers_program_signals_handlers_name_and_directory_included() {
    let _alone = alone();
    extern "C" fn handler(_: i32) {}
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: valid places and numbers; nobody sends these signals here.
    unsafe {
        libc::signal(libc::SIGUSR2, handler as *const () as libc::sighandler_t);
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGUSR1);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
    let status = |field: &str| {
        let text = fs::read_to_string("/proc/thread-self/status").unwrap();
        text.lines().find(|line| line.starts_with(field)).unwrap().to_owned()
    };
    let fields = ["Name", "SigBlk", "SigCgt", "SigIgn", "CapEff", "CapPrm", "Uid", "Gid"];
    let own = fields.map(status);
    let here = std::env::current_dir().unwrap();
    let made = children(request(1, Isolation::Full), None, |_| {
        assert_eq!(fields.map(status), own);
        assert_eq!(std::env::current_dir().unwrap(), here);
        assert!(rustix::process::dumpable_behavior().unwrap() == rustix::process::DumpableBehavior::Dumpable);
        0
    });
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut()) };
    assert_eq!(code(&made[0]), 0);
}

#[test]
fn an_inherited_descriptor_works_and_a_closed_one_does_not() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let old = File::open("/dev/null").unwrap();
    for (descriptors, expected) in [(Descriptors::Inherited, 0), (Descriptors::Closed, libc::EBADF)] {
        let mut worlds = Directories::new(&dir.path().join(format!("{descriptors:?}")));
        let keeps = worlds.keeps()[0];
        let asked = Request { descriptors, ..request(2, Isolation::Full) };
        let made = children(asked, Some(&mut worlds), |_| {
            // SAFETY: plain system call.
            assert!(unsafe { libc::fcntl(keeps, libc::F_GETFD) } >= 0);
            // SAFETY: plain system call.
            match unsafe { libc::fcntl(old.as_raw_fd(), libc::F_GETFD) } {
                -1 => io::Error::last_os_error().raw_os_error().unwrap(),
                _ => 0,
            }
        });
        assert_eq!(made.iter().map(code).collect::<Vec<_>>(), [expected; 2], "{descriptors:?}");
    }
}

#[test]
fn an_abort_ends_all_that_the_child_has_started() {
    let _alone = alone();
    for isolation in [Isolation::Full, Isolation::None] {
        let (mut witness, end) = Witness::new();
        let made = children(request(1, isolation), None, |myself| {
            // SAFETY: plain system calls; the child of the child waits for its end.
            unsafe {
                if libc::fork() == 0 {
                    libc::setsid();
                    libc::write(end.as_raw_fd(), b"x".as_ptr().cast(), 1);
                    loop {
                        libc::pause();
                    }
                }
            }
            myself.abort()
        });
        drop(end);
        assert_eq!(code(&made[0]), 125);
        // It may have ended before it could say anything.
        while witness.look(common::PATIENCE) != Seen::AllGone {}
    }
}

#[test]
fn children_end_with_their_parent() {
    let _alone = alone();
    let (mut witness, end) = Witness::new();
    let made = children(request(1, Isolation::Full), None, |_| {
        let grandchildren = children(request(2, Isolation::None), None, |_| {
            loop {
                // SAFETY: plain system call.
                unsafe { libc::pause() };
            }
        });
        i32::from(grandchildren.len() != 2)
    });
    drop(end);
    assert_eq!(code(&made[0]), 0);
    assert_eq!(witness.look(common::PATIENCE), Seen::AllGone);
}

#[test]
fn a_child_makes_children_of_its_own_whose_views_no_path_leads_to() {
    let _alone = alone();
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("base");
    // As a store within its base: hidden by whatever is bound over that.
    let mut worlds = Directories::new(&dir);
    worlds.base = dir.clone();
    let made = children(request(2, Isolation::Full), Some(&mut worlds), |myself| {
        assert!(!dir.join("views").exists());
        let views = myself.views().unwrap().try_clone_to_owned().unwrap();
        // Directories of its own in the same place.
        let name = myself.number().to_string();
        rustix::fs::mkdirat(&views, &name, rustix::fs::Mode::RWXU).unwrap();
        let opened = rustix::fs::openat(&views, &name, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
        let path = PathBuf::new();
        let views = opened.unwrap();
        let mut below =
            Directories { views, path, base: dir.clone(), made: vec![], attached: 0, refuse: None };
        let grandchildren = children(request(2, Isolation::Full), Some(&mut below), |myself| {
            fs::write(dir.join("who"), format!("{}", myself.number())).unwrap();
            0
        });
        grandchildren.iter().map(code).sum()
    });
    assert_eq!(made.iter().map(code).collect::<Vec<_>>(), [0, 0]);
    for (outer, inner) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let who = dir.join(format!("views/{outer}/b0-{inner}/who"));
        assert_eq!(fs::read_to_string(who).unwrap(), inner.to_string());
    }
}

#[test]
fn none_and_more_than_64_are_refused_and_64_are_not() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut worlds = Directories::new(dir.path());
    for count in [0, CHILDREN_MAX + 1, u32::MAX] {
        let error = refused(request(count, Isolation::Full), Some(&mut worlds));
        assert!(matches!(error, BranchError::Count { .. }) && error.errno() == libc::EINVAL, "{error}");
    }
    assert_eq!(worlds.left(), 0);
    let made = children(request(CHILDREN_MAX, Isolation::Full), Some(&mut worlds), |myself| {
        i32::try_from(myself.number()).unwrap()
    });
    assert_eq!(made.iter().map(code).collect::<Vec<_>>(), (1..=64).collect::<Vec<_>>());
}

#[test]
fn a_create_that_fails_on_the_way_leaves_no_process_no_branch_and_no_descriptor() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut worlds = Directories::new(dir.path());
    let before = holdings();
    for isolation in [Isolation::Full, Isolation::None] {
        for number in 1..=3 {
            (worlds.attached, worlds.refuse) = (0, Some(number));
            let error = refused(request(3, isolation), Some(&mut worlds));
            assert_eq!(error.errno(), libc::ENOTCONN, "{error}");
            assert_eq!((worlds.left(), holdings()), (0, before.clone()), "attach {number}");
        }
        // Nothing can be bound over what is not there.
        let base = std::mem::replace(&mut worlds.base, dir.path().join("nowhere"));
        let error = refused(request(3, isolation), Some(&mut worlds));
        assert_eq!(error.errno(), libc::ENOENT, "{error}");
        assert_eq!((worlds.left(), holdings()), (0, before.clone()), "bind");
        worlds.base = base;
    }
}

#[test]
fn wherever_the_limit_of_processes_is_met_nothing_is_left() {
    let _alone = alone();
    if rustix::process::geteuid().is_root() {
        println!("skipped: no such limit for root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut worlds = Directories::new(dir.path());
    let before = holdings();
    let resource = rustix::process::Resource::Nproc;
    let old = rustix::process::getrlimit(resource);
    // Some are others': the first limits are far too low, the last one is not.
    let mut failures = 0;
    for limit in 1u64.. {
        rustix::process::setrlimit(resource, rustix::process::Rlimit { current: Some(limit), ..old })
            .unwrap();
        // SAFETY: as in `children`.
        let made = unsafe { create(request(2, Isolation::Full), Some(&mut worlds)) };
        match made {
            Err(error) => {
                assert_eq!(error.errno(), libc::EAGAIN, "{error}");
                assert_eq!((worlds.left(), holdings()), (0, before.clone()), "limit {limit}");
                failures += 1;
            }
            Ok(Role::Parent(made)) => {
                rustix::process::setrlimit(resource, old).unwrap();
                made.iter().for_each(|child| assert_eq!(code(child), 0));
                break;
            }
            // SAFETY: ends the process.
            Ok(Role::Child(_)) => unsafe { libc::_exit(0) },
        }
    }
    assert!(failures > 4, "{failures}");
}

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    common::again_as_an_ordinary_user("all_of_this_holds_for_an_ordinary_user");
}
