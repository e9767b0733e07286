//! Writing in every mode, from several processes and through several descriptors at once.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;

use rustix::io::{IoSlice, ReadWriteFlags, pwritev2};

use crate::both::same;

fn content(at: &Path) {
    fs::write(at.join("log"), "first line\n").unwrap();
    fs::write(at.join("blocks"), vec![b'b'; 16 << 10]).unwrap();
    File::create(at.join("empty")).unwrap();
}

#[test]
fn several_processes_append_and_no_record_is_lost() {
    same(content, |play| {
        let script = "import os, sys\nf = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\nfor n in range(200): os.write(f, (sys.argv[2] * 40 + '\\n').encode())";
        let start = |letter: &str| {
            Command::new("python3").args(["-c", script]).arg(play.at("log")).arg(letter).spawn().unwrap()
        };
        let writers: Vec<_> = ["a", "b", "c"].into_iter().map(start).collect();
        for mut writer in writers {
            assert!(writer.wait().unwrap().success());
        }
        let text = fs::read_to_string(play.at("log")).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.dedup_by(|a, b| a == b && a.len() != 40);
        let whole = |letter: &str| lines.iter().filter(|line| **line == letter.repeat(40)).count();
        play.note("whole records", (whole("a"), whole("b"), whole("c"), text.len()));
    });
}

#[test]
fn appending_ignores_the_offset_and_the_position() {
    same(content, |play| {
        let mut log = OpenOptions::new().read(true).append(true).open(play.at("log")).unwrap();
        play.answer("pwrite", log.write_at(b"pwritten\n", 3));
        log.seek(SeekFrom::Start(0)).unwrap();
        log.write_all(b"written\n").unwrap();
        play.answer("position", log.stream_position());
        log.set_len(5).unwrap();
        log.write_all(b"|").unwrap();
        play.bytes("log");
        let other = OpenOptions::new().read(true).write(true).open(play.at("log")).unwrap();
        let append = |bytes: &[u8]| pwritev2(&other, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND);
        play.answer("RWF_APPEND", append(b" appended"));
        play.answer("RWF_DSYNC", pwritev2(&other, &[IoSlice::new(b"F")], 0, ReadWriteFlags::DSYNC));
        play.answer(
            "RWF_NOAPPEND",
            pwritev2(&log, &[IoSlice::new(b"N")], 1, ReadWriteFlags::from_bits_retain(0x20)),
        );
        play.bytes("log");
        rustix::fs::fcntl_setfl(&log, rustix::fs::OFlags::empty()).unwrap();
        play.answer("append switched off", log.write_at(b"X", 2));
        rustix::fs::fcntl_setfl(&other, rustix::fs::OFlags::APPEND).unwrap();
        play.answer("and on", other.write_at(b"Y", 2));
        play.bytes("log");
    });
}

/// Memory for O_DIRECT, which wants it aligned.
#[repr(align(4096))]
struct Aligned([u8; 8192]);

#[test]
fn direct_reads_and_writes_meet_the_cached_ones() {
    same(content, |play| {
        let direct = |write: bool| {
            OpenOptions::new().read(true).write(write).custom_flags(libc::O_DIRECT).open(play.at("blocks"))
        };
        let cached = OpenOptions::new().read(true).write(true).open(play.at("blocks")).unwrap();
        let mut memory = Box::new(Aligned([0; 8192]));
        play.answer("direct before copy-up", direct(false).and_then(|f| f.read_at(&mut memory.0, 4096)));
        play.note("read", (memory.0[0], memory.0[8191]));
        cached.write_all_at(b"cached", 4096).unwrap();
        let file = direct(true).unwrap();
        play.answer("direct after a cached write", file.read_at(&mut memory.0, 4096));
        play.note("read", String::from_utf8_lossy(&memory.0[..8]));
        memory.0.fill(b'd');
        play.answer("direct write", file.write_at(&memory.0, 8192));
        let mut bytes = [0; 8];
        cached.read_exact_at(&mut bytes, 8188).unwrap();
        play.note("cached after a direct write", bytes);
        play.answer("behind the end", file.write_at(&memory.0, 64 << 10));
        play.answer("at the end", file.read_at(&mut memory.0, 72 << 10));
        play.bytes("blocks");
    });
}

#[test]
fn synchronous_and_plain_descriptors_see_each_other() {
    same(content, |play| {
        let open = |flags: i32| {
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(play.at("log")).unwrap()
        };
        let mut files =
            [open(0), open(libc::O_SYNC), open(libc::O_DSYNC), open(libc::O_NONBLOCK), open(libc::O_APPEND)];
        for (n, file) in files.iter_mut().enumerate() {
            write!(file, "{n}{n}").unwrap();
            file.seek(SeekFrom::Start(n as u64)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            play.note(n, text);
        }
        for file in &files {
            play.call("sync", file.sync_all());
            let flags = rustix::fs::fcntl_getfl(file.as_fd()).unwrap();
            play.note("flags", flags.bits() & !(libc::O_LARGEFILE as u32 | 0o100_000));
        }
    });
}

#[test]
fn what_a_descriptor_may_not_do_it_may_not_do() {
    same(content, |play| {
        let reader = File::open(play.at("log")).unwrap();
        let writer = OpenOptions::new().write(true).open(play.at("log")).unwrap();
        play.answer("write of a reader", reader.write_at(b"x", 0));
        play.answer("truncate of a reader", reader.set_len(0));
        play.answer("read of a writer", writer.read_at(&mut [0; 4], 0));
        let dir = File::open(play.at(".")).unwrap();
        play.answer("read of a directory", dir.read_at(&mut [0; 4], 0));
        play.answer("truncate of a directory", dir.set_len(0));
        play.call("sync of a reader", reader.sync_all());
        play.call("sync of a directory", dir.sync_all());
        play.call("data of a directory", dir.sync_data());
        play.call("filesystem", rustix::fs::syncfs(&dir));
        play.bytes("log");
    });
}

#[test]
fn writes_far_out_make_a_hole_and_shorter_files_lose_their_tail() {
    same(content, |play| {
        for name in ["log", "empty", "blocks"] {
            let file = OpenOptions::new().read(true).write(true).open(play.at(name)).unwrap();
            play.answer("far", file.write_at(b"far", 1_000_000));
            play.call("cut", file.set_len(5));
            play.call("grown", file.set_len(20));
            play.bytes(name);
            play.answer("nothing", file.write_at(b"", 99));
            play.answer("vectors", {
                let parts = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"two")];
                rustix::io::pwritev(&file, &parts, 10)
            });
            play.bytes(name);
            play.stat(name);
        }
    });
}
