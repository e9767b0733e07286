//! ACLs across commits, restarts and siblings, and set from outside.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use branch_proto::GroupKind;
use rustix::mount::UnmountFlags;

use crate::twins::{Twins, assert_same};

/// Users, one branch after another: what a commit changes is true in every view at once.
#[test]
fn a_commit_changes_who_may_do_what_at_once_and_a_restart_nothing() {
    let setup = "echo x >f; chmod 600 f; setfacl -m u:1001:r f; mkdir d; chmod 755 d; touch d/f";
    let Some(twins) = Twins::new(setup) else { return };
    let ws = &twins.workspace;
    let bind = |branch: &str| {
        let place = ws.outside().join(branch);
        fs::create_dir_all(&place).unwrap();
        rustix::mount::mount_bind(ws.view(branch), &place).unwrap();
        place
    };
    let unbind = |place: &Path| rustix::mount::unmount(place, UnmountFlags::DETACH).unwrap();
    let main = bind("main");
    let look = "as 1001 cat f; as 1002 cat f; as 1001 ls d; mode f d; getfacl -nps f d";
    let before = twins.run(&main, look);
    twins.both("setfacl -b f; setfacl -m u:1002:r f; setfacl -m u:1001:--- d; setfacl -d -m u:5:rwx d");
    assert_same(&twins.run(&main, look), &before, "main before the commit");
    twins.unbind();
    unbind(&main);
    ws.kill_daemon();
    assert_eq!(ws.names(), ["main", "one"], "another daemon serves");
    let (main, view) = (bind("main"), bind("one"));
    let after = twins.run(&twins.plain(), look);
    assert_same(&twins.run(&view, look), &after, "the branch after a kill of the daemon");
    assert_same(&twins.run(&main, look), &before, "main after a kill of the daemon");
    unbind(&view);
    ws.commit("one");
    assert_same(&twins.run(&main, look), &after, "main after the commit");
    unbind(&main);
}

#[test]
fn an_acl_set_in_the_base_from_outside_counts_in_a_branch_within_seconds() {
    let Some(twins) = Twins::new("echo secret >f; chmod 600 f; mkdir d; chmod 700 d") else { return };
    let base = twins.workspace.base();
    for (edit, look) in [
        ("setfacl -m u:1001:r f", "as 1001 cat f"),
        ("setfacl -b f", "as 1001 cat f"),
        ("setfacl -m u:1001:rx d", "as 1001 ls d"),
        ("setfacl -b d", "as 1001 ls d"),
    ] {
        let before = twins.run(&twins.view(), look);
        assert_eq!(twins.run(&base, edit), "Some(0)");
        let expected = twins.run(&base, look);
        assert_ne!(expected, before, "{edit}");
        let patience = Instant::now() + Duration::from_secs(20);
        while twins.run(&twins.view(), look) != expected {
            assert!(Instant::now() < patience, "{edit}: not seen");
        }
    }
}

#[test]
fn siblings_that_set_different_acls_of_a_directory_both_win() {
    let Some(twins) = Twins::new("mkdir d e; chmod 750 d e; setfacl -d -m u:1:r d") else { return };
    let ws = &twins.workspace;
    ws.fork(&["left", "right", "late"], "main", GroupKind::Independent);
    let did =
        |branch: &str, steps: &str| assert_eq!(twins.run(&ws.view(branch), steps), "Some(0)", "{branch}");
    did("left", "setfacl -m u:1001:r-x d; touch d/left; setfattr -n user.l -v l d");
    did("right", "setfacl -d -m u:1002:rwx d; touch d/right; chmod 700 e");
    did("late", "chmod 770 d; touch d/late");
    ws.commit("left");
    ws.commit("right");
    let plain = "setfacl -m u:1001:r-x d; setfattr -n user.l -v l d; setfacl -d -m u:1002:rwx d; chmod 700 e";
    assert_eq!(twins.run(&twins.plain(), plain), "Some(0)");
    let show = "getfacl -nps d e; getfattr -dm- d";
    let expected = twins.run(&twins.plain(), show);
    assert_same(&twins.run(&ws.base(), show), &expected, "the base");
    let refused = ws.client().commit("late").unwrap_err().to_string();
    assert!(refused.contains("conflict"), "its mode and the ACL of another: {refused}");
    assert_same(&twins.run(&ws.base(), show), &expected, "the base, as it was");
}
