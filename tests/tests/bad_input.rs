//! Bad input of every kind (S22, S23): damaged files of the store, noise on the socket, hostile names, odd
//! places. Always a typed error that names the thing, never a panic, never a loss.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use branch_proto::{
    Children, ClientError, Failure, GroupKind, Hello, PROTOCOL_VERSION, Welcome, read_frame, write_frame,
};
use branch_store::{Error, Options, Store, Unrecovered};
use branchfs_tests::{Model, Rng, Site, Times, can_mount, is_mounted, seed, skip, tree};

/// Places at which each file of the store is damaged.
const POSITIONS: usize = 120;

/// A directory with a base in it.
fn base() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    fs::create_dir(&base).unwrap();
    fs::write(base.join("file"), "base\n").unwrap();
    (dir, base)
}

fn open(base: &Path) -> Result<Store, Error> {
    let options = Options { base: base.to_owned(), store: base.join(".branchfs") };
    Ok(Unrecovered::open(options)?.recover()?.0)
}

/// A store whose journal and checkpoint hold something: branches with files, one commit.
fn worked(base: &Path) {
    branch_store::init(base, &base.join(".branchfs")).unwrap();
    let store = open(base).unwrap();
    let main = store.main();
    for n in 0..6 {
        let branch = &store.fork(&main, &[format!("b{n}")], branch_store::GroupKind::Independent).unwrap()[0];
        make(branch, n);
        if n == 1 {
            store.commit(branch).unwrap();
        }
        if n == 2 {
            store.checkpoint().unwrap();
        }
    }
}

fn make(branch: &branch_store::Branch, n: usize) {
    for name in ["x", "y", "z"] {
        let new = branch_store::New {
            kind: branch_store::NewKind::Dir,
            mode: 0o755,
            uid: 0,
            gid: 0,
            xattrs: Default::default(),
        };
        branch.create(&branch.root(), format!("{name}{n}").as_bytes(), new).unwrap();
    }
}

/// What is live, with the names in each root.
fn state(store: &Store) -> BTreeMap<String, Vec<Vec<u8>>> {
    let names = |branch: &branch_store::Branch| {
        let entries = branch.read_dir(&branch.root()).unwrap();
        entries.into_iter().map(|entry| entry.name.as_bytes().to_vec()).collect()
    };
    store.branches().iter().map(|branch| (branch.name().to_owned(), names(branch))).collect()
}

fn store_files(base: &Path) -> Vec<PathBuf> {
    let numbered = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("journal.") || name.starts_with("checkpoint.")
    };
    let entries = fs::read_dir(base.join(".branchfs")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(numbered).collect();
    files.sort();
    files
}

/// Opens the damaged store twice: refused with a typed error and left as it was, or opened with a state of
/// its past.
fn check_damaged(base: &Path, whole: &BTreeMap<String, Vec<Vec<u8>>>, what: &str) -> bool {
    let host = tree(base, Times::Ignore);
    let before: Vec<Vec<u8>> = store_files(base).iter().map(|file| fs::read(file).unwrap()).collect();
    let opened = open(base);
    assert_eq!(tree(base, Times::Ignore), host, "{what}: the base is untouched");
    match opened {
        Err(Error::Corrupt { file, cause, .. }) => {
            assert!(!file.is_empty() && !cause.is_empty(), "{what}");
            let after: Vec<Vec<u8>> = store_files(base).iter().map(|file| fs::read(file).unwrap()).collect();
            assert_eq!(before, after, "{what}: the damaged store is left as it was found");
            false
        }
        Err(Error::Newer { .. }) => false,
        Err(other) => panic!("{what}: {other:?}"),
        Ok(store) => {
            for (name, entries) in state(&store) {
                let all =
                    whole.get(&name).cloned().unwrap_or_else(|| panic!("{what}: branch {name} of nowhere"));
                assert!(
                    entries.iter().all(|entry| all.contains(entry)),
                    "{what}: {name} shows what never was"
                );
            }
            true
        }
    }
}

#[test]
fn a_truncated_or_flipped_journal_or_checkpoint_is_an_error_or_a_cut_and_never_nonsense() {
    let seed = seed();
    let (dir, base) = base();
    worked(&base);
    let whole = state(&open(&base).unwrap());
    let files = store_files(&base);
    assert!(files.len() >= 2, "a journal and a checkpoint: {files:?}");
    let pristine = dir.path().join("pristine");
    copy(&base, &pristine);
    let mut rng = Rng::new(seed, 1);
    let (mut opened, mut refused) = (0, 0);
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for n in 0..POSITIONS {
            let at = rng.below(bytes.len() as u64) as usize;
            let (damaged, what) = if n % 2 == 0 {
                (bytes[..at].to_vec(), format!("{} cut at {at}", file.display()))
            } else {
                let mut flipped = bytes.clone();
                let bit = rng.below(8);
                flipped[at] ^= 1 << bit;
                (flipped, format!("{} bit {bit} of byte {at} flipped", file.display()))
            };
            fs::write(&file, damaged).unwrap();
            if check_damaged(&base, &whole, &what) {
                opened += 1;
            } else {
                refused += 1;
            }
            fs::remove_dir_all(&base).unwrap();
            copy(&pristine, &base);
        }
    }
    eprintln!("{opened} cuts at the end, {refused} refused");
    assert!(refused > 0 && opened > 0);
}

fn copy(from: &Path, to: &Path) {
    let output = std::process::Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_damaged_store_is_named_by_the_program_and_works_again_when_it_is_put_right() {
    if !can_mount() {
        return;
    }
    let (_dir, base) = base();
    worked(&base);
    let site = Site::at(&base, &base.join(".branchfs"));
    for file in store_files(&base) {
        let bytes = fs::read(&file).unwrap();
        let mut damaged = bytes.clone();
        damaged[50] ^= 0x10;
        fs::write(&file, damaged).unwrap();
        let words = site.refused(&["list"]);
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(words.contains(&name) && words.contains("damaged"), "{words}");
        fs::write(&file, bytes).unwrap();
    }
    site.ok(&["list"]);
    assert_eq!(site.client().list().unwrap().len(), 6, "five live branches and main");
    site.assert_no_panic();
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    if !can_mount() {
        return;
    }
    let (_dir, base) = base();
    let site = Site::init(&base);
    let file = site.store().join("format");
    let text = fs::read_to_string(&file).unwrap();
    for (content, wanted) in [
        (text.replace("branchfs 3", "branchfs 99"), "99"),
        ("branchfs\n".to_owned(), "format"),
        (String::new(), "format"),
        (text.replace('\n', " "), "format"),
    ] {
        fs::write(&file, &content).unwrap();
        let words = site.refused(&["list"]);
        assert!(words.contains(wanted), "{content:?}: {words}");
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
    fs::write(&file, text).unwrap();
    site.ok(&["list"]);
    site.assert_no_panic();
}

#[test]
fn noise_on_the_socket_ends_its_own_connection_only() {
    if !can_mount() {
        return;
    }
    let (_dir, base) = base();
    let site = Site::init(&base);
    let mut client = site.client();
    let mut rng = Rng::new(seed(), 1);
    let socket = site.store().join("daemon.sock");
    for n in 0..300 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        if n % 2 == 0 {
            write_frame(&stream, &Hello { protocol: PROTOCOL_VERSION }).unwrap();
            let welcome: Option<Result<Welcome, Failure>> = read_frame(&stream).unwrap();
            assert!(matches!(welcome, Some(Ok(_))));
        }
        let length = rng.below(400);
        let mut noise = rng.bytes(length);
        if n % 3 == 0 {
            let header = (noise.len() as u32).to_le_bytes();
            noise.splice(..0, header);
        }
        // The daemon may hang up on the first bytes.
        stream.write_all(&noise).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        // An answer or a hang-up, but an end.
        stream.read_to_end(&mut answer).ok();
    }
    assert_eq!(client.list().unwrap().len(), 1, "others are served");
    site.assert_no_panic();
}

#[test]
fn another_protocol_version_is_told_both_versions() {
    if !can_mount() {
        return;
    }
    let (_dir, base) = base();
    let site = Site::init(&base);
    drop(site.client());
    for client in [0, PROTOCOL_VERSION + 1, u32::MAX] {
        let stream = UnixStream::connect(site.store().join("daemon.sock")).unwrap();
        write_frame(&stream, &Hello { protocol: client }).unwrap();
        let answer: Option<Result<Welcome, Failure>> = read_frame(&stream).unwrap();
        assert_eq!(answer, Some(Err(Failure::Version { daemon: PROTOCOL_VERSION, client })));
    }
    site.assert_no_panic();
}

#[test]
fn hostile_branch_names_are_refused_by_name() {
    if !can_mount() {
        return;
    }
    let (dir, base) = base();
    let site = Site::init(&base);
    let mut client = site.client();
    let long = "n".repeat(256);
    let bad = [
        "", ".", "..", "../up", "a/b", "/etc", "-rf", ".hidden", "a b", "a\nb", "a\0b", "ü", "@a", "main",
        &long,
    ];
    for name in bad {
        let error = client.create(&[name.to_owned()], "main", GroupKind::Exclusive).unwrap_err();
        let refused = matches!(
            &error,
            ClientError::Failed(Failure::BadName { name: named, .. } | Failure::Exists { name: named })
                if named == name
        );
        assert!(refused, "{name:?}: {error:?}");
        for error in [
            client.commit(name).map(drop).unwrap_err(),
            client.inspect(name).map(drop).err().unwrap_or(ClientError::Closed),
            client.abort(name, Children::Cascade).map(drop).unwrap_err(),
        ] {
            let typed = matches!(error, ClientError::Failed(_)) || name == "main";
            assert!(typed, "{name:?}: {error:?}");
        }
    }
    let twice = client.create(&["a".into(), "a".into()], "main", GroupKind::Exclusive).unwrap_err();
    assert!(matches!(twice, ClientError::Failed(Failure::Exists { .. })), "{twice:?}");
    for count in [0, 65] {
        let names: Vec<String> = (0..count).map(|n| format!("m{n}")).collect();
        let error = client.create(&names, "main", GroupKind::Exclusive).unwrap_err();
        assert!(matches!(error, ClientError::Failed(Failure::Limit { .. })), "{count}: {error:?}");
    }
    assert_eq!(client.list().unwrap().len(), 1, "nothing was made");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nor beside the base");
    site.assert_no_panic();
}

#[test]
fn hostile_file_names_arrive_in_the_base_as_they_are() {
    if !can_mount() {
        return;
    }
    let (_dir, base) = base();
    let site = Site::init(&base);
    let view = branch(&site, "b");
    let long = [b'l'; 255];
    let names: [&[u8]; 14] = [
        b"\xff\xfe",
        b"new\nline",
        b" ",
        b"-rf",
        b"a\\b",
        b"\"'`$(x)",
        b".wh.file",
        b"@b",
        b"main",
        b"...",
        b"\x01\x7f",
        "\u{202e}txt".as_bytes(),
        b"journal.1",
        &long,
    ];
    for name in names {
        fs::write(view.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let too_long = fs::write(view.join("l".repeat(256)), "").unwrap_err();
    assert_eq!(too_long.raw_os_error(), Some(36), "ENAMETOOLONG: {too_long}");
    fs::create_dir(view.join(".branchfs")).expect_err("the store's own name in the root is nobody's");
    site.ok(&["diff", "b"]);
    site.ok(&["--json", "diff", "b"]);
    let wanted = tree(&view, Times::Compare);
    site.ok(&["commit", "b"]);
    assert_eq!(tree(&base, Times::Compare), wanted);
    for name in names {
        assert_eq!(fs::read(base.join(OsStr::from_bytes(name))).unwrap(), name);
    }
    site.assert_no_panic();
}

#[test]
fn a_second_daemon_says_that_there_is_one() {
    if !can_mount() {
        return;
    }
    let (dir, base) = base();
    let site = Site::init(&base);
    let mut client = site.client();
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let arguments = ["daemon", "--base", base.to_str().unwrap(), "--store", site.store().to_str().unwrap()];
    let words = site.refused(&[&arguments[..], &["--mountpoint", elsewhere.to_str().unwrap()]].concat());
    assert!(words.contains("open in another process"), "{words}");
    assert!(!is_mounted(&elsewhere));
    assert_eq!(client.list().unwrap().len(), 1, "the first goes on");
    site.assert_no_panic();
}

/// Fork, write, kill, commit: everything arrives.
fn full_flow(site: &Site) {
    let view = branch(site, "flow");
    let before = Model::of(&view).unwrap();
    let difference = Model::of(site.base()).unwrap().difference(&before);
    assert!(difference.is_empty(), "{difference}");
    fs::create_dir_all(view.join("new/below")).unwrap();
    fs::write(view.join("new/below/file"), vec![7; 100_000]).unwrap();
    File::options().append(true).open(view.join("file")).unwrap().write_all(b"appended").unwrap();
    std::os::unix::fs::symlink("file", view.join("link")).unwrap();
    fs::hard_link(view.join("file"), view.join("second")).unwrap();
    fs::set_permissions(view.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    let wanted = tree(&view, Times::Compare);
    site.kill_daemon();
    site.ok(&["list"]);
    assert_eq!(tree(&view, Times::Compare), wanted, "after a restart");
    site.ok(&["commit", "flow"]);
    assert_eq!(tree(site.base(), Times::Compare), wanted);
    let again = branch(site, "again");
    fs::remove_dir_all(again.join("new")).unwrap();
    fs::remove_file(again.join("link")).unwrap();
    fs::write(again.join("file"), "rewritten").unwrap();
    let wanted = tree(&again, Times::Compare);
    site.ok(&["commit", "again"]);
    assert_eq!(tree(site.base(), Times::Compare), wanted);
    site.ok(&["stop"]);
    site.ok(&["log"]);
    assert_eq!(site.client().log(9).unwrap().len(), 2);
    site.assert_no_panic();
}

fn branch(site: &Site, name: &str) -> PathBuf {
    site.client().create(&[name.to_owned()], "main", GroupKind::Exclusive).unwrap();
    site.view(name)
}

#[test]
fn a_base_whose_path_has_blanks_quotes_and_bytes_that_are_no_text_works() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let names: [&[u8]; 4] = [b"with blank", b"not \xff\xfe text", b"new\nline \\040 \"quoted\"", b"-C"];
    for name in names {
        let base = dir.path().join(OsStr::from_bytes(name));
        fs::create_dir(&base).unwrap();
        fs::write(base.join("file"), "base\n").unwrap();
        full_flow(&Site::init(&base));
    }
}

#[test]
fn a_store_on_another_filesystem_works() {
    if !can_mount() {
        return;
    }
    let (_dir, base) = base();
    let device = |path: &Path| std::os::unix::fs::MetadataExt::dev(&fs::metadata(path).unwrap());
    let shared_memory = Path::new("/dev/shm");
    if !shared_memory.is_dir() || device(shared_memory) == device(&base) {
        return skip("no tmpfs at /dev/shm");
    }
    let elsewhere = tempfile::tempdir_in(shared_memory).unwrap();
    let store = elsewhere.path().join("the store");
    fs::create_dir(&store).unwrap();
    full_flow(&Site::init_with_store(&base, &store));
}

#[test]
fn a_missing_store_is_an_error_that_names_it() {
    if !can_mount() {
        return;
    }
    let (dir, base) = base();
    let store = dir.path().join("the store");
    fs::create_dir(&store).unwrap();
    {
        let site = Site::init_with_store(&base, &store);
        site.ok(&["list"]);
    }
    fs::rename(&store, dir.path().join("moved")).unwrap();
    let site = Site::at(&base, &store);
    let words = site.refused(&["list"]);
    assert!(words.contains("the store"), "{words}");
    fs::rename(dir.path().join("moved"), &store).unwrap();
    site.ok(&["list"]);
    site.assert_no_panic();
}

#[test]
fn a_read_only_store_is_an_error_that_says_so() {
    if !can_mount() {
        return;
    }
    let (_dir, base) = base();
    let site = Site::init(&base);
    let Some(read_only) = ReadOnly::new(site.store()) else { return };
    let words = site.refused(&["list"]);
    assert!(words.contains("Read-only file system"), "{words}");
    drop(read_only);
    site.ok(&["list"]);
    site.assert_no_panic();
}

/// A directory bound over itself, read-only: root, too, cannot write there.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(path: &Path) -> Option<ReadOnly> {
        let mount = |arguments: &[&str]| {
            let done = std::process::Command::new("mount").args(arguments).arg(path).output();
            done.is_ok_and(|output| output.status.success())
        };
        let this = path.to_str().unwrap();
        if !mount(&["--bind", this]) {
            skip("this user cannot mount");
            return None;
        }
        let bound = ReadOnly(path.to_owned());
        assert!(mount(&["-o", "remount,bind,ro"]));
        Some(bound)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_base_removed_under_the_daemon_gives_errors_and_keeps_what_the_branches_hold() {
    if !can_mount() {
        return;
    }
    let (dir, base) = base();
    let store = dir.path().join("the store");
    fs::create_dir(&store).unwrap();
    let site = Site::init_with_store(&base, &store);
    let view = branch(&site, "b");
    fs::write(view.join("own"), "mine").unwrap();
    let mut client = site.client();
    let away = dir.path().join("away");
    // Moved: the daemon holds the directory itself, not its path.
    fs::rename(&base, &away).unwrap();
    assert_eq!(fs::read_to_string(view.join("file")).unwrap(), "base\n");
    fs::remove_dir_all(&away).unwrap();
    assert_eq!(fs::read_to_string(view.join("own")).unwrap(), "mine");
    let committed = client.commit("b");
    assert!(matches!(committed, Err(ClientError::Failed(_))), "{committed:?}");
    assert_eq!(fs::read_to_string(view.join("own")).unwrap(), "mine", "a failed commit loses nothing");
    assert!(client.list().is_ok_and(|branches| branches.len() == 2));
    site.assert_no_panic();
}
