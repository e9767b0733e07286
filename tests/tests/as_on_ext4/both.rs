//! One plain directory and the branches that must not be told from it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use branch_proto::GroupKind;
use branchfs_tests::{Workspace, skip};

use crate::play::{Play, Side};

/// Differences shown of one branch: the first says most.
const SHOWN_MAX: usize = 30;
const EXT4: u64 = 0xef53;
/// The directory, in the plain one and in every branch, that a test has for itself.
const STAGE: &str = "stage";
/// How the content of a branch can have come to be. Each is a branch of this name.
const BRANCHES: [&str; 4] = [UNTOUCHED, ADOPTED, OWN, NESTED];
/// All of it is the base's; the branch has not touched anything.
const UNTOUCHED: &str = "untouched";
/// Every object has a node in the branch; the bytes of files are the base's.
const ADOPTED: &str = "adopted";
/// Everything was made in the branch.
const OWN: &str = "own";
/// Everything was made in a branch three forks above, so the bytes lie in an older layer.
const NESTED: &str = "nested";

/// A workspace and a plain ext4 directory, both holding what `fill` makes.
pub(crate) struct Both {
    pub(crate) workspace: Workspace,
    fill: fn(&Path),
}

/// Runs `play` on a plain directory and in every kind of branch, each filled by `fill`, and compares the logs.
pub(crate) fn same(fill: fn(&Path), play: impl Fn(&Play)) {
    let Some(both) = Both::over(fill) else { return };
    both.compare(play);
}

impl Both {
    /// `None`, with a printed reason, where there is nothing to mount with or no ext4 to compare with.
    pub(crate) fn over(fill: fn(&Path)) -> Option<Both> {
        let workspace = Workspace::over(|base| fill(&stage(base)))?;
        let kind = rustix::fs::statfs(workspace.outside()).unwrap().f_type;
        if u64::try_from(kind) != Ok(EXT4) {
            skip("the directory for temporary files is not on ext4");
            return None;
        }
        Some(Both { workspace, fill })
    }

    pub(crate) fn compare(&self, play: impl Fn(&Play)) {
        self.compare_with(&BRANCHES, play);
    }

    /// With these kinds of branches only.
    pub(crate) fn compare_with(&self, kinds: &[&str], play: impl Fn(&Play)) {
        let plain = stage(&self.workspace.outside().join("plain"));
        (self.fill)(&plain);
        let expected = run(&plain, Side::Ext4, &play);
        let mut differences = String::new();
        for name in kinds {
            let seen = run(&self.branch(name), Side::Branch, &play);
            if seen != expected {
                differences += &format!("--- {name}\n{}", difference(&expected, &seen));
            }
        }
        assert!(differences.is_empty(), "(- ext4, + branch)\n{differences}");
    }

    /// The stage in a new branch of that kind.
    fn branch(&self, kind: &str) -> PathBuf {
        let (names, parent): (&[&str], _) = match kind {
            NESTED => (&["one", "two", NESTED], "one"),
            _ => (&[kind], kind),
        };
        self.workspace.fork(&names[..1], "main", GroupKind::Independent);
        let at = self.workspace.view(parent).join(STAGE);
        match kind {
            ADOPTED => touch_all(&at),
            OWN | NESTED => {
                fs::remove_dir_all(&at).unwrap();
                (self.fill)(&stage(at.parent().unwrap()));
            }
            _ => {}
        }
        for pair in names.windows(2) {
            self.workspace.fork(&pair[1..], pair[0], GroupKind::Independent);
        }
        self.workspace.view(names[names.len() - 1]).join(STAGE)
    }
}

fn stage(above: &Path) -> PathBuf {
    let stage = above.join(STAGE);
    fs::create_dir_all(&stage).unwrap();
    fs::set_permissions(&stage, Permissions::from_mode(0o755)).unwrap();
    stage
}

fn run(root: &Path, side: Side, play: &impl Fn(&Play)) -> Vec<String> {
    let scene = Play::at_root(root, side);
    play(&scene);
    scene.into_log()
}

/// Setting the mode an object has gives it a node and changes nothing else but its ctime.
fn touch_all(path: &Path) {
    let seen = fs::symlink_metadata(path).unwrap();
    if seen.is_symlink() {
        return;
    }
    fs::set_permissions(path, seen.permissions()).unwrap();
    if seen.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| touch_all(&entry.unwrap().path()));
    }
}

fn difference(expected: &[String], seen: &[String]) -> String {
    let mut text = String::new();
    let lines = (0..expected.len().max(seen.len())).filter(|n| expected.get(*n) != seen.get(*n));
    for n in lines.take(SHOWN_MAX) {
        let line = |mark, what: Option<&String>| what.map_or(String::new(), |w| format!("{mark} {n}: {w}\n"));
        text += &line('-', expected.get(n));
        text += &line('+', seen.get(n));
    }
    text
}
