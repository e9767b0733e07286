//! Directories as they are listed: kinds, dots, offsets that hold while names come and go, and very many names.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, SeekFrom, open, seek};

use crate::both::same;
use crate::sys::{listing, mknod};

fn kinds(at: &Path) {
    File::create(at.join("file")).unwrap();
    fs::create_dir(at.join("dir")).unwrap();
    symlink("file", at.join("link")).unwrap();
    mknod(&at.join("fifo"), FileType::Fifo, 0o600, 0).unwrap();
    mknod(&at.join("socket"), FileType::Socket, 0o600, 0).unwrap();
}

fn hundred(at: &Path) {
    (0..100).for_each(|n| drop(File::create(at.join(format!("kept {n}"))).unwrap()));
}

#[test]
fn kinds_and_inode_numbers_are_those_of_stat() {
    same(kinds, |play| {
        fs::create_dir(play.at("dir/new")).unwrap();
        symlink("x", play.at("dir/new link")).unwrap();
        for dir in [".", "dir", "dir/new"] {
            let mut listed = listing(&play.at(dir)).unwrap();
            listed.sort_by(|a, b| a.name.cmp(&b.name));
            for entry in listed {
                let name = String::from_utf8(entry.name).unwrap();
                let meta = fs::symlink_metadata(play.at(dir).join(&name)).unwrap();
                let same = entry.kind == FileType::from_raw_mode(meta.mode());
                play.note(format!("{dir} {name}"), (entry.kind, same, entry.ino == meta.ino()));
            }
        }
    });
}

/// Reads entries in small portions, as many system calls as there can be; calls `between` after each.
fn read_slowly(path: &Path, mut between: impl FnMut(usize)) -> Vec<(Vec<u8>, u64)> {
    let dir = open(path, OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut found = Vec::new();
    loop {
        let mut buffer = Vec::with_capacity(160);
        let mut portion = RawDir::new(&dir, buffer.spare_capacity_mut());
        let before = found.len();
        while let Some(entry) = portion.next() {
            let entry = entry.unwrap();
            found.push((entry.file_name().to_bytes().to_vec(), entry.next_entry_cookie()));
            if portion.is_buffer_empty() {
                break;
            }
        }
        if found.len() == before {
            return found;
        }
        between(found.len());
    }
}

#[test]
fn what_is_there_throughout_is_listed_exactly_once() {
    same(hundred, |play| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let churn = scope.spawn(|| {
                for n in (0..50).cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = play.at(format!("churn {n}"));
                    File::create(&name).unwrap();
                    fs::rename(&name, play.at(format!("turned {n}"))).unwrap();
                    fs::remove_file(play.at(format!("turned {n}"))).unwrap();
                }
            });
            for _ in 0..5 {
                let found = read_slowly(&play.at("."), |_| std::thread::yield_now());
                let mut times: HashMap<&[u8], usize> = HashMap::new();
                found.iter().for_each(|(name, _)| *times.entry(name).or_default() += 1);
                let kept = (0..100).filter(|n| times.get(format!("kept {n}").as_bytes()) == Some(&1)).count();
                play.note("kept", (kept, times.get(&b"."[..]), times.get(&b".."[..])));
            }
            stop.store(true, Ordering::Relaxed);
            churn.join().unwrap();
        });
    });
}

#[test]
fn removing_while_listing_leaves_nothing_behind() {
    same(hundred, |play| {
        let mut removed = 0;
        for entry in fs::read_dir(play.at(".")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
            removed += 1;
        }
        play.note("removed", removed);
        play.call(
            "and the directory",
            fs::create_dir(play.at("d")).and_then(|()| fs::remove_dir(play.at("d"))),
        );
        play.tree();
    });
}

#[test]
fn an_offset_that_was_told_leads_back_to_where_it_was() {
    same(hundred, |play| {
        let all = read_slowly(&play.at("."), |_| ());
        let dir = open(play.at("."), OFlags::DIRECTORY, Mode::empty()).unwrap();
        let next = || {
            let mut buffer = Vec::with_capacity(4096);
            RawDir::new(&dir, buffer.spare_capacity_mut())
                .next()
                .map(|entry| entry.unwrap().file_name().to_bytes().to_vec())
        };
        next();
        File::create(play.at("while it is open")).unwrap();
        fs::remove_file(play.at("kept 3")).unwrap();
        for back in [90, 40, 41, 1, 70] {
            let (_, cookie) = &all[back];
            let at = seek(&dir, SeekFrom::Start(*cookie));
            let follows = next();
            let gone = all[back + 1].0 == b"kept 3";
            play.note(back, (at.is_ok(), gone || follows.as_ref() == Some(&all[back + 1].0)));
        }
        seek(&dir, SeekFrom::Start(0)).unwrap();
        let mut again = 0;
        let mut buffer = Vec::with_capacity(1 << 16);
        let mut raw = RawDir::new(&dir, buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            again += usize::from(entry.unwrap().file_name().to_bytes().starts_with(b"while"));
        }
        play.note("seen after a rewind", again);
    });
}

const MANY: usize = 200_000;

/// Names come from the base, from the branch, and from both.
#[test]
fn a_directory_of_200_000_names_is_listed_changed_and_thinned_out() {
    fn many(at: &Path) {
        let dir = at.join("many");
        fs::create_dir(&dir).unwrap();
        (0..MANY).for_each(|n| mknod(&dir.join(n.to_string()), FileType::RegularFile, 0o600, 0).unwrap());
    }
    let Some(workspace) = branchfs_tests::Workspace::over(many) else { return };
    let view = workspace.branch("b").join("many");
    let count = |path: &Path| listing(path).unwrap().len() - 2;
    assert_eq!(count(&view), MANY);
    for n in (0..MANY).step_by(100) {
        rustix::fs::renameat(CWD, view.join(n.to_string()), CWD, view.join(format!("renamed {n}"))).unwrap();
        mknod(&view.join(format!("new {n}")), FileType::Fifo, 0o600, 0).unwrap();
    }
    let mut names: Vec<_> = listing(&view).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.len() - 2, MANY + MANY / 100);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len() - 2, MANY + MANY / 100, "each once");
    // As rm -r does, every tenth: all of them would take a quarter of a minute.
    let mut seen = 0;
    for entry in fs::read_dir(&view).unwrap() {
        let path = entry.unwrap().path();
        if seen % 10 == 0 {
            fs::remove_file(path).unwrap();
        }
        seen += 1;
    }
    assert_eq!(seen, MANY + MANY / 100);
    assert_eq!(count(&view), seen - seen / 10);
    assert_eq!(count(&workspace.base().join("many")), MANY, "the base stays");
}
