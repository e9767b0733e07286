//! Which times each operation moves, of the objects it is about and of the directories around them; and setting
//! times to anything.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags,
};
use rustix::time::{ClockId, clock_gettime};

use crate::both::same;
use crate::play::Play;
use crate::sys::{Map, mknod, rename_with};

type Act = fn(&Path) -> std::io::Result<()>;

/// Watched before and after each operation; the directory itself is `.`.
const WATCHED: [&str; 9] = [".", "f", "hard", "g", "empty file", "d", "d/x", "e", "link"];

fn fill(at: &Path) {
    fs::write(at.join("f"), "content").unwrap();
    fs::hard_link(at.join("f"), at.join("hard")).unwrap();
    fs::write(at.join("g"), "other").unwrap();
    rustix::fs::setxattr(at.join("g"), "user.old", b"v", XattrFlags::empty()).unwrap();
    File::create(at.join("empty file")).unwrap();
    symlink("f", at.join("link")).unwrap();
    for dir in ["d", "d/x", "d/full", "d/full/inner", "e", "e/y"] {
        fs::create_dir(at.join(dir)).unwrap();
    }
    // One for all: a name that means another object afterwards must not look as if its time had moved.
    let same = Timestamps {
        last_access: Timespec { tv_sec: 1_600_000_000, tv_nsec: 0 },
        last_modification: Timespec { tv_sec: 1_600_000_000, tv_nsec: 0 },
    };
    for name in WATCHED {
        rustix::fs::utimensat(CWD, at.join(name), &same, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn fill_for_each(at: &Path) {
    for (n, _) in OPERATIONS.iter().enumerate() {
        fs::create_dir(at.join(n.to_string())).unwrap();
        fill(&at.join(n.to_string()));
    }
}

fn writer(at: &Path, name: &str) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(at.join(name))
}

fn rename(at: &Path, from: &str, to: &str, flags: RenameFlags) -> std::io::Result<()> {
    Ok(rename_with(&at.join(from), &at.join(to), flags)?)
}

const OPERATIONS: &[(&str, Act)] = &[
    ("read", |at| File::open(at.join("f"))?.read_exact(&mut [0; 7])),
    ("write", |at| writer(at, "f")?.write_all(b"x")),
    ("write nothing", |at| writer(at, "f")?.write(b"").map(drop)),
    ("append", |at| OpenOptions::new().append(true).open(at.join("hard"))?.write_all(b"x")),
    ("write behind the end", |at| writer(at, "g")?.write_all_at(b"x", 9000)),
    ("open for writing", |at| writer(at, "f").map(drop)),
    ("open with O_CREAT", |at| OpenOptions::new().append(true).create(true).open(at.join("f")).map(drop)),
    ("truncate at open", |at| File::create(at.join("f")).map(drop)),
    ("truncate at open what is empty", |at| File::create(at.join("empty file")).map(drop)),
    ("ftruncate shorter", |at| writer(at, "f")?.set_len(3)),
    ("ftruncate longer", |at| writer(at, "f")?.set_len(300)),
    ("ftruncate to the same size", |at| writer(at, "f")?.set_len(7)),
    ("truncate to the same size", |at| truncate(&at.join("f"), 7)),
    ("truncate", |at| truncate(&at.join("f"), 2)),
    ("allocate", |at| Ok(rustix::fs::fallocate(&writer(at, "f")?, FallocateFlags::empty(), 0, 9000)?)),
    ("allocate what is there", |at| {
        Ok(rustix::fs::fallocate(&writer(at, "f")?, FallocateFlags::empty(), 0, 3)?)
    }),
    ("allocate behind the end", |at| {
        Ok(rustix::fs::fallocate(&writer(at, "f")?, FallocateFlags::KEEP_SIZE, 0, 90_000)?)
    }),
    ("punch", |at| {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&writer(at, "f")?, hole, 0, 3)?)
    }),
    ("zero", |at| Ok(rustix::fs::fallocate(&writer(at, "f")?, FallocateFlags::ZERO_RANGE, 0, 3)?)),
    ("mapped store", |at| {
        let mut map = Map::shared(&writer(at, "f")?, 7);
        map.bytes()[0] = b'x';
        map.sync()
    }),
    ("private mapped store", |at| {
        Map::private(&writer(at, "f")?, 7).bytes()[0] = b'x';
        Ok(())
    }),
    ("copy_file_range", |at| {
        let (from, to) = (File::open(at.join("f"))?, writer(at, "g")?);
        Ok(rustix::fs::copy_file_range(&from, None, &to, None, 7).map(drop)?)
    }),
    ("fsync", |at| writer(at, "f")?.sync_all()),
    ("chmod", |at| fs::set_permissions(at.join("f"), Permissions::from_mode(0o600))),
    ("chmod to the same", |at| fs::set_permissions(at.join("f"), fs::metadata(at.join("f"))?.permissions())),
    ("chmod of a directory", |at| fs::set_permissions(at.join("d"), Permissions::from_mode(0o700))),
    ("chown to the same", |at| chown(at.join("f"), Some(fs::metadata(at.join("f"))?.uid()), None)),
    ("chown to nobody new", |at| chown(at.join("f"), None, None)),
    ("setxattr", |at| Ok(rustix::fs::setxattr(at.join("f"), "user.a", b"b", XattrFlags::empty())?)),
    ("setxattr to the same", |at| {
        Ok(rustix::fs::setxattr(at.join("g"), "user.old", b"v", XattrFlags::empty())?)
    }),
    ("removexattr", |at| Ok(rustix::fs::removexattr(at.join("g"), "user.old")?)),
    ("removexattr of none", |at| Ok(rustix::fs::removexattr(at.join("g"), "user.none")?)),
    ("setxattr of a directory", |at| {
        Ok(rustix::fs::setxattr(at.join("d"), "user.a", b"b", XattrFlags::empty())?)
    }),
    ("create", |at| File::create(at.join("d/new")).map(drop)),
    ("create what exists", |at| File::create_new(at.join("f")).map(drop)),
    ("mkdir", |at| fs::create_dir(at.join("d/new"))),
    ("mkdir what exists", |at| fs::create_dir(at.join("d/x"))),
    ("symlink", |at| symlink("x", at.join("d/new"))),
    ("mkfifo", |at| Ok(mknod(&at.join("d/new"), rustix::fs::FileType::Fifo, 0o600, 0)?)),
    ("link", |at| fs::hard_link(at.join("f"), at.join("d/new"))),
    ("link of a link", |at| {
        Ok(rustix::fs::linkat(CWD, at.join("link"), CWD, at.join("d/new"), AtFlags::empty())?)
    }),
    ("link to what exists", |at| fs::hard_link(at.join("f"), at.join("g"))),
    ("unlink one of two", |at| fs::remove_file(at.join("hard"))),
    ("unlink the last", |at| fs::remove_file(at.join("g"))),
    ("unlink what is not there", |at| fs::remove_file(at.join("d/none"))),
    ("rmdir", |at| fs::remove_dir(at.join("d/x"))),
    ("rmdir of a full one", |at| fs::remove_dir(at.join("d"))),
    ("rename", |at| rename(at, "f", "new", RenameFlags::empty())),
    ("rename to another directory", |at| rename(at, "f", "d/new", RenameFlags::empty())),
    ("rename over", |at| rename(at, "f", "g", RenameFlags::empty())),
    ("rename over one of two", |at| rename(at, "g", "hard", RenameFlags::empty())),
    ("rename onto its own link", |at| rename(at, "f", "hard", RenameFlags::empty())),
    ("rename of a directory", |at| rename(at, "d/x", "d/z", RenameFlags::empty())),
    ("rename of a directory to another", |at| rename(at, "d/x", "e/x", RenameFlags::empty())),
    ("rename of a directory over another", |at| rename(at, "d/x", "e/y", RenameFlags::empty())),
    ("exchange", |at| rename(at, "f", "g", RenameFlags::EXCHANGE)),
    ("exchange with a directory", |at| rename(at, "f", "d/x", RenameFlags::EXCHANGE)),
    ("exchange of directories", |at| rename(at, "d/x", "e", RenameFlags::EXCHANGE)),
    ("rename that may not replace", |at| rename(at, "f", "g", RenameFlags::NOREPLACE)),
    ("rename with a whiteout", |at| rename(at, "f", "d/new", RenameFlags::WHITEOUT)),
    ("readlink", |at| fs::read_link(at.join("link")).map(drop)),
    ("list", |at| fs::read_dir(at.join("d"))?.try_for_each(|entry| entry.map(drop))),
];

fn truncate(path: &Path, len: i64) -> std::io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the string ends with NUL and outlives the call.
    match unsafe { libc::truncate(path.as_ptr(), len) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

type Stamp = (i64, i64);

fn stamps(path: &Path) -> Option<[Stamp; 2]> {
    let m = fs::symlink_metadata(path).ok()?;
    Some([(m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec())])
}

/// Returns when a change from now on gets a later time than any before.
fn tick() {
    let coarse = || clock_gettime(ClockId::RealtimeCoarse);
    let fine = clock_gettime(ClockId::Realtime);
    while (coarse().tv_sec, coarse().tv_nsec) <= (fine.tv_sec, fine.tv_nsec) {
        std::thread::yield_now();
    }
}

#[test]
fn every_operation_moves_the_times_that_it_moves_on_ext4() {
    same(fill_for_each, |play| {
        for (n, (what, act)) in OPERATIONS.iter().enumerate() {
            let dir = play.at(n.to_string());
            let before = WATCHED.map(|name| stamps(&dir.join(name)));
            tick();
            play.call(what, act(&dir));
            // What now has another name counts as what it is.
            for (name, before) in WATCHED.iter().zip(before) {
                let after = stamps(&dir.join(name));
                let moved = match (before, after) {
                    (Some(before), Some(after)) => {
                        let word = |n: usize| match after[n].cmp(&before[n]) {
                            std::cmp::Ordering::Less => "back",
                            std::cmp::Ordering::Equal => "",
                            std::cmp::Ordering::Greater => "moved",
                        };
                        format!("mtime {} ctime {}", word(0), word(1))
                    }
                    (None, None) => "not there".to_owned(),
                    (Some(_), None) => "gone".to_owned(),
                    (None, Some(_)) => "come".to_owned(),
                };
                if moved != "mtime  ctime " {
                    play.note(format!("{what}: {name}"), moved);
                }
            }
        }
    });
}

#[test]
fn what_is_made_now_says_so() {
    same(fill, |play| {
        tick();
        let before = clock_gettime(ClockId::RealtimeCoarse);
        File::create(play.at("new file")).unwrap();
        fs::create_dir(play.at("new dir")).unwrap();
        symlink("x", play.at("new link")).unwrap();
        let after = clock_gettime(ClockId::Realtime);
        for name in ["new file", "new dir", "new link", "."] {
            let m = fs::symlink_metadata(play.at(name)).unwrap();
            let within = |sec: i64, nsec: i64| {
                (sec, nsec) >= (before.tv_sec, before.tv_nsec) && (sec, nsec) <= (after.tv_sec, after.tv_nsec)
            };
            let all = (within(m.mtime(), m.mtime_nsec()), within(m.ctime(), m.ctime_nsec()));
            play.note(name, (all, m.atime() == m.mtime() || name == "."));
        }
    });
}

const fn at(sec: i64, nsec: i64) -> Timespec {
    Timespec { tv_sec: sec, tv_nsec: nsec }
}

const NOW: Timespec = at(0, UTIME_NOW);
const OMIT: Timespec = at(0, UTIME_OMIT);

#[test]
fn times_can_be_set_to_anything() {
    same(fill, |play| {
        let all = [
            ("whole seconds", at(1_000_000_000, 0), at(1_100_000_000, 0)),
            ("nanoseconds", at(1_000_000_000, 123_456_789), at(1_100_000_000, 999_999_999)),
            ("the start", at(0, 0), at(0, 1)),
            ("before 1970", at(-1, 999_999_999), at(-1_000_000, 1)),
            ("before 1901", at(-3_000_000_000, 0), at(-10_000_000_000, 500)),
            ("after 2038", at(2_147_483_648, 5), at(4_294_967_296, 6)),
            ("after 2446", at(15_032_385_536, 7), at(99_999_999_999, 8)),
            ("far away", at(i64::MAX, 9), at(-i64::MAX, 10)),
            ("only mtime", OMIT, at(77, 7)),
            ("only atime", at(88, 8), OMIT),
            ("none", OMIT, OMIT),
            ("too many nanoseconds", at(0, 1_000_000_000), at(0, 0)),
        ];
        fs::write(play.at("fresh"), "made here").unwrap();
        for name in ["f", "fresh", "d", "e", "link", "empty file"] {
            for (what, last_access, last_modification) in all {
                let times = Timestamps { last_access, last_modification };
                let set = rustix::fs::utimensat(CWD, play.at(name), &times, AtFlags::SYMLINK_NOFOLLOW);
                play.call(format!("{what} on {name}"), set);
                show(play, name);
            }
        }
        // A copy-up after it must keep it.
        OpenOptions::new().append(true).open(play.at("f")).unwrap();
        fs::set_permissions(play.at("f"), Permissions::from_mode(0o640)).unwrap();
        fs::rename(play.at("f"), play.at("d/f")).unwrap();
        show(play, "d/f");
    });
}

fn show(play: &Play, name: &str) {
    let m = fs::symlink_metadata(play.at(name)).unwrap();
    play.note(name, (m.atime(), m.atime_nsec(), m.mtime(), m.mtime_nsec()));
}

#[test]
fn now_is_now_and_what_is_omitted_stays() {
    same(fill, |play| {
        for name in ["f", "d", "link"] {
            for (what, last_access, last_modification) in
                [("both", NOW, NOW), ("atime", NOW, OMIT), ("mtime", OMIT, NOW), ("mixed", at(5, 5), NOW)]
            {
                let of = |m: fs::Metadata| {
                    [(m.atime(), m.atime_nsec()), (m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec())]
                };
                let before = of(fs::symlink_metadata(play.at(name)).unwrap());
                tick();
                let times = Timestamps { last_access, last_modification };
                rustix::fs::utimensat(CWD, play.at(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
                let after = of(fs::symlink_metadata(play.at(name)).unwrap());
                play.note(format!("{what} of {name}"), [0, 1, 2].map(|n| after[n] > before[n]));
            }
        }
    });
}

#[test]
fn others_may_set_times_only_as_on_ext4() {
    if !rustix::process::geteuid().is_root() {
        return branchfs_tests::skip("only root can be somebody else");
    }
    same(fill, |play| {
        fs::set_permissions(play.at("f"), Permissions::from_mode(0o666)).unwrap();
        chown(play.at("g"), Some(1000), None).unwrap();
        crate::sys::as_user(&play.at("."), 1000, 1000, || {
            for (what, last_access, last_modification) in [
                ("now", NOW, NOW),
                ("some", at(1, 1), at(2, 2)),
                ("omitted", OMIT, OMIT),
                ("half now", NOW, OMIT),
            ] {
                let times = Timestamps { last_access, last_modification };
                for name in ["f", "g", "empty file", "d"] {
                    play.call(
                        format!("{what} on {name}"),
                        rustix::fs::utimensat(CWD, name, &times, AtFlags::empty()),
                    );
                }
            }
        });
    });
}

/// Reading moves no atime in a branch: ext4 as it is mounted everywhere moves it at most once a day, and at most
/// once after a change. O_NOATIME is asked for by those who may.
#[test]
fn reading_leaves_atime_alone() {
    same(fill, |play| {
        let times = Timestamps { last_access: at(1_000_000, 0), last_modification: at(500_000, 0) };
        for name in ["f", "d", "link"] {
            rustix::fs::utimensat(CWD, play.at(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let atime = || fs::symlink_metadata(play.at(name)).unwrap().atime();
            match name {
                "d" => assert!(fs::read_dir(play.at(name)).unwrap().count() > 0),
                "link" => assert!(fs::read_link(play.at(name)).is_ok()),
                _ => {
                    use std::os::unix::fs::OpenOptionsExt;
                    let mut quiet = OpenOptions::new();
                    let read = quiet.read(true).custom_flags(libc::O_NOATIME).open(play.at(name));
                    play.answer("without atime", read.and_then(|mut f| f.read(&mut [0; 3])));
                    play.note("still", atime());
                    assert!(fs::read(play.at(name)).is_ok());
                }
            }
            let moved = atime() != 1_000_000;
            play.unlike("atime after reading", moved, true, false);
        }
    });
}
