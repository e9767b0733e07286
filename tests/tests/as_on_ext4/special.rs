//! What is no file: FIFOs, sockets, devices.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use rustix::fs::{FileType, Mode, OFlags, makedev, open};

use crate::both::same;
use crate::sys::{as_user, mknod};

fn specials(at: &Path) {
    mknod(&at.join("fifo"), FileType::Fifo, 0o622, 0).unwrap();
    mknod(&at.join("null"), FileType::CharacterDevice, 0o666, makedev(1, 3)).unwrap();
    mknod(&at.join("nobody's block"), FileType::BlockDevice, 0o600, makedev(4095, 0xf_ffff)).unwrap();
    mknod(&at.join("socket"), FileType::Socket, 0o755, 0).unwrap();
    fs::create_dir(at.join("dir")).unwrap();
}

#[test]
fn a_fifo_carries_bytes_between_processes() {
    if !root() {
        return;
    }
    same(specials, |play| {
        mknod(&play.at("new"), FileType::Fifo, 0o600, 0).unwrap();
        for name in ["fifo", "new"] {
            let path = play.at(name);
            let writing = {
                let path = path.clone();
                thread::spawn(move || fs::write(path, "through"))
            };
            play.bytes(name);
            play.call("writer", writing.join().unwrap());
            play.answer("no reader", open(&path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).map(drop));
            let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            (&both).write_all(b"held").unwrap();
            let mut bytes = [0; 4];
            File::open(&path).unwrap().read_exact(&mut bytes).unwrap();
            play.note("held", bytes);
            play.call("sync", both.sync_all());
            play.call("truncate", both.set_len(0));
            play.call(
                "truncate by path",
                OpenOptions::new().write(true).truncate(true).custom_flags(libc::O_NONBLOCK).open(&path),
            );
            play.answer("kind", both.metadata().map(|m| crate::play::seen(&m)));
        }
        fs::rename(play.at("fifo"), play.at("dir/fifo")).unwrap();
        fs::set_permissions(play.at("dir/fifo"), Permissions::from_mode(0o640)).unwrap();
        play.tree();
    });
}

#[test]
fn a_socket_bound_in_a_branch_is_reached_by_its_name() {
    if !root() {
        return;
    }
    same(specials, |play| {
        // Relative: a socket's address has room for 107 bytes.
        crate::sys::inside(&play.at("dir"), || {
            let listener = UnixListener::bind("service").unwrap();
            let mut client = UnixStream::connect("service").unwrap();
            client.write_all(b"hello").unwrap();
            let mut bytes = [0; 5];
            listener.accept().unwrap().0.read_exact(&mut bytes).unwrap();
            play.note("heard", bytes);
            play.call("bound twice", UnixListener::bind("service"));
            fs::rename("service", "renamed").unwrap();
            play.call("old name", UnixStream::connect("service"));
            play.call("new name", UnixStream::connect("renamed"));
            fs::hard_link("renamed", "linked").unwrap();
            play.call("linked name", UnixStream::connect("linked"));
            play.call("opened", File::open("linked"));
            drop(listener);
            play.call("nobody listens", UnixStream::connect("renamed"));
            play.call("never bound", UnixStream::connect("../socket"));
            let receiver = UnixDatagram::bind("datagrams").unwrap();
            UnixDatagram::unbound().unwrap().send_to(b"packet", "datagrams").unwrap();
            let mut packet = [0; 16];
            let len = receiver.recv(&mut packet).unwrap();
            play.note("packet", &packet[..len]);
        });
        play.tree();
    });
}

#[test]
fn devices_are_devices() {
    if !root() {
        return;
    }
    same(specials, |play| {
        for (name, kind, device) in [
            ("zero", FileType::CharacterDevice, makedev(1, 5)),
            ("whiteout", FileType::CharacterDevice, 0),
            ("large", FileType::BlockDevice, makedev(259, 0x12345)),
        ] {
            play.call(format!("mknod {name}"), mknod(&play.at(name), kind, 0o640, device));
        }
        let mut bytes = [1; 4];
        let read = File::open(play.at("zero")).and_then(|mut zero| zero.read(&mut bytes));
        play.answer("read zero", read.map(|len| (len, bytes)));
        play.answer(
            "write null",
            OpenOptions::new().write(true).open(play.at("null")).and_then(|mut f| f.write(b"x")),
        );
        play.call("nobody's", File::open(play.at("nobody's block")));
        play.call("0:0", File::open(play.at("whiteout")));
        fs::hard_link(play.at("null"), play.at("dir/null")).unwrap();
        play.tree();
    });
}

#[test]
fn what_mknod_refuses_it_refuses_alike() {
    if !root() {
        return;
    }
    same(specials, |play| {
        for (name, kind) in [
            ("fifo", FileType::Fifo),
            ("d", FileType::Directory),
            ("l", FileType::Symlink),
            ("absent/x", FileType::Fifo),
            ("null/x", FileType::Fifo),
            ("x/", FileType::Fifo),
            ("regular", FileType::RegularFile),
            ("bits", FileType::from_raw_mode(0o30000)),
        ] {
            play.call(format!("mknod {name}"), mknod(&play.at(name), kind, 0o7777, 0));
        }
        fs::set_permissions(play.at("dir"), Permissions::from_mode(0o777)).unwrap();
        as_user(&play.at("dir"), 1000, 1000, || {
            for (name, kind, device) in [
                ("fifo", FileType::Fifo, 0),
                ("socket", FileType::Socket, 0),
                ("device", FileType::CharacterDevice, makedev(1, 3)),
                ("block", FileType::BlockDevice, makedev(1, 3)),
                ("whiteout", FileType::CharacterDevice, 0),
                ("regular", FileType::RegularFile, 0),
            ] {
                play.call(format!("a user's {name}"), mknod(Path::new(name), kind, 0o666, device));
            }
            play.call("chmod", fs::set_permissions("fifo", Permissions::from_mode(0o4755)));
        });
        play.tree();
    });
}

/// Devices can be made by root alone; the fixture holds some.
fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        branchfs_tests::skip("only root can make devices");
    }
    root
}
