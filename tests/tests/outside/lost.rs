use std::fs::{self, File};

use branchfs_tests::Stopped;

use crate::views::{seen, wait_until_shown, watched};

/// More than a queue of news holds: fs.fanotify.max_queued_events and its like for inotify.
const MANY: usize = 20_000;

fn nothing_is_stale_after(how: &str) {
    let Some(workspace) = watched(how, |base| {
        fs::create_dir_all(base.join("d/sub")).unwrap();
        fs::create_dir(base.join("busy")).unwrap();
        (0..20).for_each(|n| fs::write(base.join(format!("d/sub/{n}")), "first").unwrap());
    }) else {
        return;
    };
    let (base, branches) = (workspace.base(), ["one", "three"]);
    let before = seen(&base);
    for branch in branches {
        seen(&workspace.view(branch));
        fs::symlink_metadata(workspace.view(branch).join("d/sub/absent")).unwrap_err();
    }
    let open = File::open(workspace.view("one").join("d/sub/3")).unwrap();
    let deaf = Stopped::new(workspace.daemon());
    (0..MANY).for_each(|n| drop(File::create(base.join(format!("busy/{n}"))).unwrap()));
    (0..10).for_each(|n| fs::write(base.join(format!("d/sub/{n}")), "changed meanwhile").unwrap());
    fs::write(base.join("d/sub/absent"), "here").unwrap();
    fs::remove_file(base.join("d/sub/19")).unwrap();
    fs::remove_dir_all(base.join("busy")).unwrap();
    drop(deaf);
    wait_until_shown(&workspace, &branches, before.keys(), "after lost news");
    let mut bytes = String::new();
    std::io::Read::read_to_string(&mut &open, &mut bytes).unwrap();
    assert_eq!(bytes, "changed meanwhile", "through a descriptor, too");
    let log = fs::read_to_string(workspace.store().join("daemon.log")).unwrap();
    assert!(log.contains("everything is looked up again"), "{log}");
}

#[test]
fn nothing_is_stale_after_more_news_than_fanotify_keeps() {
    nothing_is_stale_after("fanotify");
}

#[test]
fn nothing_is_stale_after_more_news_than_inotify_keeps() {
    nothing_is_stale_after("inotify");
}
