//! Names: how long, of which bytes, how deep; and paths through symbolic links.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, openat};

use crate::both::{Both, same};
use crate::sys::inside;

/// Deeper than PATH_MAX can name at once.
const DEPTH: usize = 1100;

fn odd(at: &Path) {
    for byte in (1..=255_u8).filter(|byte| *byte != b'/') {
        fs::write(at.join(OsStr::from_bytes(&[b'x', byte])), [byte]).unwrap();
    }
    fs::write(at.join("n".repeat(255)), "long").unwrap();
    symlink("t".repeat(4095), at.join("long link")).unwrap();
    symlink("loop b", at.join("loop a")).unwrap();
    symlink("loop a", at.join("loop b")).unwrap();
    symlink("self", at.join("self")).unwrap();
    fs::create_dir(at.join("dir")).unwrap();
    symlink("dir", at.join("to dir")).unwrap();
    symlink("../dir/./../to dir", at.join("dir/back")).unwrap();
    symlink("absent", at.join("dangling")).unwrap();
}

#[test]
fn every_byte_but_slash_and_nul_can_be_in_a_name() {
    same(odd, |play| {
        for byte in (1..=255_u8).filter(|byte| *byte != b'/') {
            let name = play.at(OsStr::from_bytes(&[b'x', byte]));
            assert_eq!(fs::read(&name).unwrap(), [byte]);
            fs::rename(&name, play.at(OsStr::from_bytes(&[byte, b'y', b'y']))).unwrap();
            fs::write(play.at(OsStr::from_bytes(&[byte, byte, b'z'])), [byte; 2]).unwrap();
        }
        play.tree();
    });
}

#[test]
fn names_have_255_bytes_at_most() {
    same(odd, |play| {
        for len in [254, 255, 256, 4096, 5000] {
            let name = play.at("m".repeat(len));
            play.call(format!("create {len}"), File::create(&name));
            play.call(format!("stat {len}"), fs::metadata(&name));
            play.call(format!("mkdir {len}"), fs::create_dir(play.at("d".repeat(len))));
            play.call(format!("symlink {len}"), symlink("x", play.at("s".repeat(len))));
            play.call(
                format!("link {len}"),
                fs::hard_link(play.at("n".repeat(255)), play.at("l".repeat(len))),
            );
            play.call(format!("rename {len}"), fs::rename(&name, play.at("r".repeat(len))));
            play.call(format!("rename there {len}"), fs::rename(play.at("dir"), play.at("q".repeat(len))));
            play.call(format!("rename back {len}"), fs::rename(play.at("q".repeat(len)), play.at("dir")));
            play.call(format!("unlink {len}"), fs::remove_file(play.at("r".repeat(len))));
            play.call(format!("rmdir {len}"), fs::remove_dir(play.at("d".repeat(len))));
        }
        play.bytes("n".repeat(255));
    });
}

#[test]
fn link_targets_have_4095_bytes_at_most_and_loops_end() {
    same(odd, |play| {
        for len in [1, 4094, 4095, 4096] {
            play.call(format!("target of {len}"), symlink("u".repeat(len), play.at(format!("link {len}"))));
            play.answer(
                "read",
                fs::read_link(play.at(format!("link {len}"))).map(|target| target.as_os_str().len()),
            );
        }
        play.call("empty target", symlink("", play.at("empty")));
        play.answer("long", fs::read_link(play.at("long link")).map(|target| target.as_os_str().len()));
        for name in [
            "loop a",
            "self",
            "dangling",
            "dangling/x",
            "to dir/back/back/back",
            "to dir/",
            "long link",
            "loop a/x",
        ] {
            play.answer(name, fs::metadata(play.at(name)).map(|m| m.is_dir()));
            play.call(format!("open {name}"), File::open(play.at(name)));
            play.call(format!("create {name}"), File::create(play.at(name)));
            play.call(format!("mkdir {name}"), fs::create_dir(play.at(name)));
        }
        for n in 0..45 {
            symlink(
                if n == 0 { "dir".to_owned() } else { format!("chain {}", n - 1) },
                play.at(format!("chain {n}")),
            )
            .unwrap();
            play.call(format!("{n} links"), fs::read_dir(play.at(format!("chain {n}"))));
        }
        play.call("readlink of a file", fs::read_link(play.at("dir")));
        play.tree();
    });
}

/// One step at a time: no path this long can be named at once.
fn descend(at: &Path, step: impl Fn(&rustix::fd::OwnedFd, usize)) -> rustix::fd::OwnedFd {
    let mut dir = rustix::fs::open(at, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for n in 0..DEPTH {
        step(&dir, n);
        dir = openat(&dir, "a directory", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    dir
}

#[test]
fn directories_are_as_deep_as_one_likes() {
    fn deep(at: &Path) {
        fs::create_dir(at.join("base")).unwrap();
        let bottom =
            descend(&at.join("base"), |dir, _| mkdirat(dir, "a directory", Mode::from(0o755)).unwrap());
        openat(&bottom, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o644)).unwrap();
    }
    let Some(both) = Both::over(deep) else { return };
    both.compare_with(&["untouched", "own", "nested"], |play| {
        fs::create_dir(play.at("here")).unwrap();
        for top in ["base", "here"] {
            let bottom = descend(&play.at(top), |dir, _| {
                if top == "here" {
                    mkdirat(dir, "a directory", Mode::from(0o755)).unwrap();
                }
            });
            let file = openat(&bottom, "file", OFlags::CREATE | OFlags::RDWR, Mode::from(0o644)).unwrap();
            play.answer("written", rustix::io::write(&file, b"deep"));
            play.answer("seen", rustix::fs::fstat(&file).map(|st| (st.st_size, st.st_nlink)));
        }
        play.call("moved", fs::rename(play.at("base"), play.at("here/base")));
        let long: PathBuf = std::iter::repeat_n("a directory", DEPTH).collect();
        play.call("by a path too long", fs::metadata(play.at("here").join(long)));
        inside(&play.at("here"), || {
            for _ in 0..DEPTH {
                rustix::process::chdir("a directory").unwrap();
            }
            play.answer("at the bottom", fs::read("file"));
            play.call("up again", rustix::process::chdir("../../../../.."));
        });
        play.call("removed", fs::remove_dir_all(play.at("here")));
        play.tree();
    });
}

#[test]
fn a_deep_tree_is_forked_compared_and_committed() {
    let Some(workspace) = branchfs_tests::Workspace::over(|base| fs::create_dir(base.join("old")).unwrap())
    else {
        return;
    };
    let view = workspace.branch("b");
    fs::rename(view.join("old"), view.join("new")).unwrap();
    let bottom = descend(&view.join("new"), |dir, _| mkdirat(dir, "a directory", Mode::from(0o755)).unwrap());
    openat(&bottom, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o644)).unwrap();
    drop(bottom);
    assert!(workspace.ok(&["diff", "--name-status", "b"]).contains("file"));
    workspace.commit("b");
    let bottom = descend(&workspace.base().join("new"), |_, _| ());
    assert!(openat(&bottom, "file", OFlags::RDONLY, Mode::empty()).is_ok());
    let again = workspace.branch("c");
    fs::remove_dir_all(again.join("new")).unwrap();
    workspace.commit("c");
    assert!(!workspace.base().join("new").exists());
}
