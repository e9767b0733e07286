//! Modes and owners: set-group-ID directories, the sticky bit, the umask, and which bits a change takes away.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::process::umask;

use crate::both::same;
use crate::sys::{as_user, inside, mknod};

type Act = dyn Fn(&Path) -> std::io::Result<()> + Sync;

fn directories(at: &Path) {
    for (name, mode) in [("plain", 0o777), ("setgid", 0o2777), ("sticky", 0o1777), ("all", 0o3777)] {
        fs::create_dir(at.join(name)).unwrap();
        chown(at.join(name), Some(5), Some(6)).unwrap();
        fs::set_permissions(at.join(name), Permissions::from_mode(mode)).unwrap();
    }
    for mode in [0o644, 0o755, 0o4755, 0o2755, 0o6755, 0o2644, 0o6777, 0o1644, 0o2666] {
        let name = at.join(format!("{mode:o}"));
        fs::write(&name, "program").unwrap();
        chown(&name, Some(1000), Some(1000)).unwrap();
        fs::set_permissions(&name, Permissions::from_mode(mode)).unwrap();
    }
    symlink("644", at.join("link")).unwrap();
}

const FILES: [&str; 8] = ["644", "755", "4755", "2755", "6755", "2644", "6777", "1644"];

fn make_all_kinds(prefix: &str) {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o6777)
        .open(format!("{prefix} file"))
        .unwrap();
    rustix::fs::mkdir(format!("{prefix} dir"), Mode::from_raw_mode(0o7777)).unwrap();
    symlink("x", format!("{prefix} link")).unwrap();
    mknod(Path::new(&format!("{prefix} fifo")), FileType::Fifo, 0o7777, 0).unwrap();
    rustix::fs::mkdir(format!("{prefix} dir/below"), Mode::from_raw_mode(0o777)).unwrap();
    fs::write(format!("{prefix} dir/below/file"), "").unwrap();
}

#[test]
fn new_objects_get_mode_and_group_from_umask_directory_and_maker() {
    if !root() {
        return;
    }
    same(directories, |play| {
        for dir in ["plain", "setgid", "sticky", "all"] {
            for mask in [0o000, 0o022, 0o077, 0o777] {
                inside(&play.at(dir), || {
                    umask(Mode::from_raw_mode(mask));
                    make_all_kinds(&format!("root {mask:o}"));
                });
            }
            as_user(&play.at(dir), 1000, 1000, || {
                umask(Mode::from_raw_mode(0o027));
                make_all_kinds("user");
            });
        }
        play.tree();
    });
}

#[test]
fn writing_truncating_and_giving_away_take_special_bits_as_on_ext4() {
    if !root() {
        return;
    }
    same(directories, |play| {
        let log = |what: &str| {
            play.note("after", what);
            play.stats(&FILES);
            for (name, mode) in FILES.iter().map(|name| (name, u32::from_str_radix(name, 8).unwrap())) {
                chown(play.at(name), Some(1000), Some(1000)).unwrap();
                fs::set_permissions(play.at(name), Permissions::from_mode(mode)).unwrap();
            }
        };
        fs::set_permissions(play.at("."), Permissions::from_mode(0o777)).unwrap();
        let write = |path: &Path| OpenOptions::new().write(true).open(path)?.write_all(b"PROGRAM");
        let truncate = |path: &Path| OpenOptions::new().write(true).open(path)?.set_len(3);
        let at_open = |path: &Path| OpenOptions::new().write(true).truncate(true).open(path).map(drop);
        let append = |path: &Path| OpenOptions::new().append(true).open(path)?.write_all(b"more");
        let to_other = |path: &Path| chown(path, Some(1001), None);
        let to_group = |path: &Path| chown(path, None, Some(1001));
        let to_same = |path: &Path| chown(path, Some(1000), Some(1000));
        let acts: [(&str, &Act); 7] = [
            ("write", &write),
            ("truncate", &truncate),
            ("truncate at open", &at_open),
            ("append", &append),
            ("chown", &to_other),
            ("chgrp", &to_group),
            ("chown to the same", &to_same),
        ];
        for (what, act) in acts {
            inside(&play.at("."), || FILES.iter().for_each(|name| play.answer(name, act(Path::new(name)))));
            log(&format!("{what} by root"));
            as_user(&play.at("."), 1000, 1000, || {
                FILES.iter().for_each(|name| play.answer(name, act(Path::new(name))));
            });
            log(&format!("{what} by the owner"));
            as_user(&play.at("."), 1002, 1002, || {
                FILES.iter().for_each(|name| play.answer(name, act(Path::new(name))));
            });
            log(&format!("{what} by another"));
        }
    });
}

/// Set-group-ID without group execute gives nobody anything; the kernel has FUSE keep it.
#[test]
fn a_stranger_does_not_clear_set_group_id_where_the_group_cannot_execute() {
    if !root() {
        return;
    }
    same(directories, |play| {
        let change = || {
            OpenOptions::new().append(true).open("2666").unwrap().write_all(b"x").unwrap();
            chown("2666", None, None).map_err(|error| error.raw_os_error())
        };
        let done = as_user(&play.at("."), 1002, 1002, change);
        let mode = fs::metadata(play.at("2666")).unwrap().mode() & 0o7777;
        play.unlike("written by a stranger", (mode, done), (0o666, Ok(())), (0o2666, Ok(())));
    });
}

#[test]
fn chmod_keeps_what_its_caller_may_set() {
    if !root() {
        return;
    }
    same(directories, |play| {
        for (uid, gid) in [(0, 0), (1000, 1000), (1000, 7), (1001, 1001)] {
            as_user(&play.at("."), uid, gid, || {
                for mode in [0o7777, 0o2755, 0o6711, 0o1000, 0, 0o644] {
                    for name in ["644", "plain", "link"] {
                        let set = fs::set_permissions(name, Permissions::from_mode(mode));
                        play.call(format!("{uid}:{gid} sets {mode:o} on {name}"), set);
                        play.answer("mode", fs::metadata(name).map(|m| m.mode()));
                    }
                }
            });
        }
        play.call("chmod of a link", rustix_chmod_link(&play.at("link")));
        play.call("chown of a link", lchown(play.at("link"), Some(3), Some(4)));
        play.tree();
    });
}

fn rustix_chmod_link(path: &Path) -> Result<(), rustix::io::Errno> {
    use rustix::fs::{AtFlags, CWD, chmodat};
    chmodat(CWD, path, Mode::from_raw_mode(0o600), AtFlags::SYMLINK_NOFOLLOW)
}

#[test]
fn a_sticky_directory_lets_only_owners_remove() {
    if !root() {
        return;
    }
    same(directories, |play| {
        for dir in ["plain", "sticky"] {
            for (name, owner) in [("mine", 1000), ("theirs", 1001)] {
                for kind in ["file", "dir"] {
                    let path = play.at(dir).join(format!("{name} {kind}"));
                    if kind == "dir" {
                        fs::create_dir(&path).unwrap()
                    } else {
                        drop(File::create(&path).unwrap())
                    }
                    chown(&path, Some(owner), Some(owner)).unwrap();
                }
            }
            as_user(&play.at(dir), 1000, 1000, || {
                for name in ["mine", "theirs"] {
                    play.call(format!("{dir} {name}"), fs::remove_file(format!("{name} file")));
                    play.call(format!("{dir} {name}"), fs::remove_dir(format!("{name} dir")));
                }
            });
        }
        play.tree();
    });
}

/// The kernel decides by what we say is the mode; it must be asked again after every change.
#[test]
fn permissions_hold_for_others_at_once() {
    if !root() {
        return;
    }
    same(directories, |play| {
        fs::create_dir(play.at("plain/inner")).unwrap();
        fs::write(play.at("plain/inner/file"), "x").unwrap();
        for mode in [0o755, 0o700, 0o711, 0o744, 0o707, 0o770] {
            fs::set_permissions(play.at("plain/inner"), Permissions::from_mode(mode)).unwrap();
            as_user(&play.at("plain"), 1000, 1000, || {
                play.note("mode", mode);
                play.call("read", fs::read("inner/file"));
                play.call("list", fs::read_dir("inner"));
                play.call("create", File::create("inner/new"));
                play.call("stat", fs::metadata("inner/file"));
                play.call("remove", fs::remove_file("inner/new"));
            });
        }
    });
}

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        branchfs_tests::skip("only root can be somebody else");
    }
    root
}
