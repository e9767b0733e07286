//! Attributes, which the prototype's commit lost: it copied bytes only.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::time::{Duration, UNIX_EPOCH};

use branchfs_tests::{Times, Workspace, skip, tree};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

fn workspace() -> Option<Workspace> {
    Workspace::over(|base| {
        fs::create_dir(base.join("dir")).unwrap();
        fs::write(base.join("file"), "base\n").unwrap();
        fs::write(base.join("dir/file"), "base\n").unwrap();
    })
}

#[test]
fn modes_are_kept_at_commit() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    let set = |name: &str, mode| fs::set_permissions(view.join(name), Permissions::from_mode(mode)).unwrap();
    fs::write(view.join("new"), "").unwrap();
    fs::create_dir(view.join("made")).unwrap();
    let modes = [("file", 0o4751), ("new", 0o600), ("dir", 0o1777), ("made", 0o2750), ("dir/file", 0o444)];
    for (name, mode) in modes {
        set(name, mode);
    }
    workspace.commit("b");
    for (name, mode) in modes {
        let seen = fs::metadata(workspace.base().join(name)).unwrap().mode() & 0o7777;
        assert_eq!(seen, mode, "{name}: {seen:o}");
    }
}

#[test]
fn owners_are_kept_at_commit() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can give files away");
    }
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    symlink("file", view.join("link")).unwrap();
    chown(view.join("file"), Some(12), Some(34)).unwrap();
    chown(view.join("dir"), Some(56), None).unwrap();
    lchown(view.join("link"), Some(78), Some(90)).unwrap();
    workspace.commit("b");
    let owner = |name: &str| {
        let seen = fs::symlink_metadata(workspace.base().join(name)).unwrap();
        (seen.uid(), seen.gid())
    };
    assert_eq!([owner("file"), owner("dir"), owner("link")], [(12, 34), (56, 0), (78, 90)]);
}

#[test]
fn times_are_kept_at_commit() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    fs::write(view.join("dir/new"), "").unwrap();
    let at = |seconds, nanos| UNIX_EPOCH + Duration::new(seconds, nanos);
    let times =
        [("file", at(1, 1)), ("dir/new", at(1_500_000_000, 999_999_999)), ("dir", at(946_684_800, 5))];
    for (name, time) in times {
        let file = File::open(view.join(name)).unwrap();
        file.set_times(FileTimes::new().set_modified(time).set_accessed(at(7, 7))).unwrap();
    }
    workspace.commit("b");
    for (name, time) in times {
        assert_eq!(fs::metadata(workspace.base().join(name)).unwrap().modified().unwrap(), time, "{name}");
    }
}

#[test]
fn extended_attributes_are_kept_at_commit() {
    let mut supported = true;
    let workspace = Workspace::over(|base| {
        fs::write(base.join("file"), "base\n").unwrap();
        fs::create_dir(base.join("dir")).unwrap();
        let set = setxattr(base.join("file"), "user.old", b"base", XattrFlags::empty());
        supported = set != Err(rustix::io::Errno::OPNOTSUPP);
    });
    let Some(workspace) = workspace else { return };
    if !supported {
        return skip("the base's filesystem has no user attributes");
    }
    let view = workspace.branch("b");
    setxattr(view.join("file"), "user.new", b"\0\xff", XattrFlags::empty()).unwrap();
    setxattr(view.join("dir"), "user.dir", b"", XattrFlags::empty()).unwrap();
    fs::write(view.join("made"), "").unwrap();
    setxattr(view.join("made"), "user.made", &[b'x'; 1000], XattrFlags::empty()).unwrap();
    let seen = tree(&view, Times::Compare);
    workspace.commit("b");
    assert_eq!(tree(&workspace.base(), Times::Compare), seen);
    assert!(
        seen[std::path::Path::new("file")].ends_with(r#" user.new="\\x00\\xff" user.old="base""#),
        "{seen:#?}"
    );
}

#[test]
fn links_and_special_files_are_kept_at_commit() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    symlink("no such \n target", view.join("dangling")).unwrap();
    fs::hard_link(view.join("file"), view.join("dir/second")).unwrap();
    mknodat(CWD, view.join("fifo"), FileType::Fifo, Mode::from(0o640), 0).unwrap();
    mknodat(CWD, view.join("socket"), FileType::Socket, Mode::from(0o600), 0).unwrap();
    let seen = tree(&view, Times::Compare);
    workspace.commit("b");
    assert_eq!(tree(&workspace.base(), Times::Compare), seen);
    assert!(fs::metadata(workspace.base().join("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(workspace.base().join("file")).unwrap().nlink(), 2);
}
