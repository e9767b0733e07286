//! The essential flow without any privilege. CI runs as root, and root's way to mount, to enter namespaces and
//! to keep owners is another one; here a test that runs as root becomes nobody first. As an ordinary user all
//! other tests cover this.
#![allow(clippy::unwrap_used)] // also in helpers

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use branchfs_tests::{NOBODY, Ordinary, binary, clean_environment, is_mounted, skip};

const SOMEBODY_ELSE: u32 = 65533;

fn owner(path: &Path) -> (u32, u32, u32) {
    let seen = fs::symlink_metadata(path).unwrap();
    (seen.uid(), seen.gid(), seen.mode() & 0o7777)
}

#[test]
fn an_ordinary_user_creates_writes_diffs_and_commits() {
    let Some(user) = Ordinary::new() else { return };
    user.ok("branchfs create a b");
    assert_eq!(
        user.ok("id -u; cd \"$(branchfs path a)\"; pwd; ls; cat file"),
        format!("{NOBODY}\n{}\nfile\nbase\n", user.mountpoint().join("a").display())
    );
    user.ok("cd \"$(branchfs path a)\"; echo by a >file; mkdir -m 2750 dir; echo new >dir/new; ln -s new dir/link");
    assert_eq!(user.ok("cat file; cat \"$(branchfs path b)/file\""), "base\nbase\n");
    assert_eq!(user.ok("branchfs diff --name-status a"), "A\tdir/link\nA\tdir/new\nM\tfile\n");
    let committed = user.ok("branchfs commit a");
    assert!(committed.contains("stale now: b") && !committed.contains("warning"), "{committed}");
    assert_eq!(user.ok("cat file dir/new; readlink dir/link"), "by a\nnew\nnew\n");
    assert_eq!(owner(&user.base().join("file")), (NOBODY, NOBODY, 0o640));
    assert_eq!(owner(&user.base().join("dir")), (NOBODY, NOBODY, 0o2750));
    assert_eq!(user.code("branchfs commit b"), 5);
    assert_eq!(user.ok("branchfs log").lines().count(), 1);
}

/// Without any privilege the base is watched, too.
#[test]
fn an_ordinary_user_sees_edits_of_the_base_by_either_watch() {
    let Some(user) = Ordinary::new() else { return };
    for how in ["fanotify", "inotify"] {
        user.ok(&format!("branchfs stop; export BRANCHFS_WATCH={how}; branchfs status | grep -q 'by {how}'"));
        user.ok("mkdir -p d/sub; echo one >d/f; echo one >d/g; rm -rf d/absent; branchfs create a");
        // A look, an edit, and the same look until it shows the edit: far sooner than it would be asked for by itself.
        let seen = |look: &str, edit: &str| {
            let script = format!(
                "cd \"$(branchfs path a)\"; before=$({look}); (cd \"$OLDPWD\"; {edit}); after=$(cd \"$OLDPWD\"; {look})
                 [ \"$before\" != \"$after\" ]; export after; timeout 30 sh -c 'until [ \"$({look})\" = \"$after\" ]; do :; done'"
            );
            user.ok(&script);
        };
        seen("cat d/f; stat -c %s d/f", "echo longer >d/f");
        seen("cat d/f", "echo replaced >d/f.new; mv d/f.new d/f");
        seen("stat -c %a d/f", "chmod 600 d/f");
        seen("stat -c %a d", "chmod 700 d");
        seen("cat d/absent 2>&1 || true", "echo here >d/absent");
        seen("ls d/g 2>&1 || true", "rm d/g");
        seen("ls d/sub d/moved 2>&1 || true", "mv d/sub d/moved");
        user.ok("branchfs abort a; rm -r d");
    }
}

/// Who forbids it cannot be looked at by others of the same user, and may have anything mapped.
#[test]
fn what_a_process_that_cannot_be_looked_at_stored_to_a_map_is_in_the_fork() {
    let Some(user) = Ordinary::new() else { return };
    let python = "/usr/bin/python3";
    if !Path::new(python).exists() {
        return skip("no python3");
    }
    let program = "import ctypes, mmap, sys
assert ctypes.CDLL(None).prctl(4, 0) == 0, 'PR_SET_DUMPABLE'
with open('file', 'r+b') as file:
    stored = mmap.mmap(file.fileno(), 0)
stored[:4] = b'MAP!'
print('stored', flush=True)
sys.stdin.read()";
    let script = format!(
        "branchfs create a; cd \"$(branchfs path a)\"; mkfifo ~/go ~/said
         {python} -c \"$PROGRAM\" <~/go >~/said & exec 3>~/go; read word <~/said; [ \"$word\" = stored ]
         ! cat /proc/$!/maps >/dev/null 2>&1
         cd \"$OLDPWD\"; branchfs create -p a b; cat \"$(branchfs path b)/file\"; exec 3>&-; wait $!"
    );
    let seen = user.ok(&format!("PROGRAM='{}'; {script}", program.replace('\'', "'\\''")));
    assert!(seen.ends_with("MAP!\n"), "{seen}");
}

/// The daemon finds out when it is to read, not when it is opened: the kernel opens by the mode in the branch.
#[test]
fn what_the_daemon_may_not_read_cannot_be_read_whatever_its_mode_in_the_branch() {
    let Some(user) = Ordinary::new() else { return };
    user.ok(
        "echo secret >closed; chmod 0 closed; branchfs create a; cd \"$(branchfs path a)\"; chmod 600 closed",
    );
    let read = user.shell(NOBODY, "cd \"$(branchfs path a)\"; cat closed");
    let said = String::from_utf8_lossy(&read.stderr).into_owned();
    assert!(!read.status.success() && read.stdout.is_empty(), "{said}");
    assert!(said.contains("Permission denied"), "{said}");
    user.ok("cd \"$(branchfs path a)\"; mv closed opened");
}

/// Mounted by the helper, served without any capability.
#[test]
fn an_ordinary_users_acls_are_inherited_and_committed() {
    let Some(user) = Ordinary::new() else { return };
    if Command::new("setfacl").arg("--version").output().is_err() {
        return skip("no setfacl");
    }
    let steps =
        "umask 077; mkdir d; setfacl -d -m u:5:rwx,g::r-x d; mkdir d/e; touch d/f; setfacl -m u:6:r file
                 chmod g-r file; touch plain; setfattr -n user.k -v v d/f";
    user.ok(&format!("branchfs create a; cd \"$(branchfs path a)\"; {steps}"));
    user.ok(&format!("mkdir ~/twin; cp -p file ~/twin; cd ~/twin; {steps}"));
    let show = "getfacl -nps d d/e d/f file plain; getfattr -dm- d d/e d/f file plain";
    let expected = user.ok(&format!("cd ~/twin; {show}"));
    assert!(expected.contains("user:5:rwx") && expected.contains("mask::---"), "{expected}");
    assert_eq!(user.ok(&format!("cd \"$(branchfs path a)\"; {show}")), expected);
    let committed = user.ok("branchfs commit a");
    assert!(!committed.contains("warning"), "{committed}");
    assert_eq!(user.ok(show), expected, "in the base");
}

/// `sudo branchfs list` started a daemon of root's, and what that made in the store its owner could not open any more.
#[test]
fn root_starts_no_daemon_for_an_ordinary_users_store_and_uses_the_one_that_runs() {
    let Some(user) = Ordinary::new() else { return };
    let root = |args: &[&str]| {
        let mut command = Command::new(binary());
        clean_environment(&mut command, &user.home());
        command.args(args).current_dir(user.base()).output().unwrap()
    };
    let refused = root(&["list"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(7), "{said}");
    assert!(said.contains(&format!("belongs to user {NOBODY}")) && said.contains("sudo -u"), "{said}");
    user.ok("branchfs create a");
    let listed = root(&["list"]);
    assert!(listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("─ a"), "{listed:?}");
    assert!(root(&["stop"]).status.success());
    user.ok("branchfs commit a; branchfs doctor");
    chown(user.base().join(".branchfs/boot"), Some(0), Some(0)).unwrap();
    let doctor = user.shell(NOBODY, "branchfs doctor");
    let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(!doctor.status.success() && found.contains("boot belongs to user 0"), "{found}");
}

#[test]
fn an_ordinary_user_runs_and_explores() {
    let Some(user) = Ordinary::new() else { return };
    user.ok("branchfs run -- sh -c 'id -u >who; pwd >where; echo ran >file'");
    let base = user.base();
    assert_eq!(user.ok("cat who where file"), format!("{NOBODY}\n{}\nran\n", base.display()));
    assert_eq!(owner(&base.join("who")), (NOBODY, NOBODY, 0o644));
    assert_eq!(user.code("branchfs run -- sh -c 'echo lost >file; exit 3'"), 3);
    assert_eq!(user.code("branchfs run --timeout 1s -- sleep 1000"), 124);
    user.ok("branchfs explore --cmd 'setsid sleep 1000 & exit 1' --cmd 'sleep 1000' --cmd 'echo won >file'");
    assert_eq!(user.ok("cat file; branchfs --json list | grep -c '\"parent\"' || true"), "won\n0\n");
    assert_eq!(user.code("branchfs explore --cmd 'exit 1' --cmd 'echo no >file; exit 2'"), 8);
    assert_eq!(user.ok("cat file"), "won\n");
}

#[test]
fn an_ordinary_users_branches_survive_a_killed_daemon() {
    let Some(user) = Ordinary::new() else { return };
    user.ok("branchfs create a; echo by a >\"$(branchfs path a)/file\"");
    let status = user.ok("branchfs --json status");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let pid = i32::try_from(status["status"]["pid"].as_i64().unwrap()).unwrap();
    let daemon = branchfs_tests::pidfd(pid);
    user.ok(&format!("kill -9 {pid}"));
    branchfs_tests::wait_dead(daemon);
    assert!(is_mounted(&user.mountpoint()), "a dead mount, which only fusermount3 can remove");
    assert_eq!(
        user.ok("cat \"$(branchfs path a)/file\"; branchfs commit a >/dev/null; cat file"),
        "by a\nby a\n"
    );
}

/// What another owner's file allows in the base, it allows in a branch.
#[test]
fn an_ordinary_user_can_do_in_a_branch_what_the_base_allows_and_no_more() {
    let Some(user) = Ordinary::new() else { return };
    let base = user.base();
    for (name, mode) in [("readable", 0o644), ("secret", 0o600), ("kept", 0o644)] {
        fs::write(base.join(name), "root's\n").unwrap();
        fs::set_permissions(base.join(name), Permissions::from_mode(mode)).unwrap();
    }
    user.ok("branchfs create a");
    let in_branch = |script: &str| user.code(&format!("cd \"$(branchfs path a)\" && {script}"));
    assert_ne!(in_branch("echo x >readable"), 0);
    assert_ne!(in_branch("cat secret"), 0);
    assert_ne!(in_branch("chmod 666 readable"), 0);
    assert_eq!(in_branch("cat readable && rm -f readable && mv kept renamed"), 0);
    user.ok("branchfs commit a");
    assert!(!base.join("readable").exists() && !base.join("kept").exists());
    assert_eq!(owner(&base.join("renamed")), (0, 0, 0o644));
    assert_eq!(fs::read_to_string(base.join("secret")).unwrap(), "root's\n");
}

/// In a user namespace of theirs, users give files to any of the owners they have there. The daemon, outside, may not.
#[test]
fn an_owner_that_only_a_user_namespace_knows_is_kept_in_the_branch_and_reported() {
    let Some(user) = Ordinary::new() else { return };
    user.ok("branchfs create a; echo x >\"$(branchfs path a)/given\"");
    let script =
        "echo ready; read go; cd \"$1\" && chown 5:6 given && chmod 4755 given && stat -c '%u %g %a' given";
    let mut child = Command::new("setpriv");
    child.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    child.args(["unshare", "--user", "sh", "-c", script, "sh"]).arg(user.mountpoint().join("a"));
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut ready = String::new();
    out.read_line(&mut ready).unwrap();
    if ready != "ready\n" {
        skip("no user namespaces");
        child.wait().unwrap();
        return;
    }
    for map in ["uid_map", "gid_map"] {
        let map = format!("/proc/{}/{map}", child.id());
        fs::write(map, format!("0 {NOBODY} 1\n1 200001 100\n")).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut seen = String::new();
    out.read_to_string(&mut seen).unwrap();
    assert!(child.wait().unwrap().success(), "{seen}");
    assert_eq!(seen, "5 6 4755\n", "inside");
    assert_eq!(user.ok("stat -c '%u %g %a' \"$(branchfs path a)/given\""), "200005 200006 4755\n", "outside");
    let committed = user.ok("branchfs commit a 2>&1");
    for what in ["given: owner 200005 could not be set", "given: group 200006", "given: mode 4755"] {
        assert!(committed.contains(what), "{committed}");
    }
    assert_eq!(owner(&user.base().join("given")), (NOBODY, NOBODY, 0o755));
}

/// Overlayfs in a user namespace takes no base that the views are mounted in: the store is elsewhere.
#[test]
fn a_program_on_a_native_view_does_its_work_as_on_the_other() {
    let Some(user) = Ordinary::new() else { return };
    let make = "cd \"$TMPDIR\"; mkdir b; cd b; echo base >file; chmod 640 file; mkdir gone; echo o >other; echo g >gone/g";
    user.ok(&format!("{make}; branchfs init --store \"$TMPDIR/s\""));
    let there = |script: &str| user.ok(&format!("cd \"$TMPDIR/b\"; {script}"));
    let script =
        "echo more >>file; mkdir d; echo x >d/x; ln d/x y; chmod 700 d; ln -s y z; true <>other; rm -r gone";
    there(&format!("branchfs run --view native -b a --keep -- sh -ec '{script}'"));
    assert_eq!(there("branchfs diff --name-status a"), "A\td/x\nM\tfile\nD\tgone/g\nA\ty\nA\tz\n");
    let script = "cat file y z d/x >seen; echo on >>file; rm d/x; mv d e; chmod 600 y; test ! -e gone";
    there(&format!("branchfs run --view native -b a --keep -- sh -ec '{script}'"));
    assert_eq!(there("branchfs diff --name-status a"), "A\te\nM\tfile\nD\tgone/g\nA\tseen\nA\ty\nA\tz\n");
    there("branchfs commit a");
    assert_eq!(
        there("cat file y seen; ls"),
        "base\nmore\non\nx\nbase\nmore\nx\nx\nx\ne\nfile\nother\nseen\ny\nz\n"
    );
    let base = user.tmp().join("b");
    assert_eq!(owner(&base.join("e")), (NOBODY, NOBODY, 0o700));
    assert_eq!(owner(&base.join("file")), (NOBODY, NOBODY, 0o640));
    let said = there("branchfs run --view auto -- touch file 2>&1");
    assert!(said.contains("user namespace"), "{said}");
    there("branchfs umount");
    let refused = user.shell(NOBODY, "branchfs run --view native -- true");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("mounted below the base"), "{refused:?}");
}

#[test]
fn somebody_else_neither_sees_the_views_nor_reaches_the_daemon() {
    let Some(user) = Ordinary::new() else { return };
    user.ok("branchfs create a");
    let other = |script: &str| user.shell(SOMEBODY_ELSE, script);
    assert!(!other("ls .branchfs/mnt/a").status.success());
    assert!(!other("branchfs list").status.success());
    assert!(!other("branchfs abort a").status.success());
    assert!(user.ok("branchfs list").contains('a'));
    assert_eq!(user.ok("cat \"$(branchfs path a)/file\""), "base\n");
}

#[test]
fn the_demo_holds_what_it_claims_for_an_ordinary_user() {
    let Some(user) = Ordinary::new() else { return };
    let played = user.ok("branchfs --json demo");
    let played: serde_json::Value = serde_json::from_str(played.trim()).unwrap();
    let claims = played["claims"].as_array().unwrap();
    assert!(claims.len() >= 3, "{played}");
    assert!(claims.iter().all(|claim| claim["holds"] == true), "{claims:#?}");
}
