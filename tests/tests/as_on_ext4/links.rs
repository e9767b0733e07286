//! Hard links: one file by several names, before, across and after copy-up.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, linkat};

use crate::both::same;
use crate::sys::mknod;

fn linked(at: &Path) {
    fs::create_dir_all(at.join("dir/sub")).unwrap();
    fs::write(at.join("one"), "content").unwrap();
    for other in ["two", "dir/three", "dir/sub/four"] {
        fs::hard_link(at.join("one"), at.join(other)).unwrap();
    }
    symlink("one", at.join("soft")).unwrap();
    rustix::fs::linkat(CWD, at.join("soft"), CWD, at.join("dir/soft too"), AtFlags::empty()).unwrap();
    mknod(&at.join("fifo"), rustix::fs::FileType::Fifo, 0o644, 0).unwrap();
}

const NAMES: [&str; 4] = ["one", "two", "dir/three", "dir/sub/four"];

#[test]
fn what_is_written_through_one_name_is_read_through_all() {
    same(linked, |play| {
        let reader = File::open(play.at("two")).unwrap();
        let mut writer = OpenOptions::new().append(true).open(play.at("dir/three")).unwrap();
        writer.write_all(b", appended").unwrap();
        NAMES.iter().for_each(|name| play.bytes(name));
        let mut bytes = [0; 64];
        let len = reader.read_at(&mut bytes, 0).unwrap();
        play.note("the reader that was first", String::from_utf8_lossy(&bytes[..len]));
        fs::write(play.at("one"), "rewritten").unwrap();
        NAMES.iter().for_each(|name| play.bytes(name));
        let ino = |name: &&str| fs::metadata(play.at(name)).unwrap().ino();
        play.note("one file", NAMES.iter().all(|name| ino(name) == reader.metadata().unwrap().ino()));
        play.stats(&NAMES);
    });
}

#[test]
fn the_count_is_right_after_every_step() {
    same(linked, |play| {
        let open = File::open(play.at("one")).unwrap();
        let count = |step: &str| play.note(step, open.metadata().unwrap().nlink());
        count("first");
        fs::remove_file(play.at("two")).unwrap();
        count("one name less");
        fs::hard_link(play.at("dir/three"), play.at("five")).unwrap();
        count("one more");
        fs::rename(play.at("five"), play.at("dir/sub/four")).unwrap();
        count("a rename onto itself");
        fs::write(play.at("fresh"), "").unwrap();
        fs::rename(play.at("fresh"), play.at("dir/sub/four")).unwrap();
        count("replaced");
        fs::remove_file(play.at("five")).unwrap();
        fs::remove_file(play.at("dir/three")).unwrap();
        count("the last");
        fs::remove_file(play.at("one")).unwrap();
        count("none");
        play.tree();
    });
}

#[test]
fn anything_but_a_directory_can_be_linked() {
    same(linked, |play| {
        for (from, to) in [
            ("soft", "soft3"),
            ("fifo", "fifo2"),
            ("dir", "dir2"),
            ("one", "two"),
            ("one", "dir"),
            ("one", "absent/x"),
            ("absent", "x"),
            ("one", "one/x"),
            ("one", "."),
            ("one", "x/"),
        ] {
            play.call(
                format!("link {from} {to}"),
                linkat(CWD, play.at(from), CWD, play.at(to), AtFlags::empty()),
            );
        }
        let follow = linkat(CWD, play.at("soft"), CWD, play.at("followed"), AtFlags::SYMLINK_FOLLOW);
        play.call("followed", follow);
        play.tree();
    });
}

#[test]
fn a_file_that_lost_its_last_name_gets_no_new_one() {
    same(linked, |play| {
        for name in ["one", "alone"] {
            let file =
                OpenOptions::new().write(true).create(true).truncate(false).open(play.at(name)).unwrap();
            let through = format!("/proc/self/fd/{}", file.as_raw_fd());
            let again = |to: &str| linkat(CWD, &*through, CWD, play.at(to), AtFlags::SYMLINK_FOLLOW);
            play.call(format!("{name} by descriptor"), again(&format!("{name} again")));
            fs::remove_file(play.at(name)).unwrap();
            play.call(format!("{name} with names left"), again(name));
            for gone in [name.to_owned(), format!("{name} again")] {
                play.call(format!("remove {gone}"), fs::remove_file(play.at(gone)));
            }
            if name == "one" {
                NAMES[1..].iter().for_each(|other| fs::remove_file(play.at(other)).unwrap());
            }
            play.call(format!("{name} without a name"), again(name));
            play.note("links", file.metadata().unwrap().nlink());
        }
        play.tree();
    });
}

#[test]
fn a_file_has_65000_names_at_most() {
    fn crowded(at: &Path) {
        fs::write(at.join("file"), "").unwrap();
        for dir in ["a", "b"] {
            fs::create_dir(at.join(dir)).unwrap();
        }
        (1..64_990).for_each(|n| fs::hard_link(at.join("file"), at.join(format!("a/{n}"))).unwrap());
    }
    let Some(both) = crate::both::Both::over(crowded) else { return };
    both.compare_with(&["untouched"], |play| {
        for n in 0..12 {
            play.call(format!("link {n}"), fs::hard_link(play.at("file"), play.at(format!("b/{n}"))));
        }
        play.stat("file");
        play.call("remove", fs::remove_file(play.at("a/1")));
        play.call("room again", fs::hard_link(play.at("file"), play.at("b/new")));
        play.call("full", fs::hard_link(play.at("file"), play.at("b/new too")));
    });
}
