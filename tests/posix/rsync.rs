//! rsync as the judge of equality: with checksums, links, ACLs, attributes and holes it finds nothing to do.

use std::path::Path;

use branchfs_tests::{Times, tree};

use crate::ground::{Ground, Place, differences};
use crate::hostile::hostile_tree;
use crate::tools::{have, version};

const COMPARE: &str =
    "rsync -aHAXS --checksum --dry-run --itemize-changes --delete --numeric-ids --exclude=/.branchfs";

fn fill(base: &Path) {
    std::fs::create_dir(base.join("hostile")).unwrap();
    hostile_tree(&base.join("hostile"));
}

#[test]
fn rsync_finds_no_difference_between_a_view_and_its_base() {
    let Some(ground) = Ground::new(&["rsync"], fill) else { return };
    let base = ground.base().dir;
    for place in ground.branches() {
        assert_same(&place.dir, &base);
        assert_same(&base, &place.dir);
        let entries = tree(&place.dir, Times::Compare).len();
        println!("posix: {}: {}: {entries} entries as in the base, both ways", rsync(), place.name);
    }
}

#[test]
fn rsync_into_a_branch_out_again_and_through_commits_loses_nothing() {
    let Some(ground) = Ground::new(&["rsync"], fill) else { return };
    let plain = ground.plain().dir.clone();
    let copy = |from: &Path, to: &Path| {
        let script = format!("rsync -aHAXS --numeric-ids {:?}/ {:?}/", from.display(), to.display());
        ground.plain().ok(&script);
    };
    for place in ground.branches() {
        copy(&plain.join("hostile"), &place.dir.join("copy"));
        copy(&place.dir.join("copy"), &ground.workspace().outside().join(&place.name));
        for copied in [place.dir.join("copy"), ground.workspace().outside().join(&place.name)] {
            assert_same(&copied, &plain.join("hostile"));
            let (here, there) = (tree(&copied, Times::Compare), tree(&plain.join("hostile"), Times::Compare));
            assert_eq!(differences(&here, &there), [], "{}", copied.display());
        }
    }
    let view = ground.branches().last().unwrap().dir.clone();
    let before = ground.workspace().outside().join("before the commits");
    copy(&view, &before);
    ground.commit_the_deepest();
    assert_same(&ground.base().dir, &before);
    let (base, before) = (tree(&ground.base().dir, Times::Compare), tree(&before, Times::Compare));
    assert_eq!(differences(&base, &before), []);
    println!("posix: {}: {} entries through ten commits into the base", rsync(), base.len());
}

fn assert_same(one: &Path, other: &Path) {
    let place = Place::new("the one", one);
    let script = format!("{COMPARE} {:?}/ {:?}/", one.display(), other.display());
    let said = place.ok(&script);
    assert_eq!(said, "", "{} and {} differ", one.display(), other.display());
}

fn rsync() -> String {
    assert!(have(&["rsync"]));
    version("rsync").split("  protocol").next().unwrap().to_owned()
}
