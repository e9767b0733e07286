//! Random operations on a small set of names, so that everything collides with everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use branch_store::*;

use super::{Paths, Workspace, chmod};

/// splitmix64: the same seed gives the same run everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    pub fn path(&mut self) -> String {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let depth = 1 + self.below(3);
        (0..depth).map(|_| NAMES[self.below(NAMES.len())]).collect::<Vec<_>>().join("/")
    }
}

/// A base of these names, one file of which has two.
pub fn sample() -> Workspace {
    let w = Workspace::new(&[
        ("a/a/a", "1"),
        ("a/b", "2"),
        ("b/c", "3"),
        ("b/a/d", "4"),
        ("c/d/a", "5"),
        ("d", "6"),
        ("e", "7"),
    ]);
    std::fs::hard_link(w.base().join("d"), w.base().join("c/b")).unwrap();
    w
}

/// One random operation. Refusals (ENOENT, EEXIST, ENOTEMPTY …) are as good as successes.
pub fn step(branch: &Arc<Branch>, random: &mut Random, log: &mut Vec<String>) {
    let (one, two) = (random.path(), random.path());
    let text = format!("{}", random.below(1000));
    let (what, result) = match random.below(11) {
        0 | 1 => (format!("put {one} {text}"), branch.put(&one, &text)),
        2 => (format!("overwrite {one} {text}"), branch.overwrite(&one, &text)),
        3 => (format!("mkdir {one}"), branch.make_dir(&one)),
        4 => (format!("unlink {one}"), branch.remove(&one)),
        5 => (format!("rmdir {one}"), branch.remove_dir(&one)),
        6 | 7 => (format!("rename {one} {two}"), branch.mv(&one, &two)),
        8 => (format!("link {one} {two}"), branch.ln(&one, &two)),
        9 => (format!("exchange {one} {two}"), exchange(branch, &one, &two)),
        _ => (format!("chmod {one}"), chmod(branch, &one, [0o755, 0o700][random.below(2)])),
    };
    if let Err(e) = &result {
        assert!(matches!(e, Error::Posix(_)), "{}: {what} gave {e:?}", branch.name());
    }
    log.push(format!("{}: {what} -> {}", branch.name(), result.is_ok()));
}

fn exchange(branch: &Arc<Branch>, one: &str, two: &str) -> Result<()> {
    let (dir, name) = branch.parent_of(one)?;
    let (to, to_name) = branch.parent_of(two)?;
    let removed = branch.rename(&dir, name.as_bytes(), &to, to_name.as_bytes(), RenameMode::Exchange)?;
    assert_eq!(removed.orphan, None);
    Ok(())
}

pub type Tree = BTreeMap<String, String>;

fn differences(left: &Tree, right: &Tree) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let differs = names.into_iter().filter(|name| left.get(*name) != right.get(*name));
    differs.map(|name| format!("{name}: {:?} / {:?}", left.get(name), right.get(name))).collect()
}

pub fn assert_same(left: &Tree, right: &Tree, what: &str) {
    let wrong = differences(left, right);
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
}
