//! flock(2), record locks and open-file-description locks, between descriptors and between processes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Child;

use rustix::fs::{FlockOperation, flock};

use crate::both::same;
use crate::play::Play;
use crate::sys;

fn content(at: &Path) {
    fs::write(at.join("file"), "0123456789").unwrap();
    fs::create_dir(at.join("dir")).unwrap();
}

/// A process that holds a lock until it is told to stop.
struct Holder(Child);

impl Holder {
    /// `how` is Python that takes the lock on descriptor `f`.
    fn start(path: &Path, how: &str) -> Holder {
        let script = format!(
            "import fcntl, os, struct, sys\nf = os.open(sys.argv[1], os.O_RDWR)\n{how}\nsys.stdout.write('held'); sys.stdout.flush()\nsys.stdin.read(1)"
        );
        let mut child = sys::python(&script, path);
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
        Holder(child)
    }

    fn stop(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn open(play: &Play) -> File {
    OpenOptions::new().read(true).write(true).open(play.at("file")).unwrap()
}

/// A record lock as `struct flock` has it.
fn record(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: len, l_pid: 0 }
}

fn fcntl(file: &File, command: i32, mut lock: libc::flock) -> Result<(i16, i64, i64), std::io::Error> {
    // SAFETY: the commands of these tests read and write the one structure behind the pointer.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &mut lock) } {
        0 => Ok((lock.l_type, lock.l_start, lock.l_len)),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[test]
fn flock_excludes_shares_and_ends_with_the_last_descriptor() {
    same(content, |play| {
        let (a, b, c) = (open(play), File::open(play.at("file")).unwrap(), open(play));
        let copy = a.try_clone().unwrap();
        use FlockOperation as F;
        play.call("a exclusive", flock(&a, F::NonBlockingLockExclusive));
        play.call("b shared", flock(&b, F::NonBlockingLockShared));
        play.call("the copy's is a's", flock(&copy, F::NonBlockingLockExclusive));
        play.call("a to shared", flock(&a, F::NonBlockingLockShared));
        play.call("b shared now", flock(&b, F::NonBlockingLockShared));
        play.call("c exclusive", flock(&c, F::NonBlockingLockExclusive));
        drop(a);
        drop(b);
        play.call("held by the copy", flock(&c, F::NonBlockingLockExclusive));
        drop(copy);
        play.call("free", flock(&c, F::NonBlockingLockExclusive));
        let dir = File::open(play.at("dir")).unwrap();
        play.call("of a directory", flock(&dir, F::NonBlockingLockExclusive));
    });
}

#[test]
fn locks_hold_between_processes_and_end_with_them() {
    same(content, |play| {
        let file = open(play);
        let path = play.at("file");
        use FlockOperation as F;
        let held = Holder::start(&path, "fcntl.flock(f, fcntl.LOCK_EX)");
        play.call("flock held elsewhere", flock(&file, F::NonBlockingLockExclusive));
        play.call("record locks are another kind", fcntl(&file, libc::F_SETLK, record(libc::F_WRLCK, 0, 0)));
        held.stop();
        play.call("flock freed at exit", flock(&file, F::NonBlockingLockExclusive));
        drop(file);
        for end in [Holder::stop as fn(Holder), Holder::kill] {
            let file = open(play);
            let held = Holder::start(&path, "fcntl.lockf(f, fcntl.LOCK_EX, 4, 2)");
            for (what, start, len) in [("before", 0, 2), ("inside", 3, 1), ("behind", 6, 0), ("over", 0, 0)] {
                play.answer(
                    what,
                    fcntl(&file, libc::F_SETLK, record(libc::F_WRLCK, start, len)).map(|l| l.0),
                );
                play.answer(what, fcntl(&file, libc::F_GETLK, record(libc::F_RDLCK, start, len)));
                play.answer(
                    what,
                    fcntl(&file, libc::F_OFD_SETLK, record(libc::F_RDLCK, start, len)).map(|l| l.0),
                );
            }
            end(held);
            play.call("free", fcntl(&file, libc::F_SETLK, record(libc::F_WRLCK, 0, 0)));
        }
    });
}

#[test]
fn who_waits_for_a_lock_gets_it_when_it_is_free() {
    same(content, |play| {
        let file = open(play);
        let path = play.at("file");
        for how in ["fcntl.flock(f, fcntl.LOCK_EX)", "fcntl.lockf(f, fcntl.LOCK_EX)"] {
            let held = Holder::start(&path, how);
            let outcome = std::thread::scope(|scope| {
                let waiter = scope.spawn(|| match how.contains("flock") {
                    true => flock(&file, FlockOperation::LockExclusive).map_err(Into::into),
                    false => fcntl(&file, libc::F_SETLKW, record(libc::F_WRLCK, 0, 0)).map(drop),
                });
                held.stop();
                waiter.join().unwrap()
            });
            play.call(how, outcome);
        }
    });
}

#[test]
fn open_file_description_locks_belong_to_the_description() {
    same(content, |play| {
        let (a, b) = (open(play), open(play));
        let copy = a.try_clone().unwrap();
        play.answer("a", fcntl(&a, libc::F_OFD_SETLK, record(libc::F_WRLCK, 0, 5)));
        play.answer("b at the same", fcntl(&b, libc::F_OFD_SETLK, record(libc::F_WRLCK, 4, 2)));
        play.answer("b elsewhere", fcntl(&b, libc::F_OFD_SETLK, record(libc::F_WRLCK, 5, 5)));
        play.answer("who is in b's way", fcntl(&b, libc::F_OFD_GETLK, record(libc::F_WRLCK, 0, 0)));
        drop(a);
        play.answer("the copy holds it", fcntl(&b, libc::F_OFD_SETLK, record(libc::F_RDLCK, 0, 1)));
        drop(copy);
        play.answer("free", fcntl(&b, libc::F_OFD_SETLK, record(libc::F_RDLCK, 0, 1)));
        play.answer(
            "a record lock beside it",
            fcntl(&open(play), libc::F_SETLK, record(libc::F_WRLCK, 0, 0)).map(|l| l.0),
        );
    });
}

/// A process locks a file, another writes it: the copy-up must not lose the lock.
#[test]
fn a_lock_survives_the_copy_up_of_its_file() {
    same(content, |play| {
        let reader = File::open(play.at("file")).unwrap();
        flock(&reader, FlockOperation::NonBlockingLockShared).unwrap();
        fcntl(&reader, libc::F_OFD_SETLK, record(libc::F_RDLCK, 0, 4)).unwrap();
        let mut writer = open(play);
        writer.write_all(b"copied up").unwrap();
        for file in [&writer, &open(play)] {
            play.call("exclusive", flock(file, FlockOperation::NonBlockingLockExclusive));
            play.answer(
                "write lock",
                fcntl(file, libc::F_OFD_SETLK, record(libc::F_WRLCK, 0, 1)).map(|l| l.0),
            );
        }
        fs::rename(play.at("file"), play.at("dir/file")).unwrap();
        let again = OpenOptions::new().write(true).open(play.at("dir/file")).unwrap();
        play.call("after a rename", flock(&again, FlockOperation::NonBlockingLockExclusive));
        drop(reader);
        play.call("released", flock(&again, FlockOperation::NonBlockingLockExclusive));
    });
}
