//! Copying inside the kernel, and advice that changes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags, copy_file_range, fadvise, fallocate, ioctl_ficlone, sendfile};
use rustix::pipe::{SpliceFlags, pipe, splice};

use crate::both::same;

fn content(at: &Path) {
    fs::write(at.join("from"), (0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    fs::write(at.join("to"), "short").unwrap();
    fs::create_dir(at.join("dir")).unwrap();
}

fn writer(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

#[test]
fn copy_file_range_copies_what_it_copies_on_ext4() {
    same(content, |play| {
        let from = File::open(play.at("from")).unwrap();
        for name in ["to", "new", "from"] {
            let to = writer(&play.at(name));
            let cases = [
                (0, 0, 1000),
                (399_990, 5, 100),
                (500_000, 0, 10),
                (10, 20, 15),
                (0, 300_000, 4096),
                (0, 0, 0),
            ];
            for (mut at, mut into, len) in cases {
                let copied = copy_file_range(&from, Some(&mut at), &to, Some(&mut into), len);
                play.answer(format!("{len} to {name}"), copied.map(|n| (n, at, into)));
            }
            play.bytes(name);
        }
        let reader = File::open(play.at("to")).unwrap();
        play.answer("to a reader", copy_file_range(&from, None, &reader, None, 10));
        let appender = OpenOptions::new().append(true).open(play.at("to")).unwrap();
        play.answer("to an appender", copy_file_range(&from, None, &appender, None, 10));
        let dir = File::open(play.at("dir")).unwrap();
        play.answer("of a directory", copy_file_range(&dir, None, writer(&play.at("to")), None, 10));
        play.answer("all", fs::copy(play.at("from"), play.at("dir/copy")));
        play.bytes("dir/copy");
    });
}

#[test]
fn sendfile_and_splice_move_the_bytes() {
    same(content, |play| {
        let from = File::open(play.at("from")).unwrap();
        let to = writer(&play.at("sent"));
        let mut offset = 1000;
        play.answer("sendfile", sendfile(&to, &from, Some(&mut offset), 50_000));
        play.note("offset", offset);
        play.bytes("sent");
        let (reading, writing) = pipe().unwrap();
        let mut at = 4;
        play.answer("from a file", splice(&from, Some(&mut at), &writing, None, 4096, SpliceFlags::empty()));
        let mut into = 2;
        play.answer("to a file", splice(&reading, None, &to, Some(&mut into), 4096, SpliceFlags::empty()));
        (&File::from(writing)).write_all(b"rest").unwrap();
        let mut rest = [0; 4];
        File::from(reading).read_exact(&mut rest).unwrap();
        play.note("left in the pipe", rest);
        play.bytes("sent");
    });
}

#[test]
fn cloning_is_refused_as_ext4_refuses_it() {
    same(content, |play| {
        let from = File::open(play.at("from")).unwrap();
        play.call("clone", ioctl_ficlone(writer(&play.at("to")), &from));
        play.call("clone to a reader", ioctl_ficlone(File::open(play.at("to")).unwrap(), &from));
        play.bytes("to");
    });
}

#[test]
fn advice_is_taken_and_changes_nothing() {
    same(content, |play| {
        let file = writer(&play.at("from"));
        for advice in [
            Advice::Normal,
            Advice::Sequential,
            Advice::Random,
            Advice::WillNeed,
            Advice::DontNeed,
            Advice::NoReuse,
        ] {
            play.call(format!("{advice:?}"), fadvise(&file, 0, None, advice));
        }
        // SAFETY: takes a descriptor and two numbers.
        let ahead = unsafe { libc::readahead(std::os::fd::AsRawFd::as_raw_fd(&file), 0, 1 << 16) };
        play.note("readahead", ahead);
        file.write_all_at(b"after", 7).unwrap();
        play.call("dropped", fadvise(&file, 0, None, Advice::DontNeed));
        play.bytes("from");
        play.call("range", {
            // SAFETY: takes a descriptor and three numbers.
            match unsafe { libc::sync_file_range(std::os::fd::AsRawFd::as_raw_fd(&file), 0, 100, 7) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
        play.call("allocated", fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 10));
    });
}
