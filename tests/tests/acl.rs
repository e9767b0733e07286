//! POSIX ACLs and extended attributes: each script runs in a plain directory and in a branch, and whatever it
//! prints, and what is there afterwards, in the branch and, after the commit, in the base, has to be the same.
//! The plain directory lies on the same filesystem as the base: ext4, or another that knows ACLs.
//!
//! Users are numbers that need no account. A script's `as 1001 touch f` does that as user 1001 with the group
//! 1001 only; `with 1001 50,60 touch f` also has the groups 50 and 60.
#![allow(clippy::unwrap_used)] // also in helpers

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use branchfs_tests::{Workspace, clean_environment, skip};
use rustix::mount::UnmountFlags;

const TOOLS: [&str; 7] = ["setfacl", "getfacl", "setfattr", "getfattr", "setcap", "getcap", "setpriv"];

const PRELUDE: &str = r#"
umask 022
as() { u=$1; shift; setpriv --reuid=$u --regid=$u --clear-groups -- "$@"; }
with() { u=$1 g=$2; shift 2; setpriv --reuid=$u --regid=$u --groups=$g -- "$@"; }
try() { "$@" && echo yes || echo "no: $*"; }
mode() { stat -c '%n %A %u:%g' "$@"; }
exec 2>&1
"#;

const EVERYTHING: &str = r#"
find . -name .branchfs -prune -o -print0 | LC_ALL=C sort -z >/tmp/list.$$
xargs -0 stat -c '%n %A %u:%g' </tmp/list.$$
xargs -0 getfacl -nps </tmp/list.$$
xargs -0 getfattr -hdm- -e hex </tmp/list.$$
rm /tmp/list.$$
"#;

/// The same beginning twice: in a plain directory, and in the base of a workspace with a branch `one`, which is
/// bound to where every user can reach it.
struct Twins {
    workspace: Workspace,
}

impl Twins {
    fn new(setup: &str) -> Option<Twins> {
        if !rustix::process::geteuid().is_root() {
            skip("not root: other users' permissions cannot be tried");
            return None;
        }
        let missing = |tool: &&str| Command::new(tool).arg("--version").output().is_err();
        if let Some(tool) = TOOLS.iter().find(|tool| missing(tool)) {
            skip(&format!("no {tool}"));
            return None;
        }
        let workspace = Workspace::over(|base| {
            let outside = base.parent().unwrap();
            fs::set_permissions(outside, Permissions::from_mode(0o755)).unwrap();
            fs::create_dir(outside.join("plain")).unwrap();
            fs::create_dir(outside.join("view")).unwrap();
            for dir in [base, &outside.join("plain")] {
                let output = shell(dir, outside, &format!("set -e\n{setup}"));
                assert!(output.status.success(), "{output:?}");
            }
        })?;
        let twins = Twins { workspace };
        let view = twins.workspace.branch("one");
        rustix::mount::mount_bind(view, twins.view()).unwrap();
        Some(twins)
    }

    fn plain(&self) -> PathBuf {
        self.workspace.outside().join("plain")
    }

    fn view(&self) -> PathBuf {
        self.workspace.outside().join("view")
    }

    fn run(&self, dir: &Path, script: &str) -> String {
        let output = shell(dir, self.workspace.outside(), script);
        format!("{}{:?}", String::from_utf8_lossy(&output.stdout), output.status.code())
    }

    fn both(&self, script: &str) -> String {
        let plain = self.run(&self.plain(), script);
        assert_same(&self.run(&self.view(), script), &plain, "the branch");
        plain
    }

    /// The commit brings exactly what the plain directory has.
    fn commit(self) {
        self.both(EVERYTHING);
        self.unbind();
        self.workspace.commit("one");
        let base = self.run(&self.workspace.base(), EVERYTHING);
        assert_same(&base, &self.run(&self.plain(), EVERYTHING), "the base");
    }

    fn unbind(&self) {
        rustix::mount::unmount(self.view(), UnmountFlags::DETACH).unwrap();
    }
}

impl Drop for Twins {
    fn drop(&mut self) {
        if branchfs_tests::is_mounted(&self.view()) {
            self.unbind();
        }
    }
}

/// Shows the first difference with what led to it.
fn assert_same(here: &str, plain: &str, place: &str) {
    let same = here.lines().zip(plain.lines()).take_while(|(here, plain)| here == plain).count();
    let around =
        |text: &str| text.lines().skip(same.saturating_sub(6)).take(9).collect::<Vec<_>>().join("\n");
    assert!(here == plain, "--- in {place}\n{}\n--- in a plain directory\n{}", around(here), around(plain));
}

fn shell(dir: &Path, outside: &Path, script: &str) -> Output {
    let mut command = Command::new("sh");
    clean_environment(&mut command, &outside.join("home"));
    command.args(["-c", &format!("{PRELUDE}{script}")]).current_dir(dir).output().unwrap()
}

/// Runs both, compares what is printed, commits. What was printed.
fn as_on_the_plain_filesystem(setup: &str, steps: &str) -> String {
    let Some(twins) = Twins::new(setup) else { return String::new() };
    let printed = twins.both(steps);
    twins.commit();
    printed
}

#[test]
fn permissions_are_those_of_the_acl() {
    let setup = "
        echo secret >f; chmod 640 f
        mkdir d; chmod 750 d; echo inside >d/g; chmod 644 d/g
        echo based >b; chmod 600 b; setfacl -m u:1001:r--,g:50:-w- b
    ";
    let printed = as_on_the_plain_filesystem(
        setup,
        "
        try as 1001 cat b; try as 1002 cat b; try with 1002 50 sh -c 'echo more >>b'; try with 1002 50 cat b
        try as 1001 cat f; setfacl -m u:1001:r-- f; try as 1001 cat f; try as 1002 cat f
        try as 1001 sh -c 'echo x >>f'; setfacl -m u:1001:rw- f; try as 1001 sh -c 'echo x >>f'
        chmod g-w f; try as 1001 sh -c 'echo y >>f'; chmod g+w f; try as 1001 sh -c 'echo y >>f'
        setfacl -m g:50:--- f; try with 1002 50 cat f; setfacl -m g:60:r-- f; try with 1002 50,60 cat f
        setfacl -x u:1001 f; try as 1001 cat f; setfacl -b f; try with 1002 60 cat f; mode f b
        try as 1001 cat d/g; setfacl -m u:1001:--x d; try as 1001 cat d/g; try as 1001 ls d
        try as 1001 touch d/new; setfacl -m u:1001:rwx d; try as 1001 touch d/new; try as 1001 rm d/g
        try as 1001 setfacl -m u:1001:rwx f; try as 1001 chmod 777 d; getfacl -nps f d b
        ",
    );
    assert!(printed.is_empty() || printed.contains("yes") && printed.contains("no: as 1001 cat f"));
}

#[test]
fn new_objects_inherit_the_default_acl_and_ignore_the_umask() {
    let setup = "
        mkdir base; setfacl -d -m u::rwx,u:1001:rwx,g::r-x,o::--- base
        mkdir minimal; setfacl -d -m u::rwx,g::rwx,o::r-x minimal
        mkdir plain
    ";
    as_on_the_plain_filesystem(
        setup,
        "
        mkdir made; setfacl -d -m u:1001:rwx,g:50:r-x made
        for d in base minimal plain made; do for umask in 000 022 077 027; do
            (umask $umask; cd $d; mkdir d$umask; mkdir d$umask/deeper; echo >f$umask; mkfifo p$umask; mknod n$umask c 1 3
             ln -s f$umask l$umask; mkdir -m 700 m$umask; mkdir -m 2775 s$umask; touch d$umask/deeper/leaf)
            mode $d/*$umask; getfacl -nps $d/*$umask $d/*/deeper $d/*/deeper/leaf
        done; done
        ln base/f022 plain/linked; mv base/f000 plain; mv plain/f000 minimal; getfacl -nps plain/* minimal/*
        setfacl -k base; (umask 077; touch base/later; mkdir base/laterdir); getfacl -nps base/later*
        ",
    );
}

#[test]
fn a_chmod_rewrites_the_mask_and_an_acl_rewrites_the_mode() {
    as_on_the_plain_filesystem(
        "touch b; setfacl -m u:1001:rwx,g:50:rw- b; mkdir d; setfacl -m u:1001:r-x d; touch minimal",
        "
        touch f; setfacl -m u:1001:rw- f
        for o in f b d; do for m in 600 666 751 4711 2070 0; do chmod $m $o; mode $o; getfacl -nps $o; done; done
        setfacl -m m::r-- f; mode f; setfacl -m g::rwx f; mode f; setfacl -n -m u:1002:rwx f; mode f
        setfacl --set u::r--,g::-w-,o::--x minimal; mode minimal; getfattr -dm- minimal
        setfacl --set u::rw-,g::r--,m::rwx,o::--- minimal; mode minimal; getfattr -dm- -e hex minimal
        setfacl -b minimal; mode minimal; getfattr -dm- minimal
        setfattr -x system.posix_acl_access b; mode b; getfattr -dm- b
        setfattr -x system.posix_acl_access b; echo $?
        setfattr -x system.posix_acl_default d; echo $?
        ",
    );
}

#[test]
fn the_kernel_forgets_mode_and_acl_at_once() {
    as_on_the_plain_filesystem(
        "touch b; chmod 600 b; mkdir d; chmod 700 d; touch d/f",
        "
        for n in 1 2 3 4 5 6 7 8 9 10; do for o in b d; do
            setfacl -m u:1001:r-x $o; mode $o; as 1001 test -r $o; echo $?
            chmod 700 $o; as 1001 test -r $o; echo $?; mode $o
            setfacl -m m::rwx $o; as 1001 test -r $o; echo $?; mode $o
            setfacl -b $o; as 1001 test -r $o; echo $?; mode $o
        done; done
        as 1001 cat b; setfattr -n system.posix_acl_access -v 0x0200000001000600ffffffff04000400ffffffff20000400ffffffff b
        mode b; as 1001 cat b; echo $?
        ",
    );
}

#[test]
fn what_is_no_acl_is_refused_as_on_the_plain_filesystem() {
    let minimal = "0x0200000001000600ffffffff04000400ffffffff20000400ffffffff";
    let set = |name: &str, value: &str, on: &str| {
        format!(
            "setfattr -h -n system.posix_acl_{name} -v {value} {on}; echo $?; mode {on}; getfattr -hdm- -e hex {on}\n"
        )
    };
    let mut steps = "touch f; mkdir d; ln -s f l; mkfifo p; mknod n c 1 3\n".to_owned();
    for on in ["f", "d", "l", "p", "n"] {
        steps += &set("access", minimal, on);
        steps += &set("default", minimal, on);
        steps += &set("default", "0x02000000", on);
        steps += &set("access", "0x02000000", on);
    }
    for value in [
        "0x",
        "0x020000",
        "0x01000000",
        "0x0200000001000600ffffffff",
        "0x0200000001000600ffffffff04000400ffffff",
        // out of order; doubled; named without a mask; a permission too many; nobody named
        "0x0200000004000400ffffffff01000600ffffffff20000400ffffffff",
        "0x0200000001000600ffffffff01000600ffffffff04000400ffffffff20000400ffffffff",
        "0x0200000001000600ffffffff02000600e903000004000400ffffffff20000400ffffffff",
        "0x0200000001000e00ffffffff04000400ffffffff20000400ffffffff",
        "0x0200000001000600ffffffff02000600ffffffff04000400ffffffff10000600ffffffff20000400ffffffff",
        // one user named twice
        "0x0200000001000600ffffffff02000600e903000002000400e903000004000400ffffffff10000600ffffffff20000400ffffffff",
    ] {
        steps += &set("access", value, "f");
        steps += &set("default", value, "d");
    }
    as_on_the_plain_filesystem("", &steps);
}

#[test]
fn setgid_goes_when_somebody_outside_the_group_sets_an_acl() {
    as_on_the_plain_filesystem(
        "",
        "
        touch f; chown 1001:50 f; chmod 2775 f; mkdir d; chown 1001:50 d; chmod 2775 d
        setfacl -m u:7:r-x f d; mode f d
        with 1001 50 setfacl -m u:8:r-x f d; mode f d
        with 1001 60 setfacl -d -m u:9:r-x d; mode d
        with 1001 60 setfacl -m u:9:r-x f d; mode f d
        chmod 2775 f d; as 1001 setfacl -b f d; mode f d
        chmod 2775 f d; as 1001 chmod 2755 f d; mode f d
        chown :1001 f d; chmod 6755 f d; as 1001 setfacl -m u:9:r-x f d; mode f d
        setpriv --bounding-set=-fsetid --inh-caps=-fsetid setfacl -m u:10:r-x f d; mode f d
        ",
    );
}

#[test]
fn setgid_directories_and_umasks_go_together() {
    as_on_the_plain_filesystem(
        "mkdir shared; chgrp 50 shared; chmod 2777 shared; mkdir acl; chgrp 50 acl; chmod 2777 acl; setfacl -d -m g:60:rwx acl",
        "
        for d in shared acl; do for umask in 000 002 022 077; do
            with 1001 60 sh -c \"umask $umask; cd $d; mkdir -p d$umask/e; touch d$umask/f g$umask; mkfifo p$umask; ln -s x l$umask\"
            with 1001 50 sh -c \"umask $umask; cd $d; mkdir -p i$umask/e; touch i$umask/f; mkdir -m 2755 j$umask\"
        done; find $d | LC_ALL=C sort | xargs stat -c '%n %A %u:%g'; done
        ",
    );
}

#[test]
fn archives_and_copies_carry_acls_and_attributes_both_ways() {
    let tools = ["tar", "rsync"];
    if let Some(tool) = tools.iter().find(|tool| Command::new(tool).arg("--version").output().is_err()) {
        return skip(&format!("no {tool}"));
    }
    let setup = "
        mkdir -p t/d; echo 1 >t/f; echo 2 >t/d/g; mkfifo t/p; ln -s f t/l; ln t/f t/hard
        setfacl -m u:1001:rw- t/f; setfacl -d -m u:1001:rwx,g:50:--- t/d; setfacl -m g:50:r-x t/d; setfacl -m u:7:r t/p
        setfattr -n user.odd -v 0x00ff0a t/f; setfattr -n user.empty t/d; setfattr -n trusted.t -v t t/d/g
        setfattr -h -n trusted.l -v l t/l; chmod 2750 t/d; chown -h 1001:50 t/d t/d/g t/l; setcap cap_net_raw+ep t/d/g
    ";
    as_on_the_plain_filesystem(
        setup,
        "
        cp -a t copy
        tar --acls --xattrs --xattrs-include='*' -cf archive.tar t && mkdir tar && tar --acls --xattrs --xattrs-include='*' -xf archive.tar -C tar
        rm archive.tar
        rsync -aHAX t/ synced/
        rsync -aHAX --checksum --itemize-changes --dry-run t/ synced/
        mkdir inherits; setfacl -d -m u:1002:rwx inherits
        cp -a t inherits/; cp -r t inherits/again; rsync -aHAX t inherits/synced; install -m 640 t/f inherits/installed
        rm -r t/d; mv copy/d t/; cp --preserve=mode t/f t/g; getfacl -nps t/g
        ",
    );
}

#[test]
fn extended_attributes_have_the_limits_and_namespaces_of_the_plain_filesystem() {
    as_on_the_plain_filesystem(
        "touch b; setfattr -n user.base -v 1 b; setfattr -n trusted.base -v 1 b",
        "
        touch f; mkdir d; ln -s f l; mkfifo p; mknod n c 1 3
        for o in f d l p n; do for name in user.a trusted.a security.a system.a btrfs.a a user. user system.posix_acl user.; do
            setfattr -h -n $name -v 1 $o; echo $?; getfattr -h -n $name $o; echo $?; setfattr -h -x $name $o; echo $?
        done; done
        for o in f b; do
            as 1001 setfattr -n user.x -v 1 $o; chmod 666 $o; as 1001 setfattr -n user.x -v 1 $o; as 1001 getfattr -n user.x $o
            as 1001 setfattr -n trusted.x -v 1 $o; as 1001 getfattr -n trusted.base $o; as 1001 setfattr -n security.x -v 1 $o
            as 1001 getfattr -dm- $o; getfattr -dm- $o; chmod 600 $o; as 1001 getfattr -n user.x $o; as 1001 getfattr -dm- $o
        done
        mkdir t; chmod 1777 t; as 1001 setfattr -n user.x -v 1 t; chown 1001 t; as 1001 setfattr -n user.x -v 1 t; echo $?
        setfattr -n user.empty f; getfattr -n user.empty f; setfattr -n user.$(printf '\\377\\n x') -v odd f; getfattr -dm- -e hex f
        long=$(printf %0250d 0); setfattr -n user.$long -v 1 f; echo $?; setfattr -n user.${long}123456 -v 1 f; echo $?
        setfattr -n user.large -v $(printf %03000d 0) f; getfattr -n user.large f | md5sum
        setfattr -x user.nothing f; echo $?; getfattr -n user.nothing f; echo $?
        setfattr -x user.base b; setfattr -x trusted.base b; getfattr -dm- b
        ",
    );
}

#[test]
fn capabilities_and_set_id_bits_go_with_a_write_as_on_the_plain_filesystem() {
    let write = "printf x | dd of=$o conv=notrunc status=none";
    let ways = [
        (write, "written"),
        ("truncate -s 1 $o", "cut"),
        (": >$o", "emptied"),
        ("chown 1002:60 $o", "given away"),
        ("fallocate -l 10 $o", "allocated"),
        ("chmod 6775 $o", "set again"),
        ("setfacl -m u:5:r $o", "given an ACL"),
        ("touch $o", "touched"),
        ("ln $o $o.link", "linked"),
    ];
    let setup = "for o in base1 base2 base3 base4 base5 base6 base7 base8 base9; do echo content >$o; chmod 777 $o; setcap cap_net_raw+ep $o; done";
    let mut steps = "for o in new1 new2 new3 new4 new5 new6 new7 new8 new9; do echo content >$o; chmod 777 $o; setcap cap_net_raw+ep $o; done; getcap *\n".to_owned();
    for (n, (way, what)) in ways.iter().enumerate() {
        for o in [format!("base{}", n + 1), format!("new{}", n + 1)] {
            steps += &format!("o={o}; export o; echo {o} {what}; {way}; echo $?; mode $o; getcap $o\n");
            for mode in ["6777", "6775", "4767"] {
                steps += &format!(
                    "chmod {mode} $o; setcap cap_net_raw+ep $o; with 1001 60,1002 sh -c '{way}'; echo $?; mode $o; getcap $o\n"
                );
            }
        }
    }
    as_on_the_plain_filesystem(setup, &steps);
}
