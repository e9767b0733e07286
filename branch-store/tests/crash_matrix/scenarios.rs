//! The standard scenarios: changes, commits, ends, checkpoints. Contents differ from each other, so that what was lost can be told from what was not.

use std::path::Path;

use branch_store::*;

use crate::common::Paths;
use crate::world::{Durable, Scenario, Step, World};

pub const WHOLE: usize = usize::MAX;

pub fn step(what: &'static str, act: fn(&World) -> Result<()>) -> Step {
    Step { what, durable: Durable::Nothing, poisons: false, act }
}

pub fn durable(what: &'static str, durable: Durable, act: fn(&World) -> Result<()>) -> Step {
    Step { what, durable, poisons: !what.starts_with("checkpoint"), act }
}

pub const FILES: &[(&str, &str)] = &[
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

pub fn link_two(base: &Path) {
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
