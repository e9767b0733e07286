//! Attempts on files: in the branch, outside, and on ways from the one to the other.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use crate::table::{Attempt, attempt};

pub(crate) type Answer = Result<(), i32>;

pub(crate) const ALL: [u8; 4] = [1, 1, 1, 1];
pub(crate) const NONE: [u8; 4] = [0, 0, 0, 0];
pub(crate) const WRITERS: [u8; 4] = [0, 1, 1, 1];
pub(crate) const BUILDERS: [u8; 4] = [0, 0, 1, 1];
pub(crate) const DEPLOYERS: [u8; 4] = [0, 0, 0, 1];

pub(crate) fn attempts() -> Vec<Attempt> {
    [in_the_branch(), outside(), ways_out(), elsewhere()].into_iter().flatten().collect()
}

fn in_the_branch() -> Vec<Attempt> {
    vec![
        attempt("read a file of the branch", ALL, |p| read(&p.base("file"))),
        attempt("list the branch", ALL, |p| list(&p.base(""))),
        attempt("write a file of the branch", WRITERS, |p| write(&p.base("file"))),
        attempt("create in the branch", WRITERS, |p| create(&p.base("new"))),
        attempt("truncate in the branch", WRITERS, |p| truncate(&p.base("sized"))),
        attempt("make a directory in the branch", WRITERS, |p| told(fs::create_dir(p.base("newdir")))),
        attempt("remove a directory of the branch", WRITERS, |p| told(fs::remove_dir(p.base("empty")))),
        attempt("remove a file of the branch", WRITERS, |p| told(fs::remove_file(p.base("victim")))),
        attempt("rename within a directory of the branch", WRITERS, |p| {
            told(fs::rename(p.base("dir/file"), p.base("dir/renamed")))
        }),
        attempt("rename between directories of the branch", WRITERS, |p| {
            told(fs::rename(p.base("dir/deep/file"), p.base("moved")))
        }),
        attempt("link in the branch", WRITERS, |p| {
            told(fs::hard_link(p.base("other"), p.base("dir/linked")))
        }),
        attempt("symlink in the branch", WRITERS, |p| told(symlink("/etc", p.base("newlink")))),
        attempt("FIFO in the branch", WRITERS, |p| mknod(&p.base("fifo"), libc::S_IFIFO)),
        attempt("unnamed file in the branch", WRITERS, |p| unnamed(&p.base(""))),
        attempt("chmod in the branch", WRITERS, |p| chmod(&p.base("other"))),
        attempt("chown in the branch", WRITERS, |p| chown(&p.base("other"))),
        attempt("change times in the branch", WRITERS, |p| utimes(&p.base("other"))),
        attempt("set an extended attribute in the branch", WRITERS, |p| setxattr(&p.base("other"))),
        attempt("execute a file of the branch", BUILDERS, |p| execute(&p.base("tool"))),
        attempt("read a script of the branch by its interpreter", ALL, |p| {
            execute_args(&[c(Path::new("/bin/sh")), c(&p.base("tool"))])
        }),
    ]
}

fn outside() -> Vec<Attempt> {
    vec![
        attempt("read outside", NONE, |p| read(&p.outside("file"))),
        attempt("list outside", NONE, |p| list(&p.outside(""))),
        attempt("write outside", NONE, |p| write(&p.outside("file"))),
        attempt("create outside", NONE, |p| create(&p.outside("new"))),
        attempt("truncate outside", NONE, |p| truncate(&p.outside("sized"))),
        attempt("make a directory outside", NONE, |p| told(fs::create_dir(p.outside("newdir")))),
        attempt("remove a directory outside", NONE, |p| told(fs::remove_dir(p.outside("empty")))),
        attempt("remove a file outside", NONE, |p| told(fs::remove_file(p.outside("victim")))),
        attempt("rename outside", NONE, |p| {
            told(fs::rename(p.outside("dir/file"), p.outside("dir/renamed")))
        }),
        attempt("link outside", NONE, |p| told(fs::hard_link(p.outside("other"), p.outside("linked")))),
        attempt("symlink outside", NONE, |p| told(symlink("/etc", p.outside("newlink")))),
        attempt("FIFO outside", NONE, |p| mknod(&p.outside("fifo"), libc::S_IFIFO)),
        attempt("unnamed file outside", NONE, |p| unnamed(&p.outside(""))),
        attempt("chmod outside", NONE, |p| chmod(&p.outside("other"))),
        attempt("chown outside", NONE, |p| chown(&p.outside("other"))),
        attempt("change times outside", NONE, |p| utimes(&p.outside("other"))),
        attempt("set an extended attribute outside", NONE, |p| setxattr(&p.outside("other"))),
        attempt("execute outside", NONE, |p| execute(&p.outside("tool"))),
    ]
}

fn ways_out() -> Vec<Attempt> {
    vec![
        attempt("read outside through a link of the branch", NONE, |p| read(&p.base("link-out"))),
        attempt("write outside through a link of the branch", NONE, |p| write(&p.base("link-out"))),
        attempt("create outside through a linked directory", NONE, |p| create(&p.base("dir-out/through"))),
        attempt("read outside by ..", NONE, |p| read(&p.dotted(&p.outside("file")))),
        attempt("read outside by /proc/self/root", NONE, |p| {
            read(&below("/proc/self/root", &p.outside("file")))
        }),
        attempt("write outside by /proc/self/root", NONE, |p| {
            write(&below("/proc/self/root", &p.outside("file")))
        }),
        attempt("read outside by /proc/self/cwd", NONE, |p| {
            read(
                &Path::new("/proc/self/cwd")
                    .join("../".repeat(16))
                    .join(p.outside("file").strip_prefix("/").unwrap()),
            )
        }),
        attempt("read outside from a directory opened as a path only", NONE, |p| from_a_path(&p.outside(""))),
        attempt("read outside from a working directory outside", NONE, |p| {
            told(std::env::set_current_dir(p.outside("")))?;
            read(Path::new("file"))
        }),
        attempt("move a file out", NONE, |p| told(fs::rename(p.base("other"), p.outside("moved")))),
        attempt("move a file in", NONE, |p| told(fs::rename(p.outside("other"), p.base("stolen")))),
        attempt("link a file in", NONE, |p| told(fs::hard_link(p.outside("other"), p.base("stolen-link")))),
        attempt("link a file out", NONE, |p| told(fs::hard_link(p.base("other"), p.outside("linked-out")))),
        attempt("exchange a file with one outside", NONE, |p| {
            exchange(&p.base("other"), &p.outside("other"))
        }),
    ]
}

fn elsewhere() -> Vec<Attempt> {
    vec![
        attempt("create in /tmp", WRITERS, |p| create(&p.scratch.join("new"))),
        attempt("execute from /tmp", BUILDERS, |p| {
            let copy = p.scratch.join("tool");
            told(fs::copy(p.base("tool"), &copy))?;
            execute(&copy)
        }),
        attempt("create in shared memory", WRITERS, |_| shared_memory()),
        attempt("read a key of the user", DEPLOYERS, |p| read(&p.home.join(".ssh/file"))),
        attempt("write a key of the user", NONE, |p| write(&p.home.join(".ssh/file"))),
        attempt("write to the cache of a tool", BUILDERS, |p| write(&p.home.join(".cargo/registry/file"))),
        attempt("create in the home directory", NONE, |p| create(&p.home.join("new"))),
        attempt("execute a program of the system", ALL, |_| execute(Path::new("/bin/true"))),
        attempt("read what a program needs of the system", ALL, |_| read(Path::new("/etc/passwd"))),
        attempt("write to /dev/null", ALL, |_| write(Path::new("/dev/null"))),
        attempt("read random numbers", ALL, |_| {
            open(Path::new("/dev/urandom"), OpenOptions::new().read(true))
        }),
        attempt("list /dev", NONE, |_| list(Path::new("/dev"))),
        attempt("read of the own process", ALL, |_| read(Path::new("/proc/self/status"))),
        attempt("write to /proc", NONE, |_| {
            open(Path::new("/proc/self/oom_score_adj"), OpenOptions::new().write(true))
        }),
    ]
}

pub(crate) fn told<T>(result: io::Result<T>) -> Answer {
    result.map(drop).map_err(|e| e.raw_os_error().unwrap_or(250))
}

pub(crate) fn answered(result: libc::c_int) -> Answer {
    if result < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(250)) } else { Ok(()) }
}

pub(crate) fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

pub(crate) fn read(path: &Path) -> Answer {
    told(fs::read(path))
}

pub(crate) fn list(path: &Path) -> Answer {
    told(fs::read_dir(path))
}

fn open(path: &Path, options: &OpenOptions) -> Answer {
    told(options.open(path))
}

pub(crate) fn write(path: &Path) -> Answer {
    told(OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(b"more")))
}

pub(crate) fn create(path: &Path) -> Answer {
    open(path, OpenOptions::new().write(true).create_new(true))
}

pub(crate) fn truncate(path: &Path) -> Answer {
    // SAFETY: a C string.
    answered(unsafe { libc::truncate(c(path).as_ptr(), 3) })
}

pub(crate) fn mknod(path: &Path, kind: u32) -> Answer {
    // SAFETY: a C string.
    answered(unsafe { libc::mknod(c(path).as_ptr(), kind | 0o600, 0) })
}

fn unnamed(dir: &Path) -> Answer {
    open(dir, OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE))
}

fn chmod(path: &Path) -> Answer {
    told(fs::set_permissions(path, fs::Permissions::from_mode(0o640)))
}

/// To oneself, which everybody may.
fn chown(path: &Path) -> Answer {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    told(std::os::unix::fs::chown(path, Some(uid), Some(gid)))
}

pub(crate) fn utimes(path: &Path) -> Answer {
    // SAFETY: a C string; no times mean now.
    answered(unsafe { libc::utimensat(libc::AT_FDCWD, c(path).as_ptr(), std::ptr::null(), 0) })
}

fn setxattr(path: &Path) -> Answer {
    // SAFETY: C strings and one byte.
    answered(unsafe { libc::setxattr(c(path).as_ptr(), c"user.a".as_ptr(), c"b".as_ptr().cast(), 1, 0) })
}

pub(crate) fn execute(path: &Path) -> Answer {
    execute_args(&[c(path)])
}

/// A program that says nothing and ends with 0, which is then the attempt's answer.
fn execute_args(args: &[CString]) -> Answer {
    let mut pointers: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: null-terminated arrays of C strings.
    answered(unsafe { libc::execve(pointers[0], pointers.as_ptr(), [std::ptr::null()].as_ptr()) })
}

fn below(dir: &str, path: &Path) -> std::path::PathBuf {
    Path::new(dir).join(path.strip_prefix("/").unwrap())
}

fn from_a_path(dir: &Path) -> Answer {
    let dir = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(dir);
    let dir = dir.map_err(|e| e.raw_os_error().unwrap_or(250))?;
    // SAFETY: a C string.
    answered(unsafe { libc::openat(dir.as_raw_fd(), c"file".as_ptr(), libc::O_RDONLY) })
}

pub(crate) fn open_for(path: &Path, flags: i32) -> Answer {
    // SAFETY: a C string.
    answered(unsafe { libc::open(c(path).as_ptr(), flags) })
}

fn exchange(a: &Path, b: &Path) -> Answer {
    let (a, b) = (c(a), c(b));
    // SAFETY: C strings.
    answered(unsafe {
        libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE)
    })
}

fn shared_memory() -> Answer {
    let path =
        Path::new("/dev/shm").join(format!("branch-proc-attempt-{}", rustix::process::geteuid().as_raw()));
    create(&path)?;
    told(fs::remove_file(&path))
}
