//! The caller's own working directory. Alone in its file: the directory belongs to the whole process.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use branch_proc::Step;
use common::{sh, stdout_of};

#[test]
fn a_caller_inside_the_base_starts_its_program_inside_the_view() {
    let dir = tempfile::tempdir().unwrap();
    let (base, view) = (dir.path().join("base"), dir.path().join("view"));
    for (path, content) in [(&base, "base"), (&view, "view")] {
        fs::create_dir_all(path.join("sub")).unwrap();
        fs::write(path.join("sub/file"), content).unwrap();
    }
    std::env::set_current_dir(base.join("sub")).unwrap();
    assert_eq!(stdout_of(sh("cat file").bind(&view, &base)), "view");
    assert_eq!(stdout_of(sh("cat sub/file").bind(&view, &base).current_dir("..")), "view");
    assert_eq!(stdout_of(sh("cat file")), "base");

    // A directory that has no path any more cannot be found again inside a view.
    let lost = dir.path().join("lost");
    fs::create_dir(&lost).unwrap();
    std::env::set_current_dir(&lost).unwrap();
    fs::remove_dir(&lost).unwrap();
    assert_eq!(sh("").bind(&view, &base).spawn().unwrap_err().step, Step::Prepare);
    assert_eq!(stdout_of(sh("echo still runs")), "still runs\n");
}
