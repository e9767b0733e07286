//! Where a suite runs: a plain directory, and the same content in branches at depth 1 and at depth 10.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use branch_proto::GroupKind;
use branchfs_tests::{Times, Tree, Workspace, clean_environment, tree_without};

use crate::tools::{have, path};

/// A path, and the lines of [`Tree`] on both sides.
pub(crate) type Difference<'a> = (&'a PathBuf, Option<&'a String>, Option<&'a String>);

/// How many forks below main the branches are.
const DEPTHS: [usize; 2] = [1, 10];
/// The deepest branch has its copies in this many files, at most, of each layer.
const COPIED_PER_LAYER: usize = 20;

/// One directory a suite runs in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// For reports and failures.
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
}

/// A workspace with a branch at each depth, and a plain directory with the same content.
pub(crate) struct Ground {
    workspace: Workspace,
    plain: Place,
    branches: Vec<Place>,
}

impl Ground {
    /// `None`, with a printed reason, where a program is missing or nothing can be mounted.
    pub(crate) fn new(programs: &[&str], fill: impl Fn(&Path)) -> Option<Ground> {
        if !have(programs) {
            return None;
        }
        let workspace = Workspace::over(&fill)?;
        let dir = workspace.outside().join("plain");
        fs::create_dir(&dir).unwrap();
        fill(&dir);
        let plain = Place::new("the plain filesystem", dir);
        let branches = DEPTHS.map(|depth| branch_at(&workspace, depth)).to_vec();
        Some(Ground { workspace, plain, branches })
    }

    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// The base directory.
    pub(crate) fn base(&self) -> Place {
        Place::new("the base", self.workspace.base())
    }

    /// The plain directory.
    pub(crate) fn plain(&self) -> &Place {
        &self.plain
    }

    /// The branches.
    pub(crate) fn branches(&self) -> &[Place] {
        &self.branches
    }

    /// The plain directory, then the branches.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.plain).chain(&self.branches)
    }

    /// Runs a script in all places; its output and exit code must be the same, and what it leaves but for the
    /// paths in `but`. Gives back the output.
    pub(crate) fn everywhere(&self, script: &str, but: &[&str]) -> String {
        let expected = outcome(&self.plain, script);
        let left = tree_without(&self.plain.dir, Times::Ignore, but);
        for place in &self.branches {
            assert_eq!(outcome(place, script), expected, "{} (left) differs: {script}", place.name);
            let here = tree_without(&place.dir, Times::Ignore, but);
            let differ = differences(&here, &left);
            assert!(differ.is_empty(), "{} (left) after: {script}: {differ:#?}", place.name);
        }
        assert_eq!(expected.0, Some(0), "{script}: {}", expected.1);
        expected.1
    }

    /// Commits the deepest branch, its parent, and so on into the base.
    pub(crate) fn commit_the_deepest(&self) {
        for level in (1..=DEPTHS[1]).rev() {
            self.workspace.commit(&branch_name(DEPTHS[1], level));
        }
    }
}

impl Place {
    /// A directory, and what to call it.
    pub(crate) fn new(name: impl Into<String>, dir: impl Into<PathBuf>) -> Place {
        Place { name: name.into(), dir: dir.into() }
    }

    /// A shell in the directory, isolated from the user's environment.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = self.command("sh");
        command.args(["-c", script]);
        command
    }

    /// A program in the directory, isolated from the user's environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        clean_environment(&mut command, Path::new("/nonexistent"));
        command.env("PATH", path()).current_dir(&self.dir);
        command
    }

    /// Runs a script that must succeed; its output.
    pub(crate) fn ok(&self, script: &str) -> String {
        let (code, text) = outcome(self, script);
        assert_eq!(code, Some(0), "on {}: {script}\n{text}", self.name);
        text
    }
}

/// Path, what is here, what is there: of each path where this is not the same.
pub(crate) fn differences<'a>(here: &'a Tree, there: &'a Tree) -> Vec<Difference<'a>> {
    let paths: BTreeSet<&PathBuf> = here.keys().chain(there.keys()).collect();
    let all = paths.into_iter().map(|path| (path, here.get(path), there.get(path)));
    all.filter(|(_, here, there)| here != there).collect()
}

/// Exit code and everything printed.
fn outcome(place: &Place, script: &str) -> (Option<i32>, String) {
    let output = place.shell(script).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), format!("{out}{err}"))
}

fn branch_name(depth: usize, level: usize) -> String {
    format!("depth-{depth}-level-{level}")
}

/// The deepest branch of a chain of its own. Every level above it has copied some of the files up, so that
/// their content lies in many layers; nothing of it shows.
fn branch_at(workspace: &Workspace, depth: usize) -> Place {
    let mut parent = "main".to_owned();
    for level in 1..=depth {
        let name = branch_name(depth, level);
        workspace.fork(&[&name], &parent, GroupKind::Independent);
        if level < depth {
            copy_up_some(&workspace.view(&name), level, depth);
        }
        parent = name;
    }
    Place::new(format!("depth {depth}"), workspace.view(&parent))
}

/// Writes the first byte of every `depth`-th file over itself, and sets its times back.
fn copy_up_some(view: &Path, level: usize, depth: usize) {
    let mut files = Vec::new();
    files_below(view, &mut files);
    files.sort();
    for file in files.iter().skip(level).step_by(depth).take(COPIED_PER_LAYER) {
        let seen = fs::metadata(file).unwrap();
        let file = File::options().read(true).write(true).open(file).unwrap();
        let mut first = [0];
        // A zero may be a hole, and is to stay one.
        if file.read_at(&mut first, 0).unwrap() == 1 && first != [0] {
            file.write_all_at(&first, 0).unwrap();
        }
        let times = FileTimes::new().set_accessed(seen.accessed().unwrap());
        file.set_times(times.set_modified(seen.modified().unwrap())).unwrap();
    }
}

fn files_below(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_below(&entry.path(), files);
        } else if kind.is_file() && !entry.metadata().unwrap().permissions().readonly() {
            files.push(entry.path());
        }
    }
}
