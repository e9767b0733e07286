//! Random trees, random edits: 10,000 patches with `BRANCHFS_LONG=1`, some hundreds without.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use branch_store::{Children, Kind, RenameMode, Result};
use branchfs_tests::{Rng, rounds, seed};

use crate::ground::{Editor, Ground, Picture, Way, git_apply, path, picture_of, write};

/// Patches made over one base.
const PER_BASE: u64 = 25;

const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"e.txt",
    b"b c",
    b" lead",
    b"trail ",
    b"tab\there",
    b"new\nline",
    b"q\"uote",
    b"back\\slash",
    b"\xc3\xbc",
    b"\xff\xfe",
    b"-dash",
    b"a b",
    b"dev",
    b"null",
    b"x b",
    b"\x01",
    b"...",
];

fn name(rng: &mut Rng) -> Vec<u8> {
    rng.pick(NAMES).to_vec()
}

/// Few different lines, so that there is much to confuse.
fn line(rng: &mut Rng) -> Vec<u8> {
    match rng.below(12) {
        0 => b"\n".to_vec(),
        1 => b"-- a\n".to_vec(),
        2 => b"++ b\n".to_vec(),
        3 => b"crlf\r\n".to_vec(),
        4 => b"  blanks at the end  \n".to_vec(),
        5 => b"\\ No newline at end of file\n".to_vec(),
        6 => b"\xff\xfe\r\x0b\n".to_vec(),
        7 => [&b"x".repeat(300)[..], b"\n"].concat(),
        n => format!("line {n}\n").into_bytes(),
    }
}

fn content(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => Vec::new(),
        1 => {
            let length = rng.below(3000);
            rng.bytes(length)
        }
        2 => b"\0".repeat(rng.below(200) as usize),
        _ => {
            let mut text: Vec<u8> = (0..rng.below(40)).flat_map(|_| line(rng)).collect();
            if rng.below(3) == 0 {
                text.pop();
            }
            text
        }
    }
}

/// A few lines less, more, or others.
fn edited(rng: &mut Rng, content: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> =
        content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    for _ in 0..=rng.below(4) {
        let at = rng.below(lines.len() as u64 + 1) as usize;
        match rng.below(3) {
            0 if at < lines.len() => _ = lines.remove(at),
            1 if at < lines.len() => lines[at] = line(rng),
            _ => lines.insert(at, line(rng)),
        }
    }
    lines.concat()
}

fn target(rng: &mut Rng) -> Vec<u8> {
    [&b"../"[..], &name(rng)].concat()
}

fn build(rng: &mut Rng, base: &Path) {
    let mut files = Vec::new();
    for _ in 0..rng.below(25) {
        let depth = rng.below(4);
        let inner = (0..depth).fold(name(rng), |inner, _| [&name(rng)[..], b"/", &inner].concat());
        let at = base.join(path(&inner));
        if fs::symlink_metadata(&at).is_ok() || fs::create_dir_all(at.parent().unwrap()).is_err() {
            continue;
        }
        match rng.below(9) {
            0 => symlink(path(&target(rng)), &at).unwrap(),
            2 if !files.is_empty() => fs::hard_link(rng.pick(&files), &at).unwrap(),
            1 => write(base, &inner, &content(rng), 0o755),
            _ => {
                write(base, &inner, &content(rng), 0o644);
                files.push(at);
            }
        }
    }
}

/// One change. What the paths it hit do not allow is refused by the branch as by any filesystem.
fn change(rng: &mut Rng, branch: &Editor) -> Result<()> {
    let paths = branch.paths();
    let mut dirs: Vec<Vec<u8>> =
        paths.iter().filter(|(_, kind)| *kind == Kind::Dir).map(|(path, _)| path.clone()).collect();
    dirs.push(Vec::new());
    let fresh = |rng: &mut Rng| {
        let dir = rng.pick(&dirs).clone();
        if dir.is_empty() { name(rng) } else { [&dir[..], b"/", &name(rng)].concat() }
    };
    let Some((old, kind)) = (!paths.is_empty()).then(|| rng.pick(&paths).clone()) else {
        let new = fresh(rng);
        return branch.put(&new, &content(rng));
    };
    let new = fresh(rng);
    match rng.below(14) {
        0 | 1 => branch.put(&new, &content(rng)),
        2 => branch.link(&new, &target(rng)),
        3 => branch.mkdir(&new).and_then(|()| branch.put(&[&new[..], b"/f"].concat(), &content(rng))),
        4 | 5 if kind == Kind::File => branch.put(&old, &edited(rng, &branch.read(&old))),
        6 if kind == Kind::File => branch.put(&old, &content(rng)),
        7 if kind == Kind::File => branch.chmod(&old, if rng.below(2) == 0 { 0o755 } else { 0o644 }),
        8 => branch.remove(&old),
        9 => {
            // Something else in its place.
            branch.remove(&old)?;
            match rng.below(3) {
                0 => branch.link(&old, &target(rng)),
                1 => branch.mkdir(&old).and_then(|()| branch.put(&[&old[..], b"/g"].concat(), &content(rng))),
                _ => branch.put(&old, &content(rng)),
            }
        }
        10 => {
            let (other, _) = rng.pick(&paths).clone();
            branch.rename(&old, &other, RenameMode::Exchange)
        }
        _ => branch.rename(&old, &new, RenameMode::Replace),
    }
}

/// A failure names the paths only: contents are in the patch.
#[track_caller]
fn same(got: &Picture, expected: &Picture, patch: &[u8]) {
    let paths = got.keys().chain(expected.keys());
    let wrong: BTreeSet<_> = paths.filter(|path| got.get(*path) != expected.get(*path)).collect();
    let wrong: Vec<_> = wrong.into_iter().map(|path| path.escape_ascii().to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?} differ after {}", patch.escape_ascii());
}

fn default_rounds() -> u64 {
    if std::env::var_os("BRANCHFS_LONG").is_some_and(|value| value == "1") { 10_000 } else { 400 }
}

#[test]
fn a_random_patch_leads_from_the_base_to_the_branch_and_back() {
    let (seed, rounds) = (seed(), rounds(default_rounds()));
    let (mut made, mut empty, mut bytes) = (0, 0, 0);
    for base in 0..rounds.div_ceil(PER_BASE) {
        let mut rng = Rng::new(seed, base);
        let ground = Ground::new(|root| build(&mut rng, root));
        let before = picture_of(&ground.base());
        for _ in 0..PER_BASE.min(rounds - made) {
            let branch = ground.fork("b");
            for _ in 0..=rng.below(12) {
                change(&mut rng, &branch).ok();
            }
            let (patch, _) = ground.patch(&branch.0);
            let copy = ground.copy();
            git_apply(&copy, &patch, Way::Forth);
            same(&picture_of(&copy), &branch.picture(), &patch);
            if made % 5 == 0 {
                // Not `apply -R`: that mistakes a file that became a link.
                let (old, new) = ground.store.fork_and_now(&branch.0).unwrap();
                let (patch, _) = ground.patch_between(&new, &old);
                git_apply(&copy, &patch, Way::Forth);
                same(&picture_of(&copy), &before, &patch);
            }
            ground.store.abort(&branch.0, Children::Refuse).unwrap();
            made += 1;
            empty += u64::from(patch.is_empty());
            bytes += patch.len();
        }
    }
    eprintln!("{made} patches of {bytes} bytes in all, {empty} of them empty");
    assert!(empty * 10 < made, "most patches say something");
}
