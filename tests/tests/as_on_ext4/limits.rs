//! Limits and what cannot be: space, largest files, resource limits, inode flags.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, ioctl_getflags, ioctl_setflags, statvfs};
use rustix::io::Errno;

use crate::both::same;

/// How ext4 stores a file, which it wants said back: `EXT4_EXTENTS_FL`.
const EXTENTS: rustix::fs::IFlags = rustix::fs::IFlags::from_bits_retain(0x8_0000);

fn content(at: &Path) {
    fs::write(at.join("file"), "content").unwrap();
    fs::create_dir(at.join("dir")).unwrap();
}

#[test]
fn the_filesystem_tells_the_same_room_and_the_same_name_length() {
    same(content, |play| {
        for name in [".", "file", "dir"] {
            let fs = statvfs(play.at(name)).unwrap();
            play.note(name, (fs.f_namemax, fs.f_bsize, fs.f_frsize, fs.f_blocks, fs.f_files));
            play.note("some is free", (fs.f_bfree >= fs.f_bavail, fs.f_bavail > 0, fs.f_ffree > 0));
        }
    });
}

#[test]
fn a_file_ends_where_the_hosts_files_end() {
    same(content, |play| {
        let file = OpenOptions::new().read(true).write(true).open(play.at("file")).unwrap();
        let most: u64 = (16 << 40) - 4096;
        for offset in [most - 1, most, most + 1, 1 << 60, i64::MAX as u64] {
            play.answer(format!("write at {offset}"), file.write_at(b"xy", offset));
            play.answer("size", file.metadata().map(|m| m.len()));
            play.call(format!("truncate to {offset}"), file.set_len(offset));
            play.call(
                format!("allocate at {offset}"),
                fallocate(&file, FallocateFlags::KEEP_SIZE, offset, 4096),
            );
            play.answer(format!("read at {offset}"), file.read_at(&mut [0; 4], offset));
            play.call("cut", file.set_len(7));
        }
        play.bytes("file");
    });
}

#[test]
fn the_file_size_limit_of_a_process_is_kept() {
    same(content, |play| {
        let script = "import os, resource, signal, sys\n\
            resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n\
            if sys.argv[2] == 'ignored': signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n\
            f = os.open(sys.argv[1], os.O_RDWR)\n\
            def go(what, act):\n    \
                try: print(what, act(), flush=True)\n    \
                except OSError as e: print(what, e.errno, flush=True)\n\
            go('fits', lambda: os.pwrite(f, b'x' * 100, 9900))\n\
            go('half', lambda: os.pwrite(f, b'x' * 100, 9950))\n\
            go('allocated', lambda: os.posix_fallocate(f, 0, 9999))\n\
            go('too far allocated', lambda: os.posix_fallocate(f, 0, 20000))\n\
            go('truncated', lambda: os.ftruncate(f, 20000))\n\
            go('behind', lambda: os.pwrite(f, b'x', 10000))\n\
            print(os.fstat(f).st_size)";
        for how in ["ignored", "deadly"] {
            let output =
                Command::new("python3").args(["-c", script]).arg(play.at("file")).arg(how).output().unwrap();
            play.note(
                how,
                (output.status.code(), output.status.signal(), String::from_utf8_lossy(&output.stdout)),
            );
            play.bytes("file");
        }
    });
}

/// A flag that is not kept must not be taken: a file would seem safe that is not.
#[test]
fn immutable_and_other_flags_are_refused() {
    same(content, |play| {
        use rustix::fs::IFlags as F;
        for name in ["file", "dir"] {
            let object = File::open(play.at(name)).unwrap();
            let asked = ioctl_getflags(&object).map(|_| ());
            play.unlike("FS_IOC_GETFLAGS", asked, Ok(()), Err(Errno::NOTTY));
            for flags in [F::IMMUTABLE, F::APPEND, F::NODUMP] {
                let set = ioctl_setflags(&object, EXTENTS | flags);
                let taken = set.is_ok();
                if taken {
                    ioctl_setflags(&object, EXTENTS).unwrap();
                }
                play.unlike("FS_IOC_SETFLAGS", taken, true, false);
            }
        }
        play.call("written", fs::write(play.at("file"), "not immutable"));
        play.call("removed", fs::remove_file(play.at("file")));
    });
}

#[test]
fn ioctls_that_nobody_knows_are_refused() {
    same(content, |play| {
        let file = OpenOptions::new().read(true).write(true).open(play.at("file")).unwrap();
        let ask = |number: u64| {
            let mut answer = 0_i32;
            // SAFETY: these numbers write at most one int, or nothing.
            match unsafe { libc::ioctl(file.as_raw_fd(), number, &mut answer) } {
                0 => Ok(answer),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        play.answer("TIOCGWINSZ", ask(libc::TIOCGWINSZ).map(|_| ()));
        play.answer("FIONREAD", ask(libc::FIONREAD));
        play.answer("FIGETBSZ", ask(2));
        play.answer("unknown", ask(0x1234));
        play.answer("FICLONE", rustix::fs::ioctl_ficlone(&file, File::open(play.at("file")).unwrap()));
    });
}
