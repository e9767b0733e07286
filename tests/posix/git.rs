//! git: what it prints and which objects it makes must be those of the plain filesystem, by hash.

use std::fs;
use std::path::Path;

use crate::ground::Ground;
use crate::tools::version;

/// Everything git knows: each object, each reference, the index.
const KNOWN: &str =
    "git cat-file --batch-all-objects --batch-check; git for-each-ref; git ls-files -s; git status -s";

fn repository(base: &Path) {
    let place = crate::ground::Place { name: "the base".to_owned(), dir: base.to_owned() };
    for i in 0..200 {
        let dir = base.join(format!("src/{}", i % 10));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("file-{i}")), format!("line of {i}\n").repeat(i + 1)).unwrap();
    }
    fs::write(base.join("check"), "#!/bin/sh\ntest \"$(cat number)\" -lt 23\n").unwrap();
    fs::write(base.join(".gitignore"), ".branchfs\n").unwrap();
    place.ok(
        "set -e; chmod +x check; git init -q -b trunk; echo 0 >number; git add -A; git commit -qm 'commit 0'
         for i in $(seq 1 40); do echo $i >number; echo $i >>src/3/file-3; git commit -qam \"commit $i\"; done",
    );
}

#[test]
fn git_works_in_a_branch_as_on_the_plain_filesystem() {
    let Some(ground) = Ground::new(&["git"], repository) else { return };
    let same = |script: &str| ground.everywhere(&format!("set -e; {script}"), &[".git", "wt/.git"]);
    assert_eq!(same("git fsck --full --strict; git status --porcelain"), "");
    let found =
        same("git bisect start trunk trunk~40; git bisect run ./check; git bisect log; git bisect reset");
    assert!(found.contains("is the first bad commit") && found.contains("commit 23"), "{found}");
    let squash =
        "GIT_SEQUENCE_EDITOR=\"sed -i -e '2s/^pick/squash/' -e '4s/^pick/drop/' -e '6s/^pick/fixup/'\"";
    same(
        "git checkout -q -b topic trunk~10; for i in 1 2 3 4 5 6 7 8; do echo $i >new-$i; git add .; git commit -qm n$i; done",
    );
    same(&format!(
        "{squash} GIT_EDITOR=true git rebase -q -i topic~8; git log --format='%H %s' topic~5..topic"
    ));
    same(
        "git rebase -q --onto trunk trunk~10 topic; git log --oneline | head -8; git diff --stat trunk topic",
    );
    same(
        "echo stashed >>src/1/file-1; echo untracked >u; git stash -q -u; git stash list; git checkout -q trunk",
    );
    same("git stash pop -q; git status -s; git stash -q; git stash drop -q; git clean -fdq");
    same(
        "git worktree add -q wt topic; cd wt; echo w >w; git add w; git commit -qm worktree; git log -1 --format=%H",
    );
    same("git merge -q --no-edit topic; git worktree remove wt; git worktree prune; git branch -q -d topic");
    same("git rm -rq src/5; git mv src/6 moved; git commit -qm moved; git diff -M --stat HEAD~1 | tail -3");
    same(KNOWN);
    same(
        "git reflog expire --expire=now --all; git gc -q --prune=now; git repack -adq --depth=50; git count-objects",
    );
    same(
        "git pack-refs --all; git multi-pack-index write; git multi-pack-index verify; git commit-graph write 2>&1",
    );
    let known = same(&format!("git fsck --full --strict --no-progress; {KNOWN}"));
    same(
        "git clone -q --no-local . clone; git -C clone fsck --full --strict; git -C clone rev-parse HEAD; rm -rf clone",
    );
    println!(
        "posix: {}: {} lines of objects and references, equal everywhere",
        version("git"),
        known.lines().count()
    );
    ground.commit_the_deepest();
    let base = crate::ground::Place { name: "the base".to_owned(), dir: ground.workspace().base() };
    assert_eq!(
        base.ok(&format!("git fsck --full --strict --no-progress; {KNOWN}")),
        known,
        "after the commits"
    );
}
