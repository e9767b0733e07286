//! Records that no store writes, in journals whose checksums are right: each is named damage, and nothing of it
//! comes to pass. Most of these were panics, or worse, when `fuzz/recover` first wrote them.

use std::path::Path;

use crate::base::stat_fd;
use crate::error::{Error, Result};
use crate::ids::{BRANCH_ID_MAX, BranchId, CommitId, GroupId, GroupKind, LayerId, Name, NodeId, Quota};
use crate::journal::record::{Child, Counters, Decide, DirPlace, Fork, Moved, Origin, Record};
use crate::journal::{Header, write_file};
use crate::node::{Body, Home, HostKey, Inode, Kind, Meta, Slot, Time};
use crate::plan::{Park, Plan, Step};
use crate::store::files::{journal_name, read_format};
use crate::store::{Options, Unrecovered};
use crate::tree::Change;

/// What opening says of a store whose journal holds these records: the id that the next object gets.
fn open(records: &[Record]) -> Result<u32> {
    let outer = tempfile::tempdir().unwrap();
    let base = outer.path().join("base");
    std::fs::create_dir(&base).unwrap();
    std::fs::write(outer.path().join("outside"), "outside").unwrap();
    std::fs::write(base.join("inside"), "inside").unwrap();
    let store = base.join(".branchfs");
    crate::store::init(&base, &store).unwrap();
    std::fs::create_dir(store.join("preimage/1")).unwrap();
    let header = Header { workspace: read_format(&store).unwrap(), first: 1 };
    let dir = crate::store::files::open(&store).unwrap();
    write_file(&crate::disk::Disk::default(), &dir, &journal_name(1), header, records).unwrap();
    let opened = Unrecovered::open(Options { base: base.clone(), store }).unwrap().recover();
    assert_eq!(names(outer.path()), ["base", "outside"]);
    assert_eq!(names(&base), [".branchfs", "inside"]);
    opened.map(|(store, _)| store.shared.base.next_id())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fork(parent: u32, children: &[(u32, &str)], from: u64) -> Record {
    let children = children.iter().zip(from + 1..).map(|((id, name), layer)| Child {
        id: BranchId(*id),
        name: (*name).to_owned(),
        layer: LayerId(layer),
    });
    Record::Fork(Fork {
        parent: BranchId(parent),
        parent_layer: LayerId(from),
        group: GroupId(from),
        kind: GroupKind::Exclusive,
        time: Time::default(),
        quota: Quota::Unlimited,
        children: children.collect(),
    })
}

fn decide(commit: u64, steps: Vec<Step>) -> Record {
    let stat = stat_fd(std::fs::File::open("/").unwrap()).unwrap();
    let print = Home::of(&stat).print(&stat).unwrap();
    Record::Decide(std::sync::Arc::new(Decide {
        commit: CommitId(commit),
        origin: Origin::Branch(BranchId(1)),
        name: "a".to_owned(),
        time: Time::default(),
        stale: Vec::new(),
        park: (NodeId(NodeId::FIRST_ALLOCATED), print),
        displaced: Vec::new(),
        changed: 0,
        bytes: 0,
        note: crate::note::Note::default(),
        plan: Plan { steps, ..Plan::default() },
        part: None,
    }))
}

fn refused(records: &[Record]) {
    match open(records) {
        Err(Error::Corrupt { file, offset, cause }) => {
            assert_eq!(file, "journal.1");
            assert!(offset > 0 && !cause.is_empty(), "{offset} {cause}");
        }
        other => panic!("{records:?}: {other:?}"),
    }
}

#[test]
fn what_a_store_does_write_opens() {
    let ends = |ids: &[u32]| Record::Abort { branches: ids.iter().copied().map(BranchId).collect() };
    open(&[fork(0, &[(1, "a"), (2, "b")], 1), fork(1, &[(3, "c")], 7), ends(&[3, 1]), ends(&[2])]).unwrap();
}

#[test]
fn a_fork_of_numbers_or_names_that_are_taken_or_impossible_is_damage() {
    let first = fork(0, &[(1, "a")], 1);
    for second in [
        fork(9, &[(2, "b")], 7),
        fork(0, &[], 7),
        fork(0, &[(0, "b")], 7),
        fork(0, &[(1, "b")], 7),
        fork(0, &[(2, "a")], 7),
        fork(0, &[(2, "../b")], 7),
        fork(0, &[(2, "b"), (3, "b")], 7),
        fork(0, &[(BRANCH_ID_MAX + 1, "b")], 7),
        fork(0, &[(u32::MAX, "b")], 7),
        fork(0, &[(2, "b")], 1),
        fork(0, &[(2, "b")], u64::MAX - 2),
    ] {
        refused(&[first.clone(), second]);
    }
}

#[test]
fn an_end_of_main_of_nobody_twice_or_before_those_below_is_damage() {
    let forks = [fork(0, &[(1, "a")], 1), fork(1, &[(2, "b")], 7)];
    for ids in [&[0][..], &[9], &[2, 2], &[1], &[1, 2]] {
        let branches: Vec<_> = ids.iter().copied().map(BranchId).collect();
        let (changes, layers, stale) = (None, Vec::new(), branches.clone());
        let merge = Record::Merge { child: BranchId(2), changes, layers, stale, rest: None };
        for end in [Record::Abort { branches }, merge] {
            refused(&[forks[0].clone(), forks[1].clone(), end]);
        }
    }
}

/// Found by `fuzz/recover`: an object of the base got the id of a directory, and showed as that.
#[test]
fn an_id_that_only_a_merge_or_a_directory_speaks_of_is_not_given_again() {
    let stat = stat_fd(std::fs::File::open("/").unwrap()).unwrap();
    let object = Home::of(&stat).print(&stat).unwrap();
    let forks = [fork(0, &[(1, "a")], 1), fork(1, &[(2, "b")], 7)];
    let id = NodeId(NodeId::FIRST_ALLOCATED + 7);
    let meta = Meta {
        mode: 0,
        uid: 0,
        gid: 0,
        nlink: 1,
        rdev: 0,
        atime: Time::default(),
        mtime: None,
        ctime: Time::default(),
        xattrs: Default::default(),
    };
    let inode = Box::new(Inode { meta, origin: None, body: Body::Special(Kind::Fifo) });
    let changes = vec![Change::Put { id, inode }];
    let (changes, layers, stale) = (Some(changes), Vec::new(), Vec::new());
    let merge = Record::Merge { child: BranchId(2), changes, layers, stale, rest: None };
    let dirs = vec![DirPlace { id, slot: Slot { dir: NodeId::ROOT, name: Name::trusted(b"d") }, object }];
    let (branch, changes, copied, lent) = (BranchId(2), Vec::new(), Vec::new(), Vec::new());
    let batch = Record::Batch { branch, changes, dirs, copied, lent };
    for record in [merge, batch] {
        assert!(open(&[forks[0].clone(), forks[1].clone(), record]).unwrap() > id.0);
    }
}

#[test]
fn main_changes_by_commits_into_the_base_alone() {
    let batch = Record::Batch {
        branch: BranchId::MAIN,
        changes: Vec::new(),
        dirs: Vec::new(),
        copied: Vec::new(),
        lent: Vec::new(),
    };
    let merge = |child| {
        let (changes, layers, stale) = (None, Vec::new(), Vec::new());
        Record::Merge { child: BranchId(child), changes, layers, stale, rest: None }
    };
    for change in [batch, merge(0), merge(1)] {
        refused(&[fork(0, &[(1, "a")], 1), change]);
    }
}

#[test]
fn a_decision_out_of_order_or_with_a_path_out_of_the_base_is_damage() {
    let forked = fork(0, &[(1, "a")], 1);
    let attach = |path: &str| {
        let object = HostKey { dev: 0, ino: 0 };
        vec![Step::Attach {
            park: Park { commit: CommitId(1), number: 0 },
            path: path.into(),
            object,
            dir: None,
        }]
    };
    refused(&[forked.clone(), decide(2, Vec::new())]);
    refused(&[forked.clone(), Record::Done { commit: CommitId(1), moved: Moved::default() }]);
    for path in ["../outside", "a/../../outside", "/etc/x", "", "a//b", "./a", ".branchfs/format", "a\0"] {
        refused(&[forked.clone(), decide(1, attach(path))]);
    }
    let deep = "a/".repeat(1 << 20) + "a";
    // Deeper than a stack: the step finds its directory gone and says so.
    open(&[forked.clone(), decide(1, attach(&deep))]).unwrap();
    let done = Record::Done { commit: CommitId(1), moved: Moved::default() };
    open(&[forked, decide(1, Vec::new()), done]).unwrap();
}

#[test]
fn records_of_a_checkpoint_in_a_journal_are_damage() {
    let counters = Record::Counters(Counters {
        next_branch: 1,
        next_layer: 1,
        next_group: 1,
        next_node: NodeId::FIRST_ALLOCATED,
        commits: 0,
        dirs: Vec::new(),
        parks: Vec::new(),
        parked: Vec::new(),
        elsewhere: Vec::new(),
        history: Vec::new(),
        log: Vec::new(),
        lent: Vec::new(),
    });
    refused(&[counters]);
    refused(&[Record::End]);
}
