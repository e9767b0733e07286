//! What is left of readers when their branch or their daemon has ended.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use branch_proto::GroupKind;

use crate::scene::{Reader, full_of, passing, read_alone};

#[test]
fn who_reads_in_a_branch_that_ends_goes_on_with_the_bases_bytes_and_nobody_opens_it_any_more() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let path = workspace.branch("one").join("file");
    let reader = Reader::of(&path);
    workspace.ok(&["abort", "one"]);
    assert_eq!(read_alone(&workspace, &[&reader]), [full_of(b'a')]);
    assert!(fs::read(&path).is_err());
    let stale = rustix::fs::seek(&reader.file, rustix::fs::SeekFrom::Data(0));
    assert_eq!(stale, Err(rustix::io::Errno::STALE), "what is asked of the daemon");
    assert_eq!(fs::read(workspace.base().join("file")).unwrap(), full_of(b'a'));
}

#[test]
fn what_an_ended_branch_froze_is_deleted_and_shown_to_no_other() {
    let Some(workspace) = passing(|_| ()) else { return };
    let parent = workspace.branch("parent");
    fs::write(parent.join("file"), full_of(b'p')).unwrap();
    workspace.fork(&["child"], "parent", GroupKind::Independent);
    let reader = Reader::of(&workspace.view("child").join("file"));
    workspace.ok(&["abort", "--cascade", "parent"]);
    let other = workspace.branch("other");
    (0..20).for_each(|n| fs::write(other.join(n.to_string()), full_of(b'x')).unwrap());
    assert_eq!(reader.bytes(), full_of(b'p'), "these or none, never another branch's");
    workspace.ok(&["gc"]);
    drop(reader);
    (0..20).for_each(|n| assert_eq!(fs::read(other.join(n.to_string())).unwrap(), full_of(b'x')));
}

#[test]
fn a_killed_daemon_leaves_the_base_whole_and_the_next_serves_the_same() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let view = workspace.branch("one");
    let reader = Reader::of(&view.join("file"));
    fs::write(view.join("file"), "the branch's").unwrap();
    let served = Reader::of(&view.join("file"));
    workspace.kill_daemon();
    let mut one = [0];
    // The kernel has the file; whether it still lets us read is its own affair, but these bytes it must be.
    if reader.file.read_at(&mut one, 0).is_ok() {
        assert_eq!(one, *b"a");
    }
    drop((reader, served));
    workspace.ok(&["mount", "--data", "passthrough"]);
    assert_eq!(fs::read(view.join("file")).unwrap(), b"the branch's");
    assert_eq!(fs::read(workspace.base().join("file")).unwrap(), full_of(b'a'));
}

#[test]
fn many_files_are_opened_written_and_forked_at_once() {
    const FILES: usize = 20;
    let Some(workspace) = passing(|base| {
        (0..FILES).for_each(|n| fs::write(base.join(n.to_string()), full_of(b'a')).unwrap());
    }) else {
        return;
    };
    let view = workspace.branch("one");
    let rounds = |letter: u8| {
        let view = view.clone();
        move || {
            for round in 0..20 {
                for n in 0..FILES {
                    let path = view.join(n.to_string());
                    if (round + n) % 5 == usize::from(letter - b'b') {
                        let file = OpenOptions::new().write(true).open(&path).unwrap();
                        file.write_all_at(&full_of(letter), 0).unwrap();
                    }
                    let bytes = Reader::of(&path).bytes();
                    let wrong = bytes.iter().position(|byte| !b"abcd".contains(byte));
                    assert_eq!(wrong.map(|at| (at, bytes[at], bytes.len())), None, "bytes that nobody wrote");
                }
            }
        }
    };
    let threads: Vec<_> = [b'b', b'c', b'd'].map(|letter| std::thread::spawn(rounds(letter))).into();
    for n in 0..5 {
        let name = format!("fork{n}");
        workspace.fork(&[&name], "one", GroupKind::Independent);
        let files = || (0..FILES).map(|n| fs::read(workspace.view(&name).join(n.to_string())).unwrap());
        let first: Vec<_> = files().collect();
        assert!(files().eq(first), "a snapshot");
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    for n in 0..FILES {
        assert_eq!(fs::read(workspace.base().join(n.to_string())).unwrap(), full_of(b'a'));
    }
}
