//! What the model found, each with its story, as short as it could be made.

use branchfs_model::{Call, Driver, Expect, Group, Kind, Mode, Place, Space, Stamp, StoreDriver, replay};

use Call::*;
use Group::*;
use Mode::*;
use Place::*;

fn store(base: &std::path::Path) -> Box<dyn Driver> {
    Box::new(StoreDriver::new(base))
}

/// A copy onto itself was checked for overlap by the length asked for, not by what there is to copy, and before
/// the descriptor was asked whether it may be written to.
#[test]
fn regression_a_copy_is_refused_for_overlap_only_if_bytes_overlap() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Independent },
        Open { slot: 0, place: In(1, "b/a".into()), write: true, truncate: true },
        Write { slot: 0, offset: 0, len: 200, fill: 1 },
        Copy { from: 0, offset: 152, to: 0, to_offset: 300, len: 6694 },
        Open { slot: 4, place: In(1, "b/c".into()), write: false, truncate: false },
        Copy { from: 0, offset: 152, to: 4, to_offset: 75, len: 6694 },
    ];
    replay(&store, 0, &calls);
}

/// A copy of nothing, a write of nothing and a copy refused for overlap copied the file up, and so stamped it.
#[test]
fn regression_what_changes_no_byte_stamps_nothing() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Independent },
        Open { slot: 2, place: In(1, "d/b/a".into()), write: true, truncate: false },
        Copy { from: 2, offset: 145, to: 2, to_offset: 107, len: 4095 },
        Copy { from: 2, offset: 99_000, to: 2, to_offset: 107, len: 4095 },
        Write { slot: 2, offset: 9, len: 0, fill: 1 },
    ];
    replay(&store, 0, &calls);
}

/// Moving an object of the base stamps its change time. Older snapshots showed that.
#[test]
fn regression_a_snapshot_keeps_the_change_times_of_what_a_commit_moves() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Independent },
        Rename { from: In(2, "c".into()), to: In(2, "w/c".into()), mode: Replace },
        Commit { branch: 2 },
    ];
    replay(&store, 1, &calls);
}

/// A branch that only had to hold a directory wrote its times back, over those that a sibling's commit had set.
#[test]
fn regression_a_commit_does_not_turn_back_the_time_of_a_directory_it_only_went_through() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Independent },
        Times {
            place: In(1, "d/w".into()),
            atime: Stamp::At(4_000_000_000, 1),
            mtime: Stamp::At(1, 999_999_999),
        },
        Make { place: In(2, "d/x".into()), kind: Kind::File, mode: 420 },
        Commit { branch: 2 },
        Commit { branch: 1 },
    ];
    replay(&store, 1, &calls);
}

/// Both sides made the same directory of the base their own; the subdirectories of one were not counted.
#[test]
fn regression_a_merged_directory_counts_the_subdirectories_of_both() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Independent },
        Fork { parent: 1, first: 3, count: 2, group: Exclusive },
        Make { place: In(1, "d/b/w".into()), kind: Kind::Dir, mode: 493 },
        Make { place: In(4, "d/b/x".into()), kind: Kind::Dir, mode: 493 },
        Link { from: In(4, "d/b/a".into()), to: In(4, "d/x".into()) },
        Commit { branch: 4 },
    ];
    replay(&store, 3, &calls);
}

/// A child that had forgotten a file took it from under those who had it open in the parent, unlinked there, too.
#[test]
fn regression_an_unlinked_open_file_survives_a_merge() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Independent },
        Open { slot: 5, place: In(1, "a".into()), write: true, truncate: false },
        Unlink { place: In(1, "a".into()) },
        Fork { parent: 1, first: 4, count: 2, group: Independent },
        Unlink { place: In(1, "d/c".into()) },
        Unlink { place: In(4, "d/c".into()) },
        Commit { branch: 4 },
    ];
    replay(&store, 3, &calls);
}

/// readlink(2) of what is no link answered ENOENT for an unchanged root directory.
#[test]
fn regression_the_root_is_no_symbolic_link() {
    let calls = [Fork { parent: 0, first: 1, count: 1, group: Frozen }, ReadLink { place: In(1, "".into()) }];
    replay(&store, 0, &calls);
}

/// One side moved a directory, the other changed something below it: reported as if both had made the name.
#[test]
fn regression_a_move_and_a_change_below_merge() {
    let calls = [
        Fork { parent: 0, first: 8, count: 2, group: Exclusive },
        Fork { parent: 9, first: 10, count: 2, group: Independent },
        Make { place: In(11, "d/b/c".into()), kind: Kind::Fifo, mode: 493 },
        Rename { from: In(9, "c".into()), to: In(9, "d".into()), mode: Exchange },
        Commit { branch: 11 },
    ];
    replay(&store, 6, &calls);
}

/// fallocate(2) that the host cannot do is refused, and what it left is not more than a stamp.
#[test]
fn regression_a_refused_range_operation_changes_no_byte() {
    let calls = [
        Fork { parent: 0, first: 1, count: 1, group: Exclusive },
        Open { slot: 0, place: In(1, "d/a".into()), write: true, truncate: true },
        Fork { parent: 1, first: 2, count: 1, group: Independent },
        Allocate { slot: 0, what: Space::Zero, offset: 136, len: 4097 },
    ];
    replay(&store, 3, &calls);
}

/// Linux checks for a name that is taken before it looks at what is to be moved, and for a directory that would
/// go over one that holds it before it looks at kinds.
#[test]
fn regression_rename_answers_in_linuxs_order() {
    let calls = [
        Fork { parent: 0, first: 1, count: 1, group: Exclusive },
        Rename { from: In(1, "b".into()), to: In(1, "b/d".into()), mode: NoReplace },
        Rename { from: In(1, "b/a".into()), to: In(1, "b".into()), mode: Replace },
        Rename { from: In(1, "b".into()), to: In(1, "b/d".into()), mode: Replace },
        Rename { from: In(1, "b/a".into()), to: In(1, "b/c".into()), mode: Exchange },
        Link { from: In(1, "b".into()), to: In(1, "d".into()) },
    ];
    replay(&store, 0, &calls);
}

/// The last close of an unlinked file was refused while the branch was frozen: the file stayed for good.
#[test]
fn regression_a_frozen_branch_forgets_what_is_no_longer_open() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Independent },
        Open { slot: 3, place: In(1, "d/a".into()), write: true, truncate: false },
        Rename { from: In(1, "c".into()), to: In(1, "d/a".into()), mode: Replace },
        Fork { parent: 1, first: 4, count: 1, group: Frozen },
        Close { slot: 3 },
    ];
    replay(&store, 5, &calls);
}

/// One side moved a directory of the base, the other changed a file below: both had made it their own, and it
/// was compared as if it had been nowhere at the fork.
#[test]
fn regression_a_moved_directory_and_a_change_far_below_merge() {
    let calls = [
        Fork { parent: 0, first: 2, count: 2, group: Independent },
        Fork { parent: 2, first: 4, count: 1, group: Independent },
        SetXattr { place: In(4, "d/b/a".into()), name: "user.b", len: 174, fill: 122, expect: Expect::Any },
        Rename { from: In(2, "d".into()), to: In(2, "w/x".into()), mode: NoReplace },
        Commit { branch: 4 },
    ];
    replay(&store, 6, &calls);
}

/// A rename that had nothing to do made the file the branch's own, and a sibling's change of it a conflict.
#[test]
fn regression_a_rename_of_a_file_to_itself_touches_nothing() {
    let calls = [
        Fork { parent: 0, first: 12, count: 2, group: Exclusive },
        Fork { parent: 12, first: 14, count: 1, group: Exclusive },
        Rename { from: In(12, "b/c".into()), to: In(12, "b/c".into()), mode: Exchange },
        Rename { from: In(12, "b/c".into()), to: In(12, "b/a".into()), mode: Replace },
        Unlink { place: In(14, "b/a".into()) },
        Commit { branch: 14 },
    ];
    replay(&store, 3, &calls);
}

/// One side removed a file of the base, the other moved it: both took the name away, and the file came back.
#[test]
fn regression_a_file_removed_there_and_moved_here_is_a_conflict() {
    let calls = [
        Fork { parent: 0, first: 7, count: 2, group: Exclusive },
        Fork { parent: 7, first: 9, count: 2, group: Exclusive },
        Rename { from: In(9, "d/b/a".into()), to: In(9, "d/x".into()), mode: Replace },
        Unlink { place: In(7, "d/b/a".into()) },
        Commit { branch: 9 },
    ];
    replay(&store, 0, &calls);
}

/// The same, when both commit into the base.
#[test]
fn regression_a_file_removed_from_the_base_and_moved_here_is_a_conflict() {
    let calls = [
        Fork { parent: 0, first: 9, count: 2, group: Independent },
        Open { slot: 3, place: In(10, "d/a".into()), write: true, truncate: false },
        Rename { from: In(10, "d/a".into()), to: In(10, "d/x".into()), mode: Replace },
        Unlink { place: In(9, "d/a".into()) },
        Write { slot: 3, offset: 4097, len: 4414, fill: 58 },
        Commit { branch: 9 },
        Commit { branch: 10 },
    ];
    replay(&store, 0, &calls);
}

/// A file with several names, one in a new directory: the directory was staged with a copy of it, which the
/// link then pushed aside as if somebody had put it there.
#[test]
fn regression_a_new_directory_takes_a_linked_file_once() {
    let calls = [
        Fork { parent: 0, first: 5, count: 1, group: Exclusive },
        Make { place: In(5, "b/w".into()), kind: Kind::Dir, mode: 420 },
        Unlink { place: In(5, "d/c".into()) },
        Make { place: In(5, "d/c".into()), kind: Kind::File, mode: 384 },
        Link { from: In(5, "a".into()), to: In(5, "d/b/b".into()) },
        Rename { from: In(5, "d/b/b".into()), to: In(5, "b/w/d".into()), mode: Replace },
        Truncate { place: In(5, "b/w/d".into()), size: 8192 },
        Rename { from: In(5, "a".into()), to: In(5, "d/c".into()), mode: Exchange },
        Commit { branch: 5 },
    ];
    replay(&store, 0, &calls);
}

/// One side changed and moved a file of the base, the other removed it: the removal was forgotten.
#[test]
fn regression_a_file_moved_there_and_removed_here_is_a_conflict() {
    let calls = [
        Fork { parent: 0, first: 2, count: 2, group: Independent },
        Fork { parent: 3, first: 4, count: 2, group: Independent },
        SetXattr { place: In(3, "d/a".into()), name: "trusted.t", len: 55, fill: 144, expect: Expect::Any },
        Rename { from: In(3, "d/a".into()), to: In(3, "b/b".into()), mode: Replace },
        Unlink { place: In(4, "d/a".into()) },
        Commit { branch: 4 },
    ];
    replay(&store, 0, &calls);
}

/// A sibling's commit had replaced a directory; committing what was changed in it answered ESTALE, for ever,
/// where a conflict was to be reported.
#[test]
fn regression_a_directory_that_a_sibling_replaced_is_a_conflict_and_no_errno() {
    let calls = [
        Fork { parent: 0, first: 1, count: 1, group: Exclusive },
        Rename { from: In(1, "x".into()), to: In(1, "w".into()), mode: Exchange },
        Commit { branch: 1 },
        Fork { parent: 0, first: 5, count: 2, group: Independent },
        Fork { parent: 6, first: 7, count: 1, group: Independent },
        Unlink { place: In(5, "x/c".into()) },
        Rename { from: In(5, "d".into()), to: In(5, "x".into()), mode: Replace },
        Unlink { place: In(7, "x/c".into()) },
        Commit { branch: 7 },
        Commit { branch: 5 },
        Commit { branch: 6 },
    ];
    replay(&store, 3, &calls);
}

/// A FIFO that keeps its place and changes its owner was fsynced, which a FIFO refuses: the commit, decided, could never
/// be finished.
#[test]
fn regression_attributes_of_a_fifo_with_two_names_are_written_back() {
    let calls = [
        Fork { parent: 0, first: 5, count: 1, group: Exclusive },
        Make { place: In(5, "b".into()), kind: Kind::Fifo, mode: 384 },
        Rename { from: In(5, "b".into()), to: In(5, "d".into()), mode: NoReplace },
        Make { place: In(5, "b".into()), kind: Kind::Dir, mode: 420 },
        Commit { branch: 5 },
        Fork { parent: 0, first: 6, count: 2, group: Independent },
        Link { from: In(6, "d".into()), to: In(6, "b/c".into()) },
        Commit { branch: 6 },
        Fork { parent: 0, first: 22, count: 1, group: Independent },
        Chown { place: In(22, "d".into()), uid: Some(0), gid: Some(1) },
        Unlink { place: In(22, "d".into()) },
        Commit { branch: 22 },
    ];
    replay(&store, 7, &calls);
}

/// A child that has changed nothing met a directory that its parent had removed and still had open: the model, not the
/// store, took that for a conflict.
#[test]
fn regression_nothing_changed_meets_nothing_removed() {
    let calls = [
        Fork { parent: 0, first: 7, count: 1, group: Frozen },
        Make { place: In(7, "a".into()), kind: Kind::Dir, mode: 384 },
        Commit { branch: 7 },
        Fork { parent: 0, first: 8, count: 2, group: Exclusive },
        Open { slot: 2, place: In(9, "a".into()), write: false, truncate: false },
        Make { place: In(9, "a/c".into()), kind: Kind::File, mode: 493 },
        Fork { parent: 9, first: 16, count: 2, group: Independent },
        Unlink { place: In(9, "a/c".into()) },
        Rmdir { place: In(9, "a".into()) },
        Commit { branch: 16 },
    ];
    replay(&store, 7, &calls);
}

/// Both sides had made the same directory: ours was dropped for theirs, and the directory around it still counted it.
#[test]
fn regression_a_directory_that_both_made_is_counted_once() {
    let calls = [
        Fork { parent: 0, first: 8, count: 1, group: Independent },
        Fork { parent: 8, first: 14, count: 2, group: Independent },
        Make { place: In(15, "d/x".into()), kind: Kind::Dir, mode: 0o755 },
        Make { place: In(8, "d/x".into()), kind: Kind::Dir, mode: 0o755 },
        Commit { branch: 15 },
    ];
    replay(&store, 4, &calls);
}

/// What an undoing takes from the base lies among the preimages of the commit that it is about, which no older branch
/// needed: they were deleted under one that saw the commit.
#[test]
fn regression_what_an_undoing_took_stays_while_a_branch_sees_it() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Exclusive },
        Open { slot: 1, place: In(1, "b/d/x".into()), write: true, truncate: true },
        Commit { branch: 1 },
        Fork { parent: 0, first: 5, count: 2, group: Independent },
        Undo,
        Fork { parent: 0, first: 13, count: 2, group: Exclusive },
        Commit { branch: 14 },
        Reclaim,
    ];
    replay(&store, 2, &calls);
}

/// One side removed a file of the base that somebody had open there, the other moved it: it came back, as if a choice
/// had said so.
#[test]
fn regression_a_file_moved_here_and_removed_but_open_there_is_a_conflict() {
    let calls = [
        Fork { parent: 0, first: 8, count: 2, group: Independent },
        Fork { parent: 9, first: 10, count: 1, group: Exclusive },
        Rename { from: In(10, "d/b/a".into()), to: In(10, "d/a".into()), mode: Replace },
        Open { slot: 0, place: In(9, "d/b/a".into()), write: false, truncate: false },
        Unlink { place: In(9, "d/b/a".into()) },
        Commit { branch: 10 },
    ];
    replay(&store, 6, &calls);
}

/// One side gave a file another name, the other changed its owner: the model took that for a conflict. Then the number
/// of names came from the wrong side.
#[test]
fn regression_a_name_given_there_and_attributes_set_here_merge() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Independent },
        SetXattr { place: In(2, "d/c".into()), name: "user.b", len: 107, fill: 98, expect: Expect::Any },
        Link { from: In(1, "a".into()), to: In(1, "w/b".into()) },
        Commit { branch: 1 },
        Commit { branch: 2 },
        Fork { parent: 0, first: 3, count: 1, group: Independent },
        Fork { parent: 3, first: 4, count: 2, group: Independent },
        Link { from: In(4, "w/b".into()), to: In(4, "w/d".into()) },
        Chown { place: In(5, "a".into()), uid: Some(1000), gid: Some(1) },
        Commit { branch: 4 },
        Commit { branch: 5 },
    ];
    replay(&store, 1, &calls);
}

/// One side put another empty file under a name, the other set an attribute of the one that was there: the model expected
/// that to be lost.
#[test]
fn regression_an_attribute_of_a_file_that_was_replaced_by_its_equal_is_kept() {
    let set = |branch| SetXattr {
        place: In(branch, "w/b".into()),
        name: "trusted.t",
        len: 115,
        fill: 143,
        expect: Expect::Any,
    };
    let replace =
        |branch| Rename { from: In(branch, "w/c".into()), to: In(branch, "w/b".into()), mode: Replace };
    for (theirs, ours) in [(replace(2), set(8)), (set(2), replace(8))] {
        let calls = [
            Fork { parent: 0, first: 1, count: 2, group: Independent },
            Make { place: In(2, "w/b".into()), kind: Kind::File, mode: 0o644 },
            Fork { parent: 2, first: 8, count: 1, group: Independent },
            ours,
            theirs,
            Commit { branch: 8 },
        ];
        replay(&store, 5, &calls);
    }
}

/// A symbolic link with two names was moved out of a directory that was then removed: it was made anew, and its other
/// name was another link.
#[test]
fn regression_a_symbolic_link_with_two_names_moved_out_of_a_removed_directory_stays_one() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Exclusive },
        Make { place: In(2, "b/b".into()), kind: Kind::Dir, mode: 0o755 },
        Link { from: In(2, "c".into()), to: In(2, "b/b/x".into()) },
        Commit { branch: 2 },
        Fork { parent: 0, first: 6, count: 2, group: Exclusive },
        Rename { from: In(6, "b/b/x".into()), to: In(6, "w/a".into()), mode: Replace },
        Rmdir { place: In(6, "b/b".into()) },
        Commit { branch: 6 },
    ];
    replay(&store, 5, &calls);
}

/// Two equal files changed places on one side, the other set an attribute of one of them: it goes with the file, and the
/// model left it with the name.
#[test]
fn regression_an_attribute_goes_with_a_file_that_changed_places_with_its_equal() {
    let calls = [
        Fork { parent: 0, first: 5, count: 1, group: Independent },
        Make { place: In(5, "w".into()), kind: Kind::File, mode: 0o644 },
        Link { from: In(5, "w".into()), to: In(5, "a".into()) },
        Make { place: In(5, "c".into()), kind: Kind::File, mode: 0o644 },
        Fork { parent: 5, first: 9, count: 2, group: Independent },
        SetXattr { place: In(5, "c".into()), name: "trusted.t", len: 38, fill: 123, expect: Expect::Create },
        Rename { from: In(9, "a".into()), to: In(9, "c".into()), mode: Exchange },
        Commit { branch: 9 },
    ];
    replay(&store, 7, &calls);
}

/// The parent had moved a file over another, and took that back after a child had forked; the child removed the file
/// under its new name. The name meant the other file again, and that passed for a name that neither had.
#[test]
fn regression_what_a_parent_took_back_and_a_child_removed_is_a_conflict() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Exclusive },
        Mark { branch: 2, mark: 1 },
        Rename { from: In(2, "b/x".into()), to: In(2, "w/c".into()), mode: Replace },
        Fork { parent: 2, first: 7, count: 1, group: Independent },
        Restore { branch: 2, mark: 1 },
        Unlink { place: In(7, "w/c".into()) },
        Commit { branch: 7 },
    ];
    replay(&store, 5, &calls);
}

/// The parent took back what it had done to a file that a child then removed: the file, the base's own again, passed for
/// one that the parent had removed, too.
#[test]
fn regression_a_change_that_a_parent_took_back_meets_a_removal() {
    let calls = [
        Fork { parent: 0, first: 5, count: 1, group: Exclusive },
        Mark { branch: 5, mark: 1 },
        SetXattr { place: In(5, "b/a".into()), name: "trusted.t", len: 45, fill: 94, expect: Expect::Create },
        SetXattr { place: In(5, "d/a".into()), name: "trusted.t", len: 45, fill: 94, expect: Expect::Create },
        Fork { parent: 5, first: 6, count: 2, group: Exclusive },
        Unlink { place: In(7, "d/a".into()) },
        Restore { branch: 5, mark: 1 },
        Commit { branch: 7 },
    ];
    replay(&store, 1, &calls);
}

/// The parent changed a directory after the fork and took that back, which nobody can see; what was left of it in the
/// tree was a conflict with the child's removal.
#[test]
fn regression_a_directory_that_a_parent_left_as_it_was_is_removed() {
    let calls = [
        Fork { parent: 0, first: 5, count: 1, group: Exclusive },
        Mark { branch: 5, mark: 2 },
        Fork { parent: 5, first: 6, count: 1, group: Exclusive },
        Rename { from: In(5, "w".into()), to: In(5, "b/d/c".into()), mode: Replace },
        Unlink { place: In(6, "b/d/x".into()) },
        Rmdir { place: In(6, "b/d".into()) },
        Restore { branch: 5, mark: 2 },
        Commit { branch: 6 },
    ];
    replay(&store, 1, &calls);
}

/// A removed directory of the base was told to views as something to be reaped.
#[test]
fn regression_a_directory_that_a_restore_removes_is_no_orphan() {
    let calls = [
        Fork { parent: 0, first: 1, count: 1, group: Independent },
        Mark { branch: 1, mark: 1 },
        Unlink { place: In(1, "b/d/x".into()) },
        Rmdir { place: In(1, "b/d".into()) },
        Mark { branch: 1, mark: 2 },
        Restore { branch: 1, mark: 1 },
        Restore { branch: 1, mark: 2 },
    ];
    replay(&store, 1, &calls);
}

/// A branch set the access time of a directory; what somebody who looked into the base after a sibling's commit left there
/// was later, and the later time counts. The model knew that only where no sibling had committed.
#[test]
fn regression_an_access_time_that_a_branch_set_meets_a_later_one_of_the_base() {
    let calls = [
        Fork { parent: 0, first: 3, count: 1, group: Independent },
        Times {
            place: In(3, "b/d".into()),
            atime: Stamp::At(4000000000, 1),
            mtime: Stamp::At(4000000000, 1),
        },
        Rename { from: In(3, "b/c".into()), to: In(3, "d".into()), mode: Exchange },
        Rename { from: In(3, "b/c/a".into()), to: In(3, "b/d".into()), mode: Exchange },
        Commit { branch: 3 },
        Fork { parent: 0, first: 9, count: 2, group: Independent },
        Rename { from: In(10, "x".into()), to: In(10, "b/c/b/x".into()), mode: NoReplace },
        Times {
            place: In(9, "b/c/a".into()),
            atime: Stamp::At(1700000000, 123456789),
            mtime: Stamp::At(4000000000, 1),
        },
        Commit { branch: 10 },
        Commit { branch: 9 },
    ];
    replay(&store, 1, &calls);
}

/// What was deleted among the preimages was a further name of a file, which stamped its change time: redo took that for an
/// edit, as branches may.
#[test]
fn regression_a_redo_after_a_reclaim_may_take_a_file_of_several_names_for_edited() {
    let calls = [
        Fork { parent: 0, first: 1, count: 2, group: Independent },
        Fork { parent: 1, first: 3, count: 2, group: Exclusive },
        Link { from: In(4, "b/c".into()), to: In(4, "d/b/w".into()) },
        Commit { branch: 4 },
        Commit { branch: 1 },
        Undo,
        Abort { branch: 2, cascade: true },
        Fork { parent: 0, first: 8, count: 1, group: Frozen },
        SetXattr { place: In(8, "b/c".into()), name: "user.a", len: 79, fill: 69, expect: Expect::Any },
        Commit { branch: 8 },
        Undo,
        Reclaim,
        Redo,
    ];
    replay(&store, 3, &calls);
}

/// An undoing took away one name of a file of the base, and a branch that had forked before gave it another, and a mode. In
/// the base each name is on its own; the model took the counts of names for an attribute that both had changed.
#[test]
fn regression_names_of_a_file_that_an_undoing_took_and_a_branch_gave_merge_in_the_base() {
    let calls = [
        Fork { parent: 0, first: 8, count: 1, group: Exclusive },
        Make { place: In(8, "d/b/x".into()), kind: Kind::Dir, mode: 420 },
        Commit { branch: 8 },
        Fork { parent: 0, first: 10, count: 2, group: Frozen },
        Rename { from: In(11, "d".into()), to: In(11, "x".into()), mode: Exchange },
        Commit { branch: 11 },
        Fork { parent: 0, first: 14, count: 2, group: Independent },
        Link { from: In(15, "b/c".into()), to: In(15, "x/b/x/x".into()) },
        Commit { branch: 15 },
        Fork { parent: 0, first: 21, count: 1, group: Exclusive },
        Undo,
        Link { from: In(21, "b/c".into()), to: In(21, "x/b/w".into()) },
        Chmod { place: In(21, "x/b/w".into()), mode: 256 },
        Commit { branch: 21 },
    ];
    replay(&store, 3, &calls);
}
