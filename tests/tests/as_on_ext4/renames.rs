//! rename(2) and renameat2(2): every kind, between every two kinds of objects.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::RenameFlags;

use crate::both::same;
use crate::sys::{as_user, rename_with};

const OBJECTS: [&str; 9] =
    ["file", "link", "dangling", "fifo", "empty", "full", "full/inner", "deep/a/b", "absent"];
const MODES: [(&str, RenameFlags); 6] = [
    ("plain", RenameFlags::empty()),
    ("noreplace", RenameFlags::NOREPLACE),
    ("exchange", RenameFlags::EXCHANGE),
    ("whiteout", RenameFlags::WHITEOUT),
    ("whiteout noreplace", RenameFlags::WHITEOUT.union(RenameFlags::NOREPLACE)),
    ("noreplace exchange", RenameFlags::NOREPLACE.union(RenameFlags::EXCHANGE)),
];

fn objects(at: &Path) {
    fs::write(at.join("file"), "file").unwrap();
    fs::hard_link(at.join("file"), at.join("hard")).unwrap();
    symlink("file", at.join("link")).unwrap();
    symlink("nowhere", at.join("dangling")).unwrap();
    crate::sys::mknod(&at.join("fifo"), rustix::fs::FileType::Fifo, 0o600, 0).unwrap();
    fs::create_dir(at.join("empty")).unwrap();
    fs::create_dir_all(at.join("full/inner")).unwrap();
    fs::write(at.join("full/inner/leaf"), "leaf").unwrap();
    fs::create_dir_all(at.join("deep/a/b/c")).unwrap();
}

/// One directory per pair, so that no pair sees what another did.
fn pairs(at: &Path) {
    for mode in 0..MODES.len() {
        for from in OBJECTS {
            let dir = at.join(format!("{mode}-{}", from.replace('/', "_")));
            fs::create_dir(&dir).unwrap();
            objects(&dir);
        }
    }
}

#[test]
fn every_two_kinds_of_objects_meet_in_every_mode() {
    same(pairs, |play| {
        for (n, (mode, flags)) in MODES.iter().enumerate() {
            for from in OBJECTS {
                let dir = format!("{n}-{}", from.replace('/', "_"));
                // Later targets meet what earlier renames left: the log says the same of both sides.
                for to in OBJECTS.iter().chain(&["full/new", "hard", "empty/../file"]) {
                    let at = |name: &str| play.at(&dir).join(name);
                    play.call(format!("{mode} {from} {to}"), rename_with(&at(from), &at(to), *flags));
                }
            }
        }
        play.tree();
    });
}

#[test]
fn a_directory_goes_into_another_with_everything_below_and_never_below_itself() {
    same(objects, |play| {
        let go = |from: &str, to: &str, flags| {
            play.call(format!("{from} to {to} {flags:?}"), rename_with(&play.at(from), &play.at(to), flags));
        };
        go("full", "deep/a/b/full", RenameFlags::empty());
        play.stats(&[".", "deep", "deep/a", "deep/a/b", "deep/a/b/full", "deep/a/b/full/inner"]);
        go("deep", "deep/a/b/full/inner/deep", RenameFlags::empty());
        go("deep", "deep/a", RenameFlags::EXCHANGE);
        go("deep/a", "deep", RenameFlags::EXCHANGE);
        go("deep/a/b", "deep", RenameFlags::empty());
        go("deep/a/b", "empty", RenameFlags::EXCHANGE);
        go("deep/a", "file", RenameFlags::EXCHANGE);
        go("file/b", "deep/c", RenameFlags::empty());
        go("empty/full/inner/leaf", "leaf", RenameFlags::WHITEOUT);
        go("empty/full", "empty/c", RenameFlags::empty());
        play.call("new", fs::write(play.at("empty/full/inner/new"), "new"));
        go("empty/full", "empty/c", RenameFlags::EXCHANGE);
        play.bytes("empty/c/inner/new");
        play.tree();
    });
}

#[test]
fn names_with_dots_and_slashes_are_refused_alike() {
    same(objects, |play| {
        for (from, to) in [
            ("file", "file/"),
            ("file", "new/"),
            ("empty/", "new"),
            ("empty/", "new/"),
            ("full/.", "new"),
            ("full/..", "new"),
            ("full", "empty/."),
            ("file", "."),
            ("file", "full/inner/.."),
            ("file", "dangling/x"),
            ("link/", "new2"),
            ("file", "fifo/x"),
        ] {
            play.call(format!("{from} to {to}"), fs::rename(play.at(from), play.at(to)));
        }
        play.tree();
    });
}

#[test]
fn what_is_open_stays_open_across_renames() {
    same(objects, |play| {
        let mut file = OpenOptions::new().read(true).append(true).open(play.at("file")).unwrap();
        let mut leaf = File::open(play.at("full/inner/leaf")).unwrap();
        let inner = File::open(play.at("full/inner")).unwrap();
        fs::write(play.at("other"), "other").unwrap();
        let mut replaced = File::open(play.at("other")).unwrap();
        play.call("over other", fs::rename(play.at("file"), play.at("other")));
        play.call("directory", fs::rename(play.at("full"), play.at("empty/moved")));
        file.write_all(b" and more").unwrap();
        let mut text = String::new();
        replaced.read_to_string(&mut text).unwrap();
        leaf.read_to_string(&mut text).unwrap();
        play.note("read", &text);
        play.bytes("other");
        play.bytes("hard");
        play.answer("created in the moved directory", {
            use rustix::fs::{Mode, OFlags, openat};
            openat(&inner, "made", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o600)).map(drop)
        });
        for open in [&file, &replaced, &leaf, &inner] {
            play.answer("fstat", open.metadata().map(|m| crate::play::seen(&m)));
        }
        play.tree();
    });
}

#[test]
fn onto_itself_and_onto_its_own_hard_link_nothing_happens() {
    same(objects, |play| {
        for (mode, flags) in MODES {
            for (from, to) in [("file", "file"), ("file", "hard"), ("hard", "file"), ("empty", "empty")] {
                play.call(format!("{mode} {from} {to}"), rename_with(&play.at(from), &play.at(to), flags));
            }
        }
        play.tree();
    });
}

#[test]
fn a_sticky_directory_lets_only_owners_rename() {
    if !rustix::process::geteuid().is_root() {
        return branchfs_tests::skip("only root can be somebody else");
    }
    same(objects, |play| {
        let sticky = play.at("sticky");
        fs::create_dir(&sticky).unwrap();
        for (name, owner) in [("mine", 1000), ("theirs", 1001), ("also theirs", 1001)] {
            fs::write(sticky.join(name), name).unwrap();
            std::os::unix::fs::chown(sticky.join(name), Some(owner), Some(owner)).unwrap();
        }
        fs::set_permissions(&sticky, Permissions::from_mode(0o1777)).unwrap();
        let user = as_user(&sticky, 1000, 1000, || {
            let go = |from: &str, to: &str, flags| rename_with(Path::new(from), Path::new(to), flags);
            [
                go("theirs", "x", RenameFlags::empty()),
                go("mine", "theirs", RenameFlags::empty()),
                go("mine", "theirs", RenameFlags::EXCHANGE),
                go("mine", "x", RenameFlags::WHITEOUT),
                go("x", "y", RenameFlags::empty()),
                go("absent", "y", RenameFlags::NOREPLACE),
            ]
        });
        play.note("as a user", user);
        play.tree();
    });
}

#[test]
fn a_whiteout_has_the_callers_identity_and_its_directorys_group() {
    same(objects, |play| {
        for (name, mode) in [("full", 0o777), ("empty", 0o2777)] {
            std::os::unix::fs::chown(play.at(name), Some(7), Some(8)).unwrap();
            fs::set_permissions(play.at(name), Permissions::from_mode(mode)).unwrap();
            fs::write(play.at(name).join("x"), "").unwrap();
            let (from, to) = (Path::new("x"), Path::new("y"));
            let go = || rename_with(from, to, RenameFlags::WHITEOUT);
            play.call(name, as_user(&play.at(name), 1000, 1000, go));
        }
        play.call("replaced again", fs::rename(play.at("full/y"), play.at("full/x")));
        play.call("removed", fs::remove_file(play.at("empty/x")));
        play.tree();
    });
}

/// `..` of a listing told where a directory was found last, not where it is.
#[test]
fn dot_dot_follows_a_directory_that_moves() {
    same(objects, |play| {
        let dots = |name: &str| {
            use std::os::unix::fs::MetadataExt;
            let listed = crate::sys::listing(&play.at(name)).unwrap();
            let of = |dot: &str| listed.iter().find(|entry| entry.name == dot.as_bytes()).map(|e| e.ino);
            let real = |path: &str| fs::metadata(play.at(name).join(path)).map(|m| m.ino()).ok();
            play.note(format!("dots of {name}"), (of(".") == real("."), of("..") == real("..")));
        };
        let inner = File::open(play.at("full/inner")).unwrap();
        dots("full/inner");
        fs::rename(play.at("full/inner"), play.at("empty/inner")).unwrap();
        dots("empty/inner");
        rename_with(&play.at("empty"), &play.at("deep/a"), RenameFlags::EXCHANGE).unwrap();
        dots("empty");
        dots("empty/b");
        dots("deep/a/inner");
        dots("deep/a");
        dots("empty/b/c");
        drop(inner);
    });
}
