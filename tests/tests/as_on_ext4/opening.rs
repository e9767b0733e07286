//! open(2) with every flag, and access(2).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags as O, accessat, open, openat};

use crate::both::same;
use crate::sys::{as_user, mknod};

fn objects(at: &Path) {
    fs::write(at.join("file"), "content").unwrap();
    fs::create_dir(at.join("dir")).unwrap();
    fs::write(at.join("dir/inner"), "x").unwrap();
    symlink("file", at.join("link")).unwrap();
    symlink("dir", at.join("to dir")).unwrap();
    symlink("absent", at.join("dangling")).unwrap();
    mknod(&at.join("fifo"), FileType::Fifo, 0o600, 0).unwrap();
    mknod(&at.join("socket"), FileType::Socket, 0o600, 0).unwrap();
}

const OBJECTS: [&str; 9] = ["file", "dir", "link", "to dir", "dangling", "fifo", "socket", "new", "file/x"];

#[test]
fn every_flag_meets_every_kind_of_object() {
    fn many(at: &Path) {
        for n in 0..FLAGS.len() {
            fs::create_dir(at.join(n.to_string())).unwrap();
            objects(&at.join(n.to_string()));
        }
    }
    const FLAGS: [(&str, O); 22] = [
        ("read", O::RDONLY),
        ("write", O::WRONLY),
        ("both", O::RDWR),
        ("truncate", O::WRONLY.union(O::TRUNC)),
        ("truncate for reading", O::RDONLY.union(O::TRUNC)),
        ("create", O::RDONLY.union(O::CREATE)),
        ("create for writing", O::WRONLY.union(O::CREATE)),
        ("exclusive", O::WRONLY.union(O::CREATE).union(O::EXCL)),
        ("create and truncate", O::WRONLY.union(O::CREATE).union(O::TRUNC)),
        ("directory", O::DIRECTORY),
        ("directory for writing", O::DIRECTORY.union(O::RDWR)),
        ("create directory", O::DIRECTORY.union(O::CREATE)),
        ("nofollow", O::NOFOLLOW),
        ("nofollow create", O::NOFOLLOW.union(O::CREATE).union(O::WRONLY)),
        ("path", O::PATH),
        ("path nofollow", O::PATH.union(O::NOFOLLOW)),
        ("path directory", O::PATH.union(O::DIRECTORY)),
        ("append", O::WRONLY.union(O::APPEND)),
        ("append and truncate", O::WRONLY.union(O::APPEND).union(O::TRUNC)),
        ("noatime", O::NOATIME),
        ("direct", O::DIRECT),
        ("access mode 3", O::from_bits_retain(3)),
    ];
    same(many, |play| {
        for (n, (what, flags)) in FLAGS.iter().enumerate() {
            for name in OBJECTS {
                let path = play.at(n.to_string()).join(name);
                let opened = open(&path, *flags | O::NONBLOCK, Mode::from(0o640));
                play.answer(
                    format!("{what} {name}"),
                    opened.map(|fd| rustix::fs::fstat(&fd).unwrap().st_mode),
                );
            }
        }
        play.tree();
    });
}

#[test]
fn a_file_is_made_readable_only_and_still_written_by_its_maker() {
    same(objects, |play| {
        let make = |name: &str, mode: u32| {
            openat(CWD, play.at(name), O::CREATE | O::EXCL | O::RDWR, Mode::from_raw_mode(mode))
        };
        for mode in [0, 0o400, 0o444] {
            let file = make(&format!("made {mode:o}"), mode).unwrap();
            play.answer("write", rustix::io::write(&file, b"by its maker"));
            play.answer("truncate", rustix::fs::ftruncate(&file, 3));
            play.answer("stat", rustix::fs::fstat(&file).map(|st| (st.st_mode, st.st_size)));
        }
        fs::set_permissions(play.at("."), Permissions::from_mode(0o777)).unwrap();
        as_user(&play.at("."), 1000, 1000, || {
            let file = openat(CWD, "by a user", O::CREATE | O::EXCL | O::RDWR, Mode::from(0o400)).unwrap();
            play.answer("write", rustix::io::write(&file, b"x"));
            play.call("again", OpenOptions::new().write(true).open("by a user"));
            play.call("truncate", File::create("by a user"));
            play.call("read", File::open("by a user"));
        });
        play.tree();
    });
}

#[test]
fn access_asks_for_the_real_or_the_effective_user() {
    if !rustix::process::geteuid().is_root() {
        return branchfs_tests::skip("only root can be somebody else");
    }
    same(objects, |play| {
        for (name, mode) in [("file", 0o640), ("dir", 0o710), ("fifo", 0o604), ("socket", 0o007)] {
            chown(play.at(name), Some(1000), Some(1001)).unwrap();
            fs::set_permissions(play.at(name), Permissions::from_mode(mode)).unwrap();
        }
        let kinds = [Access::EXISTS, Access::READ_OK, Access::WRITE_OK, Access::EXEC_OK];
        for (uid, gid) in [(0, 0), (1000, 1000), (1002, 1001), (1002, 1002)] {
            as_user(&play.at("."), uid, gid, || {
                for name in OBJECTS.iter().chain(&["dir/inner"]) {
                    for flags in [AtFlags::empty(), AtFlags::EACCESS] {
                        let answers = kinds.map(|kind| accessat(CWD, *name, kind, flags).is_ok());
                        play.note(format!("{uid}:{gid} {name} {flags:?}"), answers);
                    }
                    play.call("open", open(*name, O::RDONLY | O::NONBLOCK, Mode::empty()));
                }
            });
        }
    });
}

#[test]
fn a_program_in_a_branch_runs_and_is_busy_meanwhile() {
    fn program(at: &Path) {
        fs::copy("/bin/sleep", at.join("program")).unwrap();
        fs::write(at.join("script"), "#!/bin/sh\necho \"$0 ran\" | sed s,.*/,,\n").unwrap();
        fs::set_permissions(at.join("script"), Permissions::from_mode(0o755)).unwrap();
    }
    same(program, |play| {
        let output = std::process::Command::new(play.at("script")).output().unwrap();
        play.note("script", String::from_utf8_lossy(&output.stdout));
        let mut sleeping = std::process::Command::new(play.at("program")).arg("60").spawn().unwrap();
        play.call("write while it runs", OpenOptions::new().write(true).open(play.at("program")));
        play.call(
            "replace while it runs",
            fs::write(play.at("next"), "x").and_then(|()| fs::rename(play.at("next"), play.at("program"))),
        );
        sleeping.kill().unwrap();
        sleeping.wait().unwrap();
        fs::set_permissions(play.at("script"), Permissions::from_mode(0o644)).unwrap();
        play.call("not executable", std::process::Command::new(play.at("script")).output());
    });
}

#[test]
fn a_path_descriptor_does_what_it_may() {
    same(objects, |play| {
        for name in ["file", "link", "dir"] {
            let fd = open(play.at(name), O::PATH | O::NOFOLLOW, Mode::empty()).unwrap();
            play.answer("read", rustix::io::read(&fd, &mut [0; 4]).map(|_| ()));
            play.call("chmod", rustix::fs::fchmod(&fd, Mode::from(0o600)));
            play.answer("readlink", rustix::fs::readlinkat(&fd, "", Vec::new()).map(|_| ()));
            let again = File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            play.answer("reopened", again.map(|mut f| f.read(&mut [0; 7]).map_err(|e| e.raw_os_error())));
        }
    });
}
