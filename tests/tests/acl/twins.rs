//! Two beginnings that are the same, and the comparison of what becomes of them.

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
pub(crate) struct Twins {
    pub(crate) workspace: Workspace,
}

impl Twins {
    pub(crate) fn new(setup: &str) -> Option<Twins> {
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

    pub(crate) fn plain(&self) -> PathBuf {
        self.workspace.outside().join("plain")
    }

    pub(crate) fn view(&self) -> PathBuf {
        self.workspace.outside().join("view")
    }

    pub(crate) fn run(&self, dir: &Path, script: &str) -> String {
        let output = shell(dir, self.workspace.outside(), script);
        format!("{}{:?}", String::from_utf8_lossy(&output.stdout), output.status.code())
    }

    pub(crate) fn both(&self, script: &str) -> String {
        let plain = self.run(&self.plain(), script);
        assert_same(&self.run(&self.view(), script), &plain, "the branch");
        plain
    }

    /// The commit brings exactly what the plain directory has.
    pub(crate) fn commit(self) {
        self.both(EVERYTHING);
        self.unbind();
        self.workspace.commit("one");
        let base = self.run(&self.workspace.base(), EVERYTHING);
        assert_same(&base, &self.run(&self.plain(), EVERYTHING), "the base");
    }

    pub(crate) fn unbind(&self) {
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
pub(crate) fn assert_same(here: &str, plain: &str, place: &str) {
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
pub(crate) fn as_on_the_plain_filesystem(setup: &str, steps: &str) -> String {
    let Some(twins) = Twins::new(setup) else { return String::new() };
    let printed = twins.both(steps);
    twins.commit();
    printed
}
