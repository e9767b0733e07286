//! What the end of a branch means for those who still hold something of it, and for all others.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use branch_proto::{Children, ClientError, Failure, GroupKind};
use branchfs_tests::{Times, Workspace, tree};

use crate::errno;

fn workspace() -> Option<Workspace> {
    Workspace::over(|base| {
        fs::create_dir(base.join("dir")).unwrap();
        fs::write(base.join("file"), "base\n").unwrap();
        fs::write(base.join("dir/file"), "base\n").unwrap();
    })
}

/// Branches `winner` and `loser` of one group, with a change in each.
fn race() -> Option<Workspace> {
    let workspace = workspace()?;
    workspace.fork(&["winner", "loser"], "main", GroupKind::Exclusive);
    for branch in ["winner", "loser"] {
        fs::write(workspace.view(branch).join("own"), branch).unwrap();
    }
    Some(workspace)
}

#[test]
fn open_descriptors_of_a_loser_stop_reading() {
    let Some(workspace) = race() else { return };
    let view = workspace.view("loser");
    let files = ["own", "file"].map(|name| {
        let mut file = File::open(view.join(name)).unwrap();
        file.read_to_end(&mut Vec::new()).unwrap(); // the kernel has cached it
        file
    });
    workspace.commit("winner");
    for file in files {
        assert_eq!(errno(file.read_at(&mut [0; 4], 0)), libc::ESTALE);
        assert_eq!(errno(file.metadata()), libc::ESTALE);
    }
}

#[test]
fn open_descriptors_of_a_loser_stop_writing() {
    let Some(workspace) = race() else { return };
    let view = workspace.view("loser");
    let open = |name: &str| OpenOptions::new().append(true).open(view.join(name)).unwrap();
    let mut files = [open("own"), open("file")];
    files[0].write_all(b" before").unwrap();
    workspace.commit("winner");
    for file in &mut files {
        assert_eq!(errno(file.write(b"after")), libc::ESTALE);
        assert_eq!(errno(file.set_len(0)), libc::ESTALE);
    }
    assert_eq!(fs::read_to_string(workspace.base().join("own")).unwrap(), "winner");
    assert_eq!(fs::read_to_string(workspace.base().join("file")).unwrap(), "base\n");
}

#[test]
fn a_process_with_its_working_directory_in_a_loser_can_neither_read_nor_make_files_there() {
    let Some(workspace) = race() else { return };
    let dir = File::open(workspace.view("loser").join("dir")).unwrap();
    workspace.commit("winner");
    let flags = rustix::fs::OFlags::RDONLY;
    let opened = rustix::fs::openat(&dir, "file", flags, rustix::fs::Mode::empty());
    assert_eq!(opened.unwrap_err(), rustix::io::Errno::STALE);
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CREATE;
    let made = rustix::fs::openat(&dir, "new", flags, rustix::fs::Mode::from(0o600));
    assert_eq!(made.unwrap_err(), rustix::io::Errno::STALE);
}

#[test]
fn a_loser_cannot_commit_any_more() {
    let Some(workspace) = race() else { return };
    workspace.commit("winner");
    let before = tree(&workspace.base(), Times::Compare);
    let failure = workspace.client().commit("loser").expect_err("too late");
    assert!(
        matches!(&failure, ClientError::Failed(Failure::Stale { name }) if name == "loser"),
        "{failure:?}"
    );
    assert_eq!(workspace.cli(&["commit", "loser"]).status.code(), Some(5));
    assert_eq!(tree(&workspace.base(), Times::Compare), before);
}

/// There was one epoch for all mounts: any commit made every other branch stale, for ever.
#[test]
fn a_commit_does_not_make_unrelated_branches_stale() {
    let Some(workspace) = race() else { return };
    workspace.fork(&["other"], "main", GroupKind::Exclusive);
    workspace.fork(&["below"], "other", GroupKind::Exclusive);
    let mut held = OpenOptions::new().append(true).open(workspace.view("below").join("file")).unwrap();
    assert_eq!(workspace.commit("winner").stale, ["loser"]);
    assert_eq!(workspace.names(), ["main", "other", "below"]);
    held.write_all(b"goes on\n").unwrap();
    fs::write(workspace.view("other").join("new"), "goes on\n").unwrap();
    assert_eq!(fs::read_to_string(workspace.view("below").join("file")).unwrap(), "base\ngoes on\n");
    workspace.commit("below");
    workspace.commit("other");
    assert_eq!(fs::read_to_string(workspace.base().join("file")).unwrap(), "base\ngoes on\n");
    assert_eq!(fs::read_to_string(workspace.base().join("own")).unwrap(), "winner");
}

#[test]
fn open_descriptors_of_an_aborted_branch_are_unusable() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    fs::write(view.join("own"), "own\n").unwrap();
    let options = OpenOptions::new().read(true).write(true).clone();
    let files = ["own", "file"].map(|name| options.open(view.join(name)).unwrap());
    for file in &files {
        file.read_at(&mut [0; 4], 0).unwrap();
    }
    workspace.client().abort("b", Children::Refuse).unwrap();
    for file in &files {
        assert_eq!(errno(file.read_at(&mut [0; 4], 0)), libc::ESTALE);
        assert_eq!(errno(file.write_at(b"late", 0)), libc::ESTALE);
    }
    assert_eq!(fs::read_to_string(workspace.base().join("file")).unwrap(), "base\n");
}

/// The pages of a dead branch stayed readable through maps made before its end.
#[test]
fn a_map_of_an_aborted_branch_faults() {
    let Some(workspace) = workspace() else { return };
    let own = workspace.branch("b").join("own");
    fs::write(&own, [7; PAGE]).unwrap();
    let map = Map::of(&own);
    assert_eq!(map.end_of_a_child_that_reads_it(), Ended::Exit(7), "while it lives");
    workspace.client().abort("b", Children::Refuse).unwrap();
    assert_eq!(map.end_of_a_child_that_reads_it(), Ended::Signal(libc::SIGBUS));
}

/// Any ioctl of the right number on any file of the branch committed it: `git` or a terminal check could.
#[test]
fn an_ioctl_on_an_ordinary_file_is_refused_and_does_nothing() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    fs::write(view.join("own"), "own\n").unwrap();
    for name in ["own", "file", "dir"] {
        let file = File::open(view.join(name)).unwrap();
        for number in [0x8080_6200_u64, 0x6201, 0x6202] {
            let mut reply = [0_u8; 128];
            // SAFETY: the largest of the three numbers writes 128 bytes, as many as the array has.
            let outcome = unsafe { libc::ioctl(file.as_raw_fd(), number as _, reply.as_mut_ptr()) };
            let error = std::io::Error::last_os_error();
            assert_eq!((outcome, error.raw_os_error()), (-1, Some(libc::ENOTTY)), "{name} {number:x}");
        }
    }
    assert_eq!(workspace.names(), ["main", "b"]);
    assert!(!workspace.base().join("own").exists());
}

const PAGE: usize = 4096;

/// The first page of a file, shared and read-only.
struct Map(*mut libc::c_void);

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Exit(i32),
    Signal(i32),
}

impl Map {
    fn of(path: &Path) -> Map {
        let file = File::open(path).unwrap();
        // SAFETY: a new mapping at an address the kernel chooses.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Map(at)
    }

    /// A child, because the fault ends whoever reads.
    fn end_of_a_child_that_reads_it(&self) -> Ended {
        // SAFETY: the child does nothing but read a byte of a live mapping and exit: no lock, no allocation.
        let child = unsafe { libc::fork() };
        assert_ne!(child, -1, "{}", std::io::Error::last_os_error());
        if child == 0 {
            // SAFETY: the default action, so that no handler of the runtime runs; then as above.
            unsafe {
                libc::signal(libc::SIGBUS, libc::SIG_DFL);
                libc::_exit(i32::from(self.0.cast::<u8>().read_volatile()));
            }
        }
        let mut status = 0;
        // SAFETY: our own child, and a place for its status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        if libc::WIFSIGNALED(status) {
            Ended::Signal(libc::WTERMSIG(status))
        } else {
            Ended::Exit(libc::WEXITSTATUS(status))
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `of` with this length, and not used any more.
        assert_eq!(unsafe { libc::munmap(self.0, PAGE) }, 0);
    }
}
