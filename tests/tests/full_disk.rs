//! A disk that is full at every step of write, fork and commit (S21): the caller hears ENOSPC, nothing that
//! was acknowledged is lost, a commit is all or nothing, and with room again the work goes on.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use branch_proto::{ClientError, Failure, GroupKind};
use branchfs_tests::{Disk, Model, Op, Rng, Site, Times, can_mount, is_mounted, seed, skip, tree};
use rustix::io::Errno;

const MEGABYTES: u64 = 16;
/// Room left before a step, in bytes: from none to enough for all of it.
const ROOM: [u64; 8] = [0, 4096, 3 * 4096, 8 * 4096, 24 * 4096, 64 * 4096, 160 * 4096, 400 * 4096];

/// A small tmpfs.
struct Tmpfs(tempfile::TempDir);

/// What fills a disk.
struct Ballast(PathBuf);

#[test]
fn a_full_tmpfs_is_an_error_and_never_a_loss() {
    if !can_mount() {
        return;
    }
    let Some(disk) = Tmpfs::new(MEGABYTES) else { return };
    every_step(disk.0.path());
}

#[test]
fn a_full_ext4_is_an_error_and_never_a_loss() {
    if !can_mount() {
        return;
    }
    let Some(disk) = Disk::new(MEGABYTES) else { return };
    every_step(&disk.path());
}

/// The user was told to restart the daemon, and not how; 'stop' said that it had failed.
#[test]
fn a_commit_that_stands_while_the_disk_is_full_says_how_to_go_on_and_that_works() {
    if !can_mount() {
        return;
    }
    let Some(disk) = Tmpfs::new(MEGABYTES) else { return };
    let base = disk.0.path().join("base");
    fs::create_dir(&base).unwrap();
    fs::write(base.join("file"), "old\n").unwrap();
    let site = Site::init(&base);
    // Its commit needs room for nothing but its own record and a file about it; the record fits.
    fs::write(branch(&site, "writer").join("file"), "new\n").unwrap();
    let ballast = Ballast(disk.0.path().join("ballast"));
    ballast.fill(0);
    let said = site.refused(&["commit", "writer"]);
    assert!(said.contains("commit 1 is decided and stands") && said.contains("'branchfs stop'"), "{said}");
    assert!(site.log().contains("commit 1 is decided and stands"), "{}", site.log());
    let said = site.refused(&["create", "other"]);
    assert!(said.contains("takes nothing more") && said.contains("'branchfs stop'"), "{said}");
    ballast.remove();
    site.ok(&["stop"]);
    site.ok(&["status"]);
    assert_eq!(fs::read_to_string(base.join("file")).unwrap(), "new\n");
    site.ok(&["undo"]);
    assert_eq!(fs::read_to_string(base.join("file")).unwrap(), "old\n");
    site.assert_no_panic();
}

fn every_step(disk: &Path) {
    let seed = seed();
    let base = disk.join("base");
    fs::create_dir(&base).unwrap();
    fill(&base, seed);
    let site = Site::init(&base);
    let ballast = Ballast(disk.join("ballast"));
    let mut seen = Seen::default();
    for (n, room) in ROOM.into_iter().enumerate() {
        let mut rng = Rng::new(seed, 10 + n as u64);
        writes(&site, &ballast, room, &mut rng, &mut seen);
        forks(&site, &ballast, room, &mut seen);
        commits(&site, &ballast, room, &mut rng, &mut seen);
        site.assert_no_panic();
    }
    eprintln!("{seen:?}");
    // On tmpfs a commit takes hardly any room: links and directories cost none there.
    assert!(
        seen.writes_refused > 0 && seen.forks_refused + seen.commits_refused > 0,
        "it was full: {seen:?}"
    );
    assert!(seen.writes_done > 0 && seen.commits_done > 0, "and it had room: {seen:?}");
}

#[derive(Debug, Default)]
struct Seen {
    writes_done: u64,
    writes_refused: u64,
    forks_done: u64,
    forks_refused: u64,
    commits_done: u64,
    commits_refused: u64,
    commits_after_restart: u64,
}

fn fill(base: &Path, seed: u64) {
    let (mut rng, mut model) = (Rng::new(seed, 1), Model::default());
    for _ in 0..120 {
        let op = Op::random(&mut rng, &model);
        op.run(base).unwrap();
        model.apply(&op);
    }
}

/// Writes until well after the disk is full, then with room again, and looks at everything; also after a
/// daemon's death with the disk full.
fn writes(site: &Site, ballast: &Ballast, room: u64, rng: &mut Rng, seen: &mut Seen) {
    let view = branch(site, "writer");
    let mut model = Model::of(&view).unwrap();
    ballast.fill(room);
    for _ in 0..120 {
        let op = Op::random(rng, &model);
        match op.run(&view) {
            Ok(()) => {
                model.apply(&op);
                seen.writes_done += 1;
            }
            Err(error) => {
                assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC), "{op:?}: {error}");
                // A write may have gone in part, as on any full disk.
                let real = Model::of(&view).unwrap();
                assert!(model.explains(&op, &real), "{op:?}:\n{}", model.difference(&real));
                model = real;
                seen.writes_refused += 1;
            }
        }
    }
    assert_shows(&view, &model);
    ballast.remove();
    site.kill_daemon();
    site.ok(&["status"]);
    assert_shows(&view, &model);
    for _ in 0..20 {
        let op = Op::random(rng, &model);
        op.run(&view).unwrap_or_else(|error| panic!("with room again: {op:?}: {error}"));
        model.apply(&op);
    }
    assert_shows(&view, &model);
    site.ok(&["abort", "writer"]);
}

fn forks(site: &Site, ballast: &Ballast, room: u64, seen: &mut Seen) {
    let view = branch(site, "parent");
    fs::write(view.join("mark"), "made before").unwrap();
    ballast.fill(room);
    // More names than a full last block of the journal has room for.
    let names: Vec<String> = (0..64).map(|n| format!("{}-{n}", "long".repeat(50))).collect();
    let mut client = site.client();
    let forked = client.create(&names, "parent", GroupKind::Independent);
    let live = client.list().unwrap().into_iter().filter(|branch| names.contains(&branch.name)).count();
    match forked {
        Ok(_) => {
            assert_eq!(live, names.len());
            seen.forks_done += 1;
        }
        Err(error) => {
            assert_eq!(errno(&error), Errno::NOSPC, "{error}");
            assert_eq!(live, 0, "a fork is all or nothing");
            seen.forks_refused += 1;
        }
    }
    ballast.remove();
    let again = client.create(&["again".to_owned()], "parent", GroupKind::Independent);
    again.expect("with room again");
    assert_eq!(fs::read_to_string(site.view("again").join("mark")).unwrap(), "made before");
    site.ok(&["abort", "--cascade", "parent"]);
}

/// The disk is full when the commit begins, with less and less room.
fn commits(site: &Site, ballast: &Ballast, room: u64, rng: &mut Rng, seen: &mut Seen) {
    let view = branch(site, "committer");
    let mut model = Model::of(&view).unwrap();
    for _ in 0..60 {
        let op = Op::random(rng, &model);
        op.run(&view).unwrap();
        model.apply(&op);
    }
    let (before, after) = (tree(site.base(), Times::Compare), tree(&view, Times::Compare));
    ballast.fill(room);
    let committed = site.client().commit("committer");
    match &committed {
        Ok(_) => seen.commits_done += 1,
        Err(error) => {
            assert!(matches!(errno(error), Errno::NOSPC | Errno::IO), "{error}");
            seen.commits_refused += 1;
        }
    }
    ballast.remove();
    if committed.is_err() && again(site).is_err() {
        // The disk filled up behind the decision. Nothing goes on as if the base were whole, and a daemon
        // that starts afresh finishes what was decided.
        seen.commits_after_restart += 1;
        site.kill_daemon();
        let lives = site.client().inspect("committer").is_ok();
        let expected = if lives { &before } else { &after };
        assert_eq!(&tree(site.base(), Times::Compare), expected, "all or nothing");
        if lives {
            assert_eq!(tree(&view, Times::Compare), after);
            again(site).expect("with room again and a fresh daemon");
        }
    }
    assert_eq!(tree(site.base(), Times::Compare), after);
}

/// With room again only a store that needs a restart refuses, and says so.
fn again(site: &Site) -> Result<(), ClientError> {
    let outcome = site.client().commit("committer").map(drop);
    if let Err(error) = &outcome {
        let decided = matches!(error, ClientError::Failed(Failure::NoSuchBranch { .. }));
        assert!(decided || is_poisoned(error), "{error}");
        let refused = site.client().create(&["other".to_owned()], "main", GroupKind::Exclusive).unwrap_err();
        assert!(is_poisoned(&refused), "{refused}");
    }
    outcome
}

fn is_poisoned(error: &ClientError) -> bool {
    matches!(error, ClientError::Failed(Failure::Poisoned { .. }))
}

fn branch(site: &Site, name: &str) -> PathBuf {
    site.client().create(&[name.to_owned()], "main", GroupKind::Exclusive).unwrap();
    site.view(name)
}

fn errno(error: &ClientError) -> Errno {
    match error {
        ClientError::Failed(Failure::Io { errno, .. } | Failure::Poisoned { errno, .. }) => {
            Errno::from_raw_os_error(*errno)
        }
        other => panic!("{other:?}"),
    }
}

fn assert_shows(view: &Path, model: &Model) {
    let difference = model.difference(&Model::of(view).unwrap());
    assert!(difference.is_empty(), "{difference}");
}

impl Ballast {
    /// Leaves so much room, at most.
    fn fill(&self, room: u64) {
        let mut file = File::create(&self.0).unwrap();
        let mut step = 1 << 20;
        while step > 0 {
            match file.write_all(&vec![0x5a; step]) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                    step /= 2;
                }
            }
        }
        // Blocks promised to others and not allocated yet count as free until then.
        file.sync_all().ok();
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(room)).unwrap();
        file.sync_all().unwrap();
    }

    fn remove(&self) {
        fs::remove_file(&self.0).unwrap();
    }
}

impl Tmpfs {
    /// `None`, with a printed reason, where this user may not mount one.
    fn new(megabytes: u64) -> Option<Tmpfs> {
        let tmpfs = Tmpfs(tempfile::tempdir().unwrap());
        let size = format!("size={megabytes}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(tmpfs.0.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(tmpfs),
            other => {
                skip(&format!("no tmpfs can be mounted here: {other:?}"));
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if is_mounted(self.0.path()) {
            rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }
}
