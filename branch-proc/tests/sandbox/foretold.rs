//! What `explain` says is what the kernel does, and denials tell just that: random policies and operations, made by
//! a real program.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use branch_proc::{Capability, Denial, Moved, Op, PathPattern, Policy, Preset, Rules};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::attempts::scripted;
use crate::files::{self, Answer, told as answer_of};
use crate::ground::Ground;
use crate::table::is_denial;

/// The directories of a small tree, and in each of them the same things.
const DIRS: [&str; 7] = ["a", "a/b", "a/b/c", "a/d", "e", "e/f", "e/f/g"];

/// One operation; a second path where something is moved or linked.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) what: What,
    pub(crate) path: PathBuf,
    pub(crate) to: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Op(Op),
    Move(Moved),
}

fn lay_out(root: &Path) {
    for dir in DIRS {
        let dir = root.join(dir);
        fs::create_dir_all(dir.join("empty")).unwrap();
        fs::write(dir.join("file"), "something").unwrap();
        fs::write(dir.join("tool"), "#!/bin/sh\nexit 0\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.join("tool"), mode).unwrap();
    }
}

fn places() -> impl Strategy<Value = Vec<(usize, bool)>> {
    // A directory, or its file.
    prop::collection::vec((0..DIRS.len(), any::<bool>()), 0..3)
}

fn policy_of(base: Policy, root: &Path, lists: &[Vec<(usize, bool)>; 3]) -> Policy {
    let pattern = |(dir, file): &(usize, bool)| {
        let dir = root.join(DIRS[*dir]);
        PathPattern::new(if *file { dir.join("tool") } else { dir }).unwrap()
    };
    let mut policy = base;
    policy.capabilities.push(Capability::DacOverride);
    policy.fs_read.extend(lists[0].iter().map(pattern));
    policy.fs_write.extend(lists[1].iter().map(pattern));
    policy.fs_exec.extend(lists[2].iter().map(pattern));
    policy
}

fn steps(root: PathBuf) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..20_usize, 0..DIRS.len(), 0..DIRS.len()).prop_map(move |(what, from, to)| {
        let (from, to) = (root.join(DIRS[from]), root.join(DIRS[to]));
        let step = |what, path: PathBuf| Step { what: What::Op(what), path, to: PathBuf::new() };
        match what {
            0 => step(Op::Read, from.join("file")),
            1 => step(Op::List, from),
            2 => step(Op::Write, from.join("tool")),
            3 => step(Op::Truncate, from.join("file")),
            4 => step(Op::Execute, from.join("tool")),
            5 => step(Op::Create, from.join("new")),
            6 => step(Op::CreateDir, from.join("newdir")),
            7 => step(Op::CreateSymlink, from.join("link")),
            8 => step(Op::CreateFifo, from.join("fifo")),
            9 => step(Op::CreateSocket, from.join("socket")),
            10 => step(Op::Remove, from.join("file")),
            11 => step(Op::RemoveDir, from.join("empty")),
            12 => step(Op::Attributes, from.join("tool")),
            13 => step(Op::Attributes, from),
            14 => step(Op::Read, from.join("tool")),
            15 => Step { what: What::Move(Moved::Linked), path: from.join("tool"), to: to.join("linked") },
            16 => Step { what: What::Move(Moved::RenamedDir), path: from.join("empty"), to: to.join("gone") },
            _ => Step { what: What::Move(Moved::Renamed), path: from.join("file"), to: to.join("moved") },
        }
    });
    prop::collection::vec(step, 60)
}

/// Whether there is a denial of it.
fn told(denials: &[Denial], step: &Step) -> bool {
    let (op, object) = match step.what {
        What::Op(op) => (op.name(), step.path.display().to_string()),
        What::Move(_) => ("move", format!("{} -> {}", step.path.display(), step.to.display())),
    };
    denials.iter().any(|denial| denial.op == op && denial.object == object)
}

fn foretold(rules: &Rules, step: &Step) -> bool {
    match step.what {
        What::Op(op) => rules.explain(op, &step.path).allowed,
        What::Move(kind) => rules.explain_move(&step.path, &step.to, kind).allowed,
    }
}

#[test]
fn explanations_and_enforcement_agree_on_random_policies() {
    let Some(ground) = Ground::new() else { return };
    let root = ground.outside("tree");
    let (compared, denied) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config {
        cases: 40,
        failure_persistence: None,
        max_shrink_iters: 30,
        ..Config::default()
    });
    let cases = ([places(), places(), places()], steps(root.clone()));
    runner
        .run(&cases, |(lists, steps)| {
            if root.exists() {
                fs::remove_dir_all(&root).unwrap();
            }
            lay_out(&root);
            let mut base = ground.policy(Preset::Analyze);
            base.ipc = branch_proc::Ipc::Group;
            let policy = policy_of(base, &root, &lists);
            let rules = policy.rules([ground.base()]).on_this_host();
            let (answers, denials) = scripted(ground.command().policy(policy), &steps);
            for (step, answer) in steps.iter().zip(answers) {
                // What fails for another reason (it is gone, or there already) says nothing.
                if answer != 0 && !is_denial(answer) {
                    continue;
                }
                compared.set(compared.get() + 1);
                denied.set(denied.get() + u32::from(answer != 0));
                // Between two mounts a move is refused even where there is nothing to be moved: that is no denial.
                if answer == 0 || matches!(step.what, What::Op(_)) {
                    let told = told(&denials, step);
                    prop_assert_eq!(told, answer != 0, "{:?}: {}: {:?}", step, answer, denials);
                }
                prop_assert_eq!(foretold(&rules, step), answer == 0, "{:?}: answer {}", step, answer);
            }
            Ok(())
        })
        .unwrap();
    let (compared, denied) = (compared.get(), denied.get());
    assert!(denied > 100 && compared - denied > 100, "{compared} compared, {denied} of them denied");
}

pub(crate) fn make(step: &Step) -> Answer {
    let path = step.path.as_path();
    match step.what {
        What::Op(Op::Read) => files::read(path),
        What::Op(Op::List) => files::list(path),
        What::Op(Op::Write) => files::write(path),
        What::Op(Op::Truncate) => files::truncate(path),
        What::Op(Op::Execute) => files::execute(path),
        What::Op(Op::Create) => files::create(path),
        What::Op(Op::CreateDir) => answer_of(fs::create_dir(path)),
        What::Op(Op::CreateSymlink) => answer_of(std::os::unix::fs::symlink("file", path)),
        What::Op(Op::CreateFifo) => files::mknod(path, libc::S_IFIFO),
        What::Op(Op::CreateSocket) => files::mknod(path, libc::S_IFSOCK),
        What::Op(Op::Remove) => answer_of(fs::remove_file(path)),
        What::Op(Op::RemoveDir) => answer_of(fs::remove_dir(path)),
        What::Op(Op::Attributes) => files::utimes(path),
        What::Op(Op::CreateChar | Op::CreateBlock | Op::Control) => Err(libc::EINVAL),
        What::Move(Moved::Linked) => answer_of(fs::hard_link(path, &step.to)),
        What::Move(_) => answer_of(fs::rename(path, &step.to)),
    }
}

impl Step {
    pub(crate) fn to_line(&self) -> String {
        let what = match self.what {
            What::Op(op) => op.name(),
            What::Move(Moved::Linked) => "linked",
            What::Move(Moved::Renamed) => "renamed",
            What::Move(Moved::RenamedDir) => "renamed-dir",
        };
        format!("{what}\t{}\t{}", self.path.display(), self.to.display())
    }

    pub(crate) fn from_line(line: &str) -> Step {
        let mut words = line.split('\t');
        let what = match words.next().unwrap() {
            "linked" => What::Move(Moved::Linked),
            "renamed" => What::Move(Moved::Renamed),
            "renamed-dir" => What::Move(Moved::RenamedDir),
            op => What::Op(op.parse().unwrap()),
        };
        let mut path = || PathBuf::from(words.next().unwrap());
        Step { what, path: path(), to: path() }
    }
}
