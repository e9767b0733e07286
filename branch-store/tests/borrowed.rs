//! Files of which only what was written is the branch's own, against plain vectors of bytes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use branch_store::*;
use common::random::Random;
use common::{Paths, Workspace, errno};
use rustix::io::Errno;

const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;

/// Bytes that tell where they are.
fn bytes(len: u64, salt: u64) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at * 31 + salt % 251 * 101) as u8 | 1).collect()
}

/// A base with a file `f` of these bytes, on a filesystem that cannot clone; files of any size borrow.
fn workspace(f: &[u8]) -> Option<Workspace> {
    let mut w = Workspace::new(&[]);
    let host = rustix::fs::statfs(w.base()).unwrap().f_type as u64;
    if ![0xef53, 0x0102_1994].contains(&host) {
        println!("SKIPPED: {host:x} can clone, or its holes are not believed");
        return None;
    }
    std::fs::write(w.base().join("f"), f).unwrap();
    reopen(&mut w);
    Some(w)
}

fn reopen(w: &mut Workspace) -> Vec<String> {
    let report = w.reopen();
    w.store().borrow_from(1);
    report.lines
}

fn open(branch: &Arc<Branch>, path: &str) -> OpenFile {
    branch.open(&branch.at(path).unwrap().0, Access::Write).unwrap()
}

fn read(branch: &Arc<Branch>, path: &str) -> Result<Vec<u8>> {
    let (object, stat) = branch.at(path)?;
    let mut all = vec![0; stat.size as usize + 100];
    let len = branch.open(&object, Access::Read)?.read_at(&mut all, 0)?;
    assert_eq!(len as u64, stat.size, "size and bytes agree");
    all.truncate(len);
    Ok(all)
}

fn write(branch: &Arc<Branch>, path: &str, data: &[u8], at: u64) {
    assert_eq!(open(branch, path).write_at(data, at).unwrap(), data.len());
}

fn resize(branch: &Arc<Branch>, path: &str, size: u64) -> Result<Stat> {
    let change = AttrChange { size: Some(size), ..AttrChange::default() };
    branch.set_attr(&branch.at(path)?.0, &change)
}

fn content_files(w: &Workspace) -> Vec<PathBuf> {
    let layers = std::fs::read_dir(w.base().join(".branchfs/content")).unwrap();
    layers.flat_map(|l| std::fs::read_dir(l.unwrap().path()).unwrap()).map(|f| f.unwrap().path()).collect()
}

/// Bytes that all content files have on the disk.
fn on_disk(w: &Workspace) -> u64 {
    content_files(w).iter().map(|path| path.metadata().unwrap().blocks() * 512).sum()
}

#[test]
fn the_first_write_to_a_large_file_costs_what_it_writes() {
    let mut w = Workspace::new(&[]);
    let old = bytes(16 * MIB + 5, 1);
    std::fs::write(w.base().join("f"), &old).unwrap();
    w.reopen();
    let a = w.fork("main", "a");
    write(&a, "f", b"more", old.len() as u64);
    write(&a, "f", b"NEW", 5 * MIB);
    let mut expected = [&old[..], b"more"].concat();
    expected[5 * MIB as usize..][..3].copy_from_slice(b"NEW");
    assert!(read(&a, "f").unwrap() == expected);
    let host = rustix::fs::statfs(w.base()).unwrap().f_type as u64;
    if [0xef53, 0x0102_1994].contains(&host) {
        assert_eq!(on_disk(&w), 2 * BLOCK, "the end, and one block in the middle");
        let held = a.holdings().unwrap().exclusive;
        assert_eq!(held, 2 * BLOCK, "what is borrowed is not held");
        let blocks = a.at("f").unwrap().1.blocks;
        assert!(blocks * 512 >= expected.len() as u64, "{blocks}: nobody takes it for a file with holes");
    }
    assert_eq!(std::fs::read(w.base().join("f")).unwrap(), old);
    w.store().commit(&a).unwrap();
    assert!(std::fs::read(w.base().join("f")).unwrap() == expected);
}

#[test]
fn small_files_files_with_holes_and_files_of_several_names_are_copied_whole() {
    let Some(mut w) = workspace(&bytes(3 * BLOCK, 1)) else { return };
    std::fs::hard_link(w.base().join("f"), w.base().join("f2")).unwrap();
    let sparse = std::fs::File::create(w.base().join("sparse")).unwrap();
    sparse.set_len(64 * BLOCK).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 9 * BLOCK).unwrap();
    std::fs::write(w.base().join("small"), bytes(8 * BLOCK, 2)).unwrap();
    let a = w.fork("main", "a");
    write(&a, "f", b"x", 0);
    write(&a, "sparse", b"x", 0);
    assert_eq!(on_disk(&w), (3 + 2) * BLOCK);
    drop(a);
    w.reopen();
    let a = w.branch("a");
    write(&a, "small", b"x", 0);
    assert_eq!(on_disk(&w), (3 + 2 + 8) * BLOCK, "by itself only a file of 4 MiB borrows");
}

/// Three blocks and a bit, of which the branch has written a few bytes in the middle one.
fn half_written() -> Option<(Workspace, Vec<u8>)> {
    let mut expected = bytes(3 * BLOCK + 7, 1);
    let w = workspace(&expected)?;
    write(&w.fork("main", "a"), "f", b"MINE", BLOCK + 5);
    expected[BLOCK as usize + 5..][..4].copy_from_slice(b"MINE");
    Some((w, expected))
}

#[test]
fn a_base_file_that_is_removed_or_replaced_is_held_and_copied_within_seconds() {
    for replace in [false, true] {
        let Some((mut w, expected)) = half_written() else { return };
        let f = w.base().join("f");
        if replace {
            std::fs::write(w.base().join("new"), "replaced").unwrap();
            std::fs::rename(w.base().join("new"), &f).unwrap();
        } else {
            std::fs::remove_file(&f).unwrap();
        }
        assert_eq!(read(&w.branch("a"), "f").unwrap(), expected, "the daemon has it open");
        assert_eq!(on_disk(&w), BLOCK);
        // As the daemon does every five seconds.
        w.store().settle().unwrap();
        assert_eq!(on_disk(&w), 4 * BLOCK);
        assert_eq!(reopen(&mut w), [""; 0]);
        assert_eq!(read(&w.branch("a"), "f").unwrap(), expected);
        assert!(matches!(w.store().commit(&w.branch("a")), Err(Error::Conflicts(_))));
    }
}

#[test]
fn a_base_file_that_is_removed_or_replaced_while_the_store_is_closed_is_an_error_and_never_zeros() {
    for replace in [false, true] {
        let Some((mut w, expected)) = half_written() else { return };
        w.close();
        let f = w.base().join("f");
        std::fs::remove_file(&f).unwrap();
        if replace {
            std::fs::write(&f, vec![0; expected.len()]).unwrap();
        }
        let report = reopen(&mut w);
        assert!(
            report.len() == 1 && report[0].contains("a:f has bytes") && report[0].contains("error"),
            "{report:?}"
        );
        let a = w.branch("a");
        assert_eq!(errno(read(&a, "f")), Errno::IO);
        let file = open(&a, "f");
        let mut own = vec![0; BLOCK as usize];
        assert_eq!(file.read_at(&mut own, BLOCK).unwrap(), own.len(), "what was written is there");
        assert_eq!(own, expected[BLOCK as usize..][..BLOCK as usize]);
        assert_eq!(errno(file.write_at(b"x", 3)), Errno::IO, "the rest of the block is gone");
        assert_eq!(file.write_at(&own, 0).unwrap(), own.len(), "a whole block needs no rest");
        assert_eq!(errno(file.allocate(3, 0, 10)), Errno::IO);
        assert!(w.store().commit(&a).is_err());
        resize(&a, "f", 2 * BLOCK).unwrap();
        assert_eq!(read(&a, "f").unwrap(), [&own[..], &own[..]].concat(), "cut to what is there it is whole");
    }
}

#[test]
fn an_edit_in_place_shows_in_what_the_branch_has_not_written_is_told_and_is_a_conflict() {
    let Some((mut w, mut expected)) = half_written() else { return };
    w.close();
    let f = std::fs::File::options().write(true).open(w.base().join("f")).unwrap();
    for at in [1, BLOCK + 1] {
        std::os::unix::fs::FileExt::write_all_at(&f, b"EDITED", at).unwrap();
    }
    expected[1..7].copy_from_slice(b"EDITED");
    let report = reopen(&mut w);
    assert!(
        report.len() == 1 && report[0].contains("a:f has bytes") && report[0].contains("shows"),
        "{report:?}"
    );
    assert_eq!(read(&w.branch("a"), "f").unwrap(), expected, "but for the block that it has");
    let copy = w.fork("a", "b");
    write(&copy, "f", b"x", 2 * BLOCK);
    assert!(matches!(w.store().commit(&w.branch("a")), Err(Error::HasChildren { .. })));
    w.store().abort(&copy, Children::Refuse).unwrap();
    // Shorter it does not have them.
    f.set_len(BLOCK).unwrap();
    assert_eq!(errno(read(&w.branch("a"), "f")), Errno::IO);
    f.set_len(expected.len() as u64).unwrap();
    assert!(matches!(w.store().commit(&w.branch("a")), Err(Error::Conflicts(_))));
}

#[test]
fn what_commits_replace_in_the_base_is_still_borrowed_from_and_kept_as_long() {
    let Some((mut w, expected)) = half_written() else { return };
    for round in 0..3 {
        let other = w.fork_as("main", &["s"], GroupKind::Independent).remove(0);
        other.put("f", &format!("round {round}")).unwrap();
        w.store().commit(&other).unwrap();
        drop(other);
        let everything = Keep { commits: 0, ..w.store().keep() };
        w.store().collect(&everything).unwrap();
        reopen(&mut w);
        assert_eq!(read(&w.branch("a"), "f").unwrap(), expected, "round {round}");
        assert_eq!(on_disk(&w), BLOCK);
    }
    // On another base, from which it still borrows.
    w.store().rebase(&w.branch("a"), &|_| Choice::Ours).unwrap();
    w.store().collect(&Keep { commits: 0, ..w.store().keep() }).unwrap();
    reopen(&mut w);
    assert_eq!(read(&w.branch("a"), "f").unwrap(), expected);
    w.store().commit(&w.branch("a")).unwrap();
    assert_eq!(std::fs::read(w.base().join("f")).unwrap(), expected);
}

/// A commit rewrites a file of several names in place: one that had a single name when it was borrowed from.
#[test]
fn who_borrows_from_a_file_that_a_commit_rewrites_in_place_has_it_all_before() {
    let Some((mut w, expected)) = half_written() else { return };
    std::fs::hard_link(w.base().join("f"), w.base().join("second name")).unwrap();
    let other = w.fork_as("main", &["s"], GroupKind::Independent).remove(0);
    other.put("f", "rewritten").unwrap();
    w.store().commit(&other).unwrap();
    assert_eq!(std::fs::read(w.base().join("second name")).unwrap(), b"rewritten");
    assert_eq!(read(&w.branch("a"), "f").unwrap(), expected);
    drop(other);
    reopen(&mut w);
    assert_eq!(read(&w.branch("a"), "f").unwrap(), expected);
    w.store().undo().unwrap();
    assert_eq!(read(&w.branch("a"), "f").unwrap(), expected);
}

#[test]
fn what_is_borrowed_costs_nothing_until_it_is_needed_and_a_commit_is_not_refused_for_it() {
    let old = bytes(64 * BLOCK, 1);
    let Some(mut w) = workspace(&old) else { return };
    let quota = Some(Quota::Bytes(8 * BLOCK));
    w.store().fork_limited(&w.store().main(), &["a".to_owned()], GroupKind::Exclusive, quota).unwrap();
    let a = w.branch("a");
    write(&a, "f", b"MINE", 5 * BLOCK + 3);
    assert_eq!(a.holdings().unwrap().exclusive, BLOCK);
    let file = open(&a, "f");
    assert_eq!(errno(file.allocate(3, 0, BLOCK)), Errno::DQUOT, "a hole needs the rest");
    assert_eq!(errno(resize(&a, "f", 32 * BLOCK)), Errno::DQUOT, "so does a cut");
    assert_eq!(
        file.write_at(&[b'x'; 16 * BLOCK as usize], 0).unwrap(),
        8 * BLOCK as usize,
        "as much as fits"
    );
    assert_eq!(errno(file.write_at(b"x", 9 * BLOCK)), Errno::DQUOT);
    let mut expected = old;
    expected[..8 * BLOCK as usize].fill(b'x');
    assert_eq!(read(&a, "f").unwrap(), expected);
    drop((a, file));
    reopen(&mut w);
    assert_eq!(w.branch("a").holdings().unwrap().exclusive, 8 * BLOCK);
    w.store().commit(&w.branch("a")).unwrap();
    assert!(std::fs::read(w.base().join("f")).unwrap() == expected);
}

#[test]
fn readers_of_a_file_that_borrows_see_every_write_whole_and_nothing_else() {
    let size = 32 * BLOCK;
    let Some(mut w) = workspace(&vec![b'0'; size as usize]) else { return };
    reopen(&mut w);
    let a = w.fork("main", "a");
    write(&a, "f", b"0", 0);
    let (from, len) = (3 * BLOCK + 100, 200);
    std::thread::scope(|scope| {
        for writer in 0..4_u64 {
            let a = a.clone();
            scope.spawn(move || {
                let file = open(&a, "f");
                for round in 0..7 {
                    // Each its own range in every block; all meet in the blocks.
                    let at = from + round * 4 * BLOCK + writer * 300;
                    assert_eq!(file.write_at(&[b'1' + writer as u8; 200], at).unwrap(), len);
                    let mut back = [0; 200];
                    assert_eq!(file.read_at(&mut back, at).unwrap(), len);
                    assert_eq!(back, [b'1' + writer as u8; 200]);
                }
            });
        }
        let a = a.clone();
        scope.spawn(move || {
            for _ in 0..200 {
                let seen = read(&a, "f").unwrap();
                assert!(seen.iter().all(|byte| (b'0'..=b'4').contains(byte)), "zeros, or what nobody wrote");
            }
        });
    });
    let mut expected = vec![b'0'; size as usize];
    for (writer, round) in (0..4).flat_map(|writer| (0..7).map(move |round| (writer, round))) {
        let at = (from + round * 4 * BLOCK + writer * 300) as usize;
        expected[at..at + len].fill(b'1' + writer as u8);
    }
    assert_eq!(read(&a, "f").unwrap(), expected);
    drop(a);
    reopen(&mut w);
    assert_eq!(read(&w.branch("a"), "f").unwrap(), expected, "and so it is on the disk");
    assert!(on_disk(&w) < size, "of which most is still borrowed");
}

#[test]
fn a_file_that_borrows_is_not_to_be_read_from_the_host_until_it_has_all_its_bytes() {
    let Some((w, expected)) = half_written() else { return };
    let below = w.fork("a", "b");
    let seen = below.open(&below.at("f").unwrap().0, Access::Read).unwrap();
    assert!(seen.stable().unwrap().is_none());
    // Comparing needs all of it, as committing does.
    let side = w.store().side(&below).unwrap();
    let (object, _) = side.resolve(b"f").unwrap().unwrap();
    assert_eq!(side.read(&object, MIB).unwrap().unwrap(), expected);
    let stable = seen.stable().unwrap().unwrap();
    let mut file = std::fs::File::from(std::os::fd::AsFd::as_fd(&stable).try_clone_to_owned().unwrap());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    assert_eq!(bytes, expected);
}

/// Holes mean nothing in a copy that somebody made of the store.
#[test]
fn a_content_file_that_is_a_copy_of_the_one_that_borrowed_is_an_error() {
    let Some((mut w, _)) = half_written() else { return };
    w.close();
    let content = content_files(&w).remove(0);
    let filled = std::fs::read(&content).unwrap();
    std::fs::rename(&content, content.with_extension("old")).unwrap();
    std::fs::write(&content, filled).unwrap();
    assert_eq!(reopen(&mut w).len(), 1);
    assert_eq!(errno(read(&w.branch("a"), "f")), Errno::IO);
}

/// What a step of a random history does to one branch, and to what it should have.
fn step(
    w: &Workspace,
    name: &str,
    model: &mut BTreeMap<String, Vec<u8>>,
    random: &mut Random,
    size: u64,
) -> String {
    let branch = w.branch(name);
    let path = ["f", "f", "f", "g"][random.below(4)];
    let file = model.get_mut(path).unwrap();
    // Around blocks, and around what was borrowed.
    let near = |random: &mut Random| {
        let at = [0, BLOCK, 2 * BLOCK, size, size / BLOCK * BLOCK, size + BLOCK][random.below(6)];
        (at + random.below(5) as u64).saturating_sub(2)
    };
    let (one, two) = (near(random), near(random));
    let (at, end) = (one.min(two), one.max(two));
    match random.below(12) {
        0..5 => {
            let data = bytes((end - at).min(if random.below(2) == 0 { 3 } else { u64::MAX }), random.0);
            write(&branch, path, &data, at);
            let end = at as usize + data.len();
            if !data.is_empty() {
                file.resize(file.len().max(end), 0);
                file[at as usize..end].copy_from_slice(&data);
            }
            format!("{name}: write {path} {at}+{}", data.len())
        }
        5 | 6 => {
            resize(&branch, path, at).unwrap();
            file.resize(at as usize, 0);
            format!("{name}: truncate {path} {at}")
        }
        7 => {
            let (mode, keep) = [(0, false), (1, true), (3, true), (0x10, false)][random.below(4)];
            let len = end - at + 1;
            match open(&branch, path).allocate(mode, at, len) {
                // tmpfs makes no zeros.
                Err(e) if mode == 0x10 && e.errno() == Errno::OPNOTSUPP => {
                    return "no fallocate 0x10".to_owned();
                }
                done => done.unwrap(),
            }
            let end = (at + len) as usize;
            if !keep {
                file.resize(file.len().max(end), 0);
            }
            if mode & 0x12 != 0 {
                let upto = end.min(file.len());
                file[upto.min(at as usize)..upto].fill(0);
            }
            format!("{name}: fallocate {mode:#x} {path} {at}+{len}")
        }
        8 | 9 => {
            let (from, to) = if path == "f" { ("f", "g") } else { ("g", "f") };
            let (source, target) = (open(&branch, from), open(&branch, to));
            let len = target.copy_from(at, &source, one, end - at + 1).unwrap() as usize;
            let source = model[from].clone();
            let expected = source.len().saturating_sub(one as usize).min((end - at + 1) as usize);
            assert_eq!(len, expected, "copied as much as there was");
            let target = model.get_mut(to).unwrap();
            if len > 0 {
                target.resize(target.len().max(at as usize + len), 0);
                target[at as usize..][..len].copy_from_slice(&source[one as usize..][..len]);
            }
            format!("{name}: copy {from} {one}+{len} to {to} {at}")
        }
        10 => {
            open(&branch, path).sync(SyncWhat::All).unwrap();
            format!("{name}: fsync {path}")
        }
        _ => {
            let seen = branch.open(&branch.at(path).unwrap().0, Access::Read).unwrap();
            check_seek(&seen, file);
            format!("{name}: seek {path}")
        }
    }
}

/// What is called a hole reads as zeros, and all else is called data.
fn check_seek(file: &OpenFile, expected: &[u8]) {
    let mut at = 0;
    while let Ok(data) = file.seek(at, SeekWhat::Data) {
        assert!(expected[at as usize..data as usize].iter().all(|byte| *byte == 0), "a hole at {at}..{data}");
        at = file.seek(data, SeekWhat::Hole).unwrap();
        assert!(data < at && at <= expected.len() as u64);
    }
    assert!(expected[at as usize..].iter().all(|byte| *byte == 0), "a hole at the end from {at}");
    assert_eq!(errno(file.seek(expected.len() as u64, SeekWhat::Hole)), Errno::NXIO);
}

type Model = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

fn compare(w: &Workspace, model: &Model, log: &[String]) {
    for (name, files) in model {
        for (path, expected) in files {
            let found = read(&w.branch(name), path).unwrap();
            let first = found.iter().zip(expected).position(|(a, b)| a != b);
            assert!(
                found == *expected,
                "{name}:{path} has {} bytes, not {}; first difference at {first:?}\n{}",
                found.len(),
                expected.len(),
                log.join("\n")
            );
        }
    }
}

/// One history: changes in a branch and one below it, restarts, checkpoints, marks, a sibling that commits the file.
fn history(seed: u64, dir: Option<&Path>) -> Option<()> {
    let random = &mut Random(seed);
    let size = [2 * BLOCK, 3 * BLOCK + 100, 5 * BLOCK - 1, 4 * BLOCK + 1][random.below(4)];
    let base: BTreeMap<String, Vec<u8>> =
        [("f".to_owned(), bytes(size, 1)), ("g".to_owned(), bytes(2 * BLOCK + 9, 2))].into();
    let mut w = match dir {
        None => workspace(&base["f"])?,
        Some(dir) => {
            let base_dir = dir.join(seed.to_string());
            std::fs::create_dir(&base_dir).unwrap();
            std::fs::write(base_dir.join("f"), &base["f"]).unwrap();
            let mut w = Workspace::over(&base_dir);
            reopen(&mut w);
            w
        }
    };
    std::fs::write(w.base().join("g"), &base["g"]).unwrap();
    let siblings = ["a", "s"];
    w.fork_as("main", &siblings, GroupKind::Independent);
    let mut model: Model = siblings.map(|name| (name.to_owned(), base.clone())).into();
    let mut log = vec![format!("seed {seed}, {size} bytes")];
    for _ in 0..40 {
        let names: Vec<String> = model.keys().cloned().collect();
        let name = names[random.below(names.len())].clone();
        let said = match random.below(16) {
            0 => {
                reopen(&mut w);
                "restart".to_owned()
            }
            1 => {
                w.store().checkpoint().unwrap();
                "checkpoint".to_owned()
            }
            2 if !model.contains_key("b") && name == "a" => {
                w.fork("a", "b");
                model.insert("b".to_owned(), model["a"].clone());
                "fork b".to_owned()
            }
            3 if model.contains_key("b") => {
                let into = w.store().commit(&w.branch("b"));
                match into {
                    Ok(_) => {
                        let files = model.remove("b").unwrap();
                        // What b left alone is a's.
                        let after: BTreeMap<_, _> = files
                            .keys()
                            .map(|path| (path.clone(), read(&w.branch("a"), path).unwrap()))
                            .collect();
                        for (path, bytes) in &after {
                            assert!(
                                *bytes == files[path] || *bytes == model["a"][path],
                                "{}",
                                log.join("\n")
                            );
                        }
                        model.insert("a".to_owned(), after);
                    }
                    Err(Error::Conflicts(_)) => {}
                    Err(e) => panic!("{e}: {}", log.join("\n")),
                }
                "commit b".to_owned()
            }
            4 if model.contains_key("s") => {
                w.store().commit(&w.branch("s")).unwrap();
                let files = model.remove("s").unwrap();
                for (path, bytes) in files {
                    assert!(std::fs::read(w.base().join(&path)).unwrap() == bytes, "{}", log.join("\n"));
                }
                w.store().collect(&Keep::default()).unwrap();
                "commit s into the base, collect".to_owned()
            }
            5 => {
                let mark = w.store().mark(&w.branch(&name), None).unwrap();
                format!("{name}: mark {mark}")
            }
            _ => step(&w, &name, model.get_mut(&name).unwrap(), random, size),
        };
        log.push(said);
        compare(&w, &model, &log);
    }
    if model.remove("b").is_some() {
        w.store().abort(&w.branch("b"), Children::Refuse).unwrap();
    }
    let a = w.branch("a");
    if w.store().commit_with(&a, &|_: &Conflict| Choice::Ours).is_ok() {
        for (path, bytes) in &model["a"] {
            // Of what both changed the branch's was chosen; of what it left alone the base has its own.
            let now = std::fs::read(w.base().join(path)).unwrap();
            assert!(now == *bytes || *bytes == base[path], "{path} in the base: {}", log.join("\n"));
        }
    }
    Some(())
}

fn rounds() -> u64 {
    std::env::var("BRANCHFS_ROUNDS").map_or(60, |rounds| rounds.parse().unwrap())
}

#[test]
fn files_that_borrow_read_like_files_that_do_not() {
    for seed in 0..rounds() {
        if history(seed, None).is_none() {
            return;
        }
    }
}

#[test]
fn files_that_borrow_read_like_files_that_do_not_on_tmpfs() {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        println!("SKIPPED: no /dev/shm");
        return;
    }
    let dir = tempfile::tempdir_in(shm).unwrap();
    for seed in 0..rounds() {
        history(seed, Some(dir.path()));
    }
}
