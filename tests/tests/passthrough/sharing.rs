//! Who reads what from where.

use std::fs;
use std::fs::File;
use std::os::fd::AsRawFd;

use branch_proto::GroupKind;
use branchfs_tests::run_ok;

use crate::scene::{LEN, Reader, full_of, passing, read_alone};

#[test]
fn readers_in_all_branches_need_no_daemon() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    workspace.branch("one");
    workspace.branch("below");
    workspace.fork(&["two"], "below", GroupKind::Independent);
    let names: Vec<String> = (0..32).map(|n| format!("many{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    workspace.fork(&names, "main", GroupKind::Independent);
    let views = ["main", "one", "below", "two"].into_iter().chain(names);
    let readers: Vec<Reader> = views.map(|view| Reader::of(&workspace.view(view).join("file"))).collect();
    let readers: Vec<&Reader> = readers.iter().collect();
    assert!(read_alone(&workspace, &readers).iter().all(|bytes| *bytes == full_of(b'a')));
}

/// How many pages of the file are in memory, as a map of it tells.
fn resident(file: &File) -> usize {
    let mut pages = vec![0_u8; LEN.div_ceil(4096)];
    // SAFETY: a new map, only asked about and given back; one byte for each of its pages.
    unsafe {
        let map =
            libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(map, libc::MAP_FAILED);
        assert_eq!(libc::mincore(map, LEN, pages.as_mut_ptr()), 0);
        assert_eq!(libc::munmap(map, LEN), 0);
    }
    pages.iter().filter(|page| **page & 1 == 1).count()
}

#[test]
fn branches_share_the_hosts_memory_of_a_file() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let (one, two) = (workspace.branch("one").join("file"), workspace.branch("two").join("file"));
    let (one, two) = (Reader::of(&one), Reader::of(&two));
    let base = File::open(workspace.base().join("file")).unwrap();
    base.sync_all().unwrap();
    rustix::fs::fadvise(&base, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert_eq!(resident(&two.file), 0);
    assert_eq!(one.bytes(), full_of(b'a'));
    assert_eq!((resident(&two.file), resident(&base)), (25, 25));
}

#[test]
fn a_map_outlives_its_file_and_shows_the_bytes_of_before() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let path = workspace.branch("one").join("file");
    let file = File::open(&path).unwrap();
    // SAFETY: a new map, read while nobody changes it and given back at the end.
    unsafe {
        let map =
            libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(map, libc::MAP_FAILED);
        drop(file);
        fs::write(&path, "new").unwrap();
        assert_eq!(std::slice::from_raw_parts(map.cast::<u8>(), LEN), full_of(b'a'));
        assert_eq!(libc::munmap(map, LEN), 0);
    }
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read(workspace.base().join("file")).unwrap(), full_of(b'a'));
}

#[test]
fn git_finds_a_fresh_branch_clean() {
    let Some(workspace) = passing(|_| ()) else { return };
    let (base, out) = (workspace.base(), workspace.outside().join("home"));
    let git = |at: &std::path::Path, args: &[&str]| {
        let mut git = std::process::Command::new("git");
        branchfs_tests::clean_environment(&mut git, &out);
        run_ok(git.arg("-C").arg(at).args(args))
    };
    git(&base, &["init", "-q"]);
    (0..50).for_each(|n| fs::write(base.join(format!("f{n}")), full_of(b'a')).unwrap());
    git(&base, &["add", "."]);
    git(&base, &["commit", "-qm", "all"]);
    let view = workspace.branch("one");
    let readers: Vec<Reader> = (0..50).map(|n| Reader::of(&view.join(format!("f{n}")))).collect();
    assert_eq!(git(&view, &["status", "--porcelain"]), "");
    assert_eq!(read_alone(&workspace, &[&readers[0]]), [full_of(b'a')]);
    fs::write(view.join("f7"), "changed").unwrap();
    assert_eq!(git(&view, &["status", "--porcelain"]), " M f7\n");
    git(&view, &["checkout", "-q", "--", "f7"]);
    assert_eq!(git(&view, &["status", "--porcelain"]), "");
    assert!(readers.iter().all(|reader| reader.bytes() == full_of(b'a')));
}
