//! Copying up fails or dies at every call: the file is wholly old or wholly new, what was acknowledged stays, the
//! branch goes on, and no half copy takes up space for ever.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use branch_store::*;
use common::gate::Fuse;
use common::seen::Seen;
use common::{Paths, Workspace};
use rustix::io::Errno;

const KIB: u64 = 1024;

/// Data of several copying calls each, with holes around.
fn sample() -> Workspace {
    let w = Workspace::new(&[]);
    let file = std::fs::File::create(w.base().join("f")).unwrap();
    for (at, byte) in [(8, b'1'), (128, b'2'), (400, b'3')] {
        file.write_all_at(&[byte; 40 << 10], at * KIB).unwrap();
    }
    file.set_len(600 * KIB).unwrap();
    w
}

fn write(branch: &Arc<Branch>, bytes: &[u8], at: u64) -> Result<()> {
    let file = branch.open(&branch.at("f")?.0, Access::Write)?;
    assert_eq!(file.write_at(bytes, at)?, bytes.len());
    Ok(())
}

fn resize(branch: &Arc<Branch>, size: u64) -> Result<()> {
    let change = AttrChange { size: Some(size), ..AttrChange::default() };
    branch.set_attr(&branch.at("f")?.0, &change).map(drop)
}

type Act = fn(&Arc<Branch>) -> Result<()>;

const ACTS: [(&str, Act); 6] = [
    ("write over data", |b| write(b, b"NEW", 8 * KIB)),
    ("write into a hole", |b| write(b, b"NEW", 300 * KIB)),
    ("truncate in the middle of data", |b| resize(b, 140 * KIB)),
    ("truncate to nothing", |b| resize(b, 0)),
    ("extend", |b| resize(b, 900 * KIB)),
    ("allocate", |b| b.open(&b.at("f")?.0, Access::Write)?.allocate(0, 600 * KIB, 8 * KIB)),
];

/// Where the bytes are that are copied up.
const LAYERS: [&str; 2] = ["base", "older layer"];

/// The branch that acts: of main, or of one that holds the file itself.
fn branch(w: &Workspace, from: &str) -> Arc<Branch> {
    let a = w.fork("main", "a");
    if from == "base" {
        return a;
    }
    write(&a, b"older", 8 * KIB).unwrap();
    w.fork("a", "b")
}

fn again(w: &Workspace, from: &str) -> Arc<Branch> {
    w.branch(if from == "base" { "a" } else { "b" })
}

/// Content files by layer and name, as they are on the disk.
fn contents(w: &Workspace) -> BTreeSet<String> {
    let content = w.base().join(".branchfs/content");
    let layers =
        std::fs::read_dir(&content).unwrap().flat_map(|l| std::fs::read_dir(l.unwrap().path()).unwrap());
    layers.map(|file| file.unwrap().path().strip_prefix(&content).unwrap().display().to_string()).collect()
}

/// Seen of the file before and after, and the number of calls in between.
fn reference(act: Act, from: &str) -> (Seen, Seen, u64) {
    let mut w = sample();
    let gate = Fuse::counting();
    w.reopen_on(Disk::guarded(gate.clone())).unwrap();
    let branch = branch(&w, from);
    let before = Seen::in_branch(&branch, "f");
    gate.set(u64::MAX);
    act(&branch).unwrap();
    (before, Seen::in_branch(&branch, "f"), gate.calls())
}

/// Times differ from run to run.
fn timeless(mut seen: Seen) -> Seen {
    seen.atime = Time::default();
    seen.but_change_times()
}

#[test]
fn a_copy_up_that_fails_at_any_call_has_changed_nothing_and_the_next_one_works() {
    let mut cases = 0;
    for (name, act) in ACTS {
        for from in LAYERS {
            let (_, after, calls) = reference(act, from);
            assert!(calls >= 5, "{name}: {calls} calls reach the disk");
            for k in 0..calls {
                let errno = [Errno::NOSPC, Errno::DQUOT, Errno::IO][k as usize % 3];
                fail_at(name, act, from, (k, errno), &after);
                cases += 1;
            }
        }
    }
    println!("{cases} failures");
}

fn fail_at(name: &str, act: Act, from: &str, (k, errno): (u64, Errno), after: &Seen) {
    let what = format!("{name}, from the {from}, {errno} at call {k}");
    let mut w = sample();
    let gate = Fuse::new(u64::MAX, errno, true);
    w.reopen_on(Disk::guarded(gate.clone())).unwrap();
    let branch = branch(&w, from);
    let (before, had) = (Seen::in_branch(&branch, "f"), contents(&w));
    gate.set(k);
    let done = act(&branch);
    gate.set(u64::MAX);
    match done {
        Err(e) => {
            assert_eq!(e.errno(), errno, "{what}");
            let now = Seen::in_branch(&branch, "f");
            // The copy may be there already: of the same bytes.
            assert_eq!(timeless(now.clone()), timeless(before.clone()), "{what}");
            assert_eq!(now.mtime, before.mtime, "{what}: refused, and yet modified");
            let kept: Vec<String> = contents(&w).difference(&had).cloned().collect();
            assert!(kept.len() as u64 <= branch.changed(), "{what}: left behind {kept:?}");
        }
        // A clone that is refused is followed by a copy.
        Ok(()) => assert_eq!(timeless(Seen::in_branch(&branch, "f")), timeless(after.clone()), "{what}"),
    }
    act(&branch).unwrap();
    let seen = Seen::in_branch(&branch, "f");
    assert_eq!(timeless(seen.clone()), timeless(after.clone()), "{what}, tried again");
    drop(branch);
    w.reopen();
    assert_eq!(Seen::in_branch(&again(&w, from), "f"), seen, "{what}, after a restart");
}

#[test]
fn a_death_at_any_call_of_a_copy_up_leaves_the_old_file_or_the_new_one_and_no_rubbish() {
    let mut cases = 0;
    for (name, act) in ACTS {
        for from in LAYERS {
            let (before, after, calls) = reference(act, from);
            for k in 0..=calls {
                let what = format!("{name}, from the {from}, dead at call {k}");
                let mut w = sample();
                let gate = Fuse::new(u64::MAX, Errno::IO, false);
                w.reopen_on(Disk::guarded(gate.clone())).unwrap();
                let dying = branch(&w, from);
                let had = contents(&w);
                gate.set(k);
                let acknowledged = act(&dying).is_ok();
                let copied = dying.changed() > 0;
                drop(dying);
                w.reopen();
                let found = again(&w, from);
                let seen = timeless(Seen::in_branch(&found, "f"));
                if acknowledged {
                    assert_eq!(seen, timeless(after.clone()), "{what}: acknowledged, and lost");
                } else {
                    let old = seen == timeless(before.clone());
                    assert!(old || seen == timeless(after.clone()), "{what}: {seen:?}");
                }
                if !copied {
                    assert_eq!(contents(&w), had, "{what}: a half copy stays for ever");
                }
                act(&found).unwrap();
                assert_eq!(timeless(Seen::in_branch(&found, "f")), timeless(after.clone()), "{what}");
                cases += 1;
            }
        }
    }
    println!("{cases} deaths");
}

/// The commit copies, too: bytes of hard-linked files, before and into the file itself.
#[test]
fn a_commit_that_rewrites_in_place_survives_a_full_disk_and_a_death_in_the_middle_of_the_bytes() {
    let prepare = |w: &Workspace| {
        std::fs::hard_link(w.base().join("f"), w.base().join("g")).unwrap();
        let a = w.fork("main", "a");
        write(&a, &[b'N'; 60 << 10], 100 * KIB).unwrap();
        a
    };
    let (old, new, calls) = {
        let mut w = sample();
        let gate = Fuse::counting();
        w.reopen_on(Disk::guarded(gate.clone())).unwrap();
        let a = prepare(&w);
        let old = timeless(Seen::on_host(&w.base().join("f")));
        gate.set(u64::MAX);
        w.store().commit(&a).unwrap();
        (old, timeless(Seen::on_host(&w.base().join("f"))), gate.calls())
    };
    assert!(calls > 30 && old != new);
    for once in [false, true] {
        for k in 0..calls {
            let mut w = sample();
            let gate = Fuse::new(u64::MAX, Errno::NOSPC, once);
            w.reopen_on(Disk::guarded(gate.clone())).unwrap();
            let a = prepare(&w);
            gate.set(k);
            let committed = w.store().commit(&a).is_ok();
            drop(a);
            w.reopen();
            let [f, g] = ["f", "g"].map(|name| timeless(Seen::on_host(&w.base().join(name))));
            assert_eq!(f, g, "call {k}");
            if committed || w.store().branch("a").is_err() {
                assert_eq!(f, new, "call {k}: decided");
            } else {
                assert_eq!(f, old, "call {k}: not decided");
                assert_eq!(w.store().commit(&w.branch("a")).unwrap().changed, 1);
                assert_eq!(timeless(Seen::on_host(&w.base().join("g"))), new, "call {k}, tried again");
            }
        }
    }
}

/// As copy_file_range(2): a copy that stops half-way says how far it came.
#[test]
fn a_copy_on_a_full_disk_answers_with_what_it_copied() {
    let mut w = sample();
    let gate = Fuse::new(u64::MAX, Errno::NOSPC, true);
    w.reopen_on(Disk::guarded(gate.clone())).unwrap();
    let a = w.fork("main", "a");
    write(&a, b"1", 8 * KIB).unwrap();
    let file = a.open(&a.at("f").unwrap().0, Access::Write).unwrap();
    gate.set(0);
    assert_eq!(file.copy_from(300 * KIB, &file, 128 * KIB, 40 * KIB).unwrap_err().errno(), Errno::NOSPC);
    gate.set(2);
    assert_eq!(file.copy_from(300 * KIB, &file, 128 * KIB, 40 * KIB).unwrap(), 32 * KIB);
    let mut bytes = vec![0; 41 << 10];
    assert_eq!(file.read_at(&mut bytes, 300 * KIB).unwrap(), 41 << 10);
    assert!(bytes[..32 << 10].iter().all(|b| *b == b'2') && bytes[32 << 10..].iter().all(|b| *b == 0));
}
