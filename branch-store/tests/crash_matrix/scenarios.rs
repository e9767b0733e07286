//! The standard scenarios. Contents differ from each other, so that what was lost can be told from what was not.

use std::path::Path;

use branch_store::*;

use crate::common::Paths;
use crate::world::{Durable, Scenario, Step, World};

const WHOLE: usize = usize::MAX;

fn step(what: &'static str, act: fn(&World) -> Result<()>) -> Step {
    Step { what, durable: Durable::Nothing, poisons: false, act }
}

fn durable(what: &'static str, durable: Durable, act: fn(&World) -> Result<()>) -> Step {
    Step { what, durable, poisons: !what.starts_with("checkpoint"), act }
}

const FILES: &[(&str, &str)] = &[
    ("README", "hello\n"),
    ("src/main.rs", "fn main() {}\n"),
    ("src/lib.rs", "// lib\n"),
    ("docs/a/b/c.txt", "deep\n"),
    ("linked", "shared\n"),
    ("x/1", "one"),
    ("y/2", "two"),
    ("empty", ""),
    ("cut", "to be cut\n"),
];

fn link_two(base: &Path) {
    std::fs::hard_link(base.join("linked"), base.join("linked2")).unwrap();
}

/// Every kind of change in a branch, a commit from below, a commit into the base that makes a sibling stale.
pub fn edits_and_commits() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["a", "loser"], GroupKind::Exclusive)),
        step("write", |w| w.write("a", "README", "HELLO")),
        step("write a file with two names", |w| w.write("a", "linked", "SHARED")),
        step("cut", |w| w.cut("a", "cut", 5)),
        step("create", |w| w.create("a", "new")),
        step("write it", |w| w.write("a", "new", "new file")),
        step("mkdir", |w| w.branch("a")?.make_dir("dir")),
        step("create in it", |w| w.create("a", "dir/x")),
        step("write that", |w| w.write("a", "dir/x", "ex")),
        durable("fsync", Durable::File("a", "README"), |w| w.fsync("a", "README")),
        step("link", |w| w.branch("a")?.ln("dir/x", "z")),
        step("remove", |w| w.branch("a")?.remove("empty")),
        step("move a directory", |w| w.branch("a")?.mv("src", "dir/source")),
        step("write in it", |w| w.write("a", "dir/source/lib.rs", "//changed")),
        step("move a file", |w| w.branch("a")?.mv("docs/a/b/c.txt", "c.txt")),
        step("rmdir", |w| w.branch("a")?.remove_dir("docs/a/b")),
        step("exchange directories", |w| w.exchange("a", "x", "y")),
        step("write in the loser", |w| w.write("loser", "README", "LOSER")),
        step("fork below", |w| w.fork("a", &["b"], GroupKind::Independent)),
        step("copy from an older layer", |w| w.write("b", "new", "NEW")),
        step("through the other name", |w| w.write("b", "linked2", "CHILD")),
        step("cut what was cut", |w| w.cut("b", "cut", 2)),
        step("remove a name", |w| w.branch("b")?.remove("z")),
        durable("commit into the parent", Durable::Names, |w| w.commit("b")),
        durable("commit into the base", Durable::Base, |w| w.commit("a")),
    ];
    let parents = &[("a", "main"), ("loser", "main"), ("b", "a")];
    Scenario {
        name: "edits",
        files: FILES,
        prepare: link_two,
        parents,
        steps,
        apart: false,
        append_max: WHOLE,
    }
}

/// The same with the store on another filesystem.
pub fn store_elsewhere() -> Scenario {
    Scenario { name: "store elsewhere", apart: true, ..edits_and_commits() }
}

/// Ends: files removed and replaced after their fsync, branches aborted, what is left reclaimed.
pub fn removals_and_aborts() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["a", "b"], GroupKind::Independent)),
        step("write", |w| w.write("a", "README", "HELLO")),
        step("create", |w| w.create("a", "new")),
        step("write new", |w| w.write("a", "new", "first")),
        step("write in b", |w| w.write("b", "cut", "CUT")),
        step("create in b", |w| w.create("b", "bee")),
        step("write that", |w| w.write("b", "bee", "buzz")),
        durable("sync", Durable::Everything, |w| w.store().sync()),
        step("create the next", |w| w.create("a", "new.tmp")),
        step("write the next", |w| w.write("a", "new.tmp", "second")),
        durable("fsync", Durable::File("a", "new.tmp"), |w| w.fsync("a", "new.tmp")),
        step("replace", |w| w.branch("a")?.mv("new.tmp", "new")),
        step("remove a synced file", |w| w.branch("a")?.remove("README")),
        step("fork below b", |w| w.fork("b", &["c"], GroupKind::Exclusive)),
        step("write in c", |w| w.write("c", "bee", "BU")),
        step("abort", |w| w.store().abort(&*w.branch("b")?, Children::Cascade).map(drop)),
        step("reclaim", |w| w.store().reclaim()),
        step("write on", |w| w.write("a", "cut", "cut in a")),
        durable("commit into the base", Durable::Base, |w| w.commit("a")),
        step("reclaim again", |w| w.store().reclaim()),
    ];
    let parents = &[("a", "main"), ("b", "main"), ("c", "b")];
    Scenario { name: "ends", files: FILES, prepare: |_| {}, parents, steps, apart: false, append_max: WHOLE }
}

/// The same with a disk that takes 16 bytes of the journal at a time.
pub fn short_writes() -> Scenario {
    Scenario { name: "short writes", append_max: 16, ..removals_and_aborts() }
}

/// Checkpoints between and during changes.
pub fn checkpoints() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["a", "b"], GroupKind::Exclusive)),
        step("write", |w| w.write("a", "README", "HELLO")),
        durable("checkpoint", Durable::Names, |w| w.store().checkpoint()),
        step("move", |w| w.branch("a")?.mv("src", "sources")),
        step("write in it", |w| w.write("a", "sources/lib.rs", "//changed")),
        step("write in b", |w| w.write("b", "cut", "CUT")),
        durable("checkpoint again", Durable::Names, |w| w.store().checkpoint()),
        step("create", |w| w.create("a", "new")),
        step("write new", |w| w.write("a", "new", "new file")),
        durable("commit into the base", Durable::Base, |w| w.commit("a")),
        durable("checkpoint of nothing", Durable::Names, |w| w.store().checkpoint()),
        step("fork anew", |w| w.fork("main", &["c"], GroupKind::Exclusive)),
        step("write anew", |w| w.write("c", "sources/lib.rs", "//twice")),
    ];
    let parents = &[("a", "main"), ("b", "main"), ("c", "main")];
    Scenario {
        name: "checkpoints",
        files: FILES,
        prepare: |_| {},
        parents,
        steps,
        apart: false,
        append_max: WHOLE,
    }
}

/// Directories that move, change places, go and come, and hard links, while a sibling keeps its snapshot and then
/// commits, too.
pub fn directories_and_survivors() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["a", "b"], GroupKind::Independent)),
        step("move a directory into another", |w| w.branch("a")?.mv("docs/a", "x/a")),
        step("exchange a directory and a file", |w| w.exchange("a", "src", "cut")),
        step("exchange directories", |w| w.exchange("a", "x", "y")),
        step("link", |w| w.branch("a")?.ln("linked", "y/linked3")),
        step("write through a link", |w| w.write("a", "linked2", "SHARED")),
        step("remove a file", |w| w.branch("a")?.remove("x/2")),
        step("remove a directory", |w| w.branch("a")?.remove_dir("x")),
        step("a directory in place of a file", |w| w.branch("a")?.remove("README")),
        step("made", |w| w.branch("a")?.make_dir("README")),
        step("with a file", |w| w.create("a", "README/in")),
        step("of bytes", |w| w.write("a", "README/in", "inside")),
        step("chmod", |w| w.change("a", "docs", AttrChange { mode: Some(0o700), ..AttrChange::default() })),
        step("write in b", |w| w.write("b", "empty", "no more")),
        durable("commit a", Durable::Base, |w| w.commit("a")),
        step("write more in b", |w| w.write("b", "empty", "NO")),
        durable("commit b", Durable::Base, |w| w.commit("b")),
    ];
    let parents = &[("a", "main"), ("b", "main")];
    let (apart, append_max) = (false, WHOLE);
    Scenario { name: "directories", files: FILES, prepare: link_two, parents, steps, apart, append_max }
}

/// A branch is marked, goes back and forth, and gives up marks, with checkpoints of the store between.
pub fn marks() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["a"], GroupKind::Exclusive)),
        step("write", |w| w.write("a", "README", "HELLO")),
        step("create", |w| w.create("a", "new")),
        step("write new", |w| w.write("a", "new", "first")),
        durable("fsync", Durable::File("a", "new"), |w| w.fsync("a", "new")),
        step("mark", |w| w.mark("a", "one")),
        step("write in place no more", |w| w.write("a", "new", "SECOND")),
        step("copy up", |w| w.write("a", "cut", "CUT")),
        step("remove", |w| w.branch("a")?.remove("x/1")),
        step("remove its directory", |w| w.branch("a")?.remove_dir("x")),
        step("mark again", |w| w.mark("a", "two")),
        step("write a third", |w| w.write("a", "new", "thirdly")),
        step("restore", |w| w.restore("a", "one")),
        step("write on", |w| w.write("a", "README", "AGAIN")),
        durable("sync", Durable::Everything, |w| w.store().sync()),
        durable("checkpoint", Durable::Names, |w| w.store().checkpoint()),
        step("restore another", |w| w.restore("a", "two")),
        step("restore what was before", |w| w.restore("a", BEFORE_RESTORE)),
        step("give up", |w| w.store().unmark(&*w.branch("a")?, "two")),
        step("reclaim", |w| w.store().reclaim()),
        durable("checkpoint again", Durable::Names, |w| w.store().checkpoint()),
        step("write at last", |w| w.write("a", "new", "at last")),
        durable("commit into the base", Durable::Base, |w| w.commit("a")),
        step("reclaim the rest", |w| w.store().reclaim()),
    ];
    let parents = &[("a", "main")];
    let (apart, append_max) = (false, WHOLE);
    Scenario { name: "marks", files: FILES, prepare: |_| {}, parents, steps, apart, append_max }
}

/// A file of three lines, of which each side has changed another one.
fn by_line(texts: &Texts<'_>) -> std::result::Result<MergedText, String> {
    let base = texts.base.ok_or("made by both")?;
    let lines =
        |text: &[u8]| text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (base, ours, theirs) = (lines(base), lines(texts.ours), lines(texts.theirs));
    let line = |n: usize| if ours[n] == base[n] { theirs[n].clone() } else { ours[n].clone() };
    Ok(MergedText { bytes: (0..base.len()).flat_map(line).collect(), markers: 0 })
}

fn merge(w: &World, name: &str) -> Result<()> {
    w.store().commit_with(&*w.branch(name)?, &|_| Choice::Merge(Merger(by_line))).map(drop)
}

/// Files that several changed, merged: into a parent branch, by a rebase, into the base.
pub fn merges() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["p", "r"], GroupKind::Independent)),
        step("fork below", |w| w.fork("p", &["a", "b"], GroupKind::Independent)),
        step("write in a", |w| w.write("a", "lines", "1A\n")),
        step("write in b", |w| w.write("b", "lines", "1a\n2a\n3B\n")),
        step("write what both write", |w| w.write("a", "same", "SAME")),
        step("and again", |w| w.write("b", "same", "SAME")),
        durable("commit a", Durable::Names, |w| w.commit("a")),
        durable("merge b into the parent", Durable::Names, |w| merge(w, "b")),
        step("write in r", |w| w.write("r", "lines", "1a\n2R\n")),
        durable("commit the parent", Durable::Base, |w| w.commit("p")),
        // A link that the store could not drop would be another name of the file, which is not merged then.
        step("reclaim", |w| w.store().reclaim()),
        step("rebase", |w| w.store().rebase(&*w.branch("r")?, &|_| Choice::Merge(Merger(by_line))).map(drop)),
        step("fork again", |w| w.fork("main", &["s"], GroupKind::Independent)),
        step("write in s", |w| w.write("s", "lines", "1S\n")),
        durable("commit r", Durable::Base, |w| w.commit("r")),
        step("reclaim again", |w| w.store().reclaim()),
        durable("merge s into the base", Durable::Base, |w| merge(w, "s")),
    ];
    let parents = &[("p", "main"), ("r", "main"), ("a", "p"), ("b", "p"), ("s", "main")];
    let files = &[("lines", "1a\n2a\n3a\n"), ("same", "some"), ("other", "other")];
    Scenario { name: "merges", files, prepare: |_| {}, parents, steps, apart: false, append_max: WHOLE }
}
