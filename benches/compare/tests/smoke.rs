//! The instrument itself: all works on all arms that the machine offers, on a scale whose figures mean nothing.
#![allow(clippy::unwrap_used)] // also in helpers

use std::path::Path;
use std::process::{Command, Output};

use branchfs_tests::{binary, can_mount, clean_environment};
use serde_json::Value;

fn compare(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    clean_environment(&mut command, Path::new("/nonexistent"));
    command.arg("--dir").arg(dir).arg("--branchfs").arg(binary()).args(["--scale", "tiny", "--rounds", "1"]);
    command.args(args).output().unwrap()
}

/// In memory, if there is such a place: before each run everything written is made durable, everybody else's as well.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn mounted_in(dir: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(dir.to_str().unwrap())).count()
}

#[test]
fn every_work_gives_figures_on_every_arm_that_is_there_and_nothing_is_left() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let files = ["figures.json", "table.md", "bars.svg"].map(|name| dir.path().join(name));
    let [json, markdown, svg] = files.each_ref().map(|path| path.to_str().unwrap());
    let work = directory();
    let output = compare(work.path(), &["--json", json, "--markdown", markdown, "--svg", svg]);
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");

    let figures: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let columns = figures["columns"].as_array().unwrap();
    let lines = figures["lines"].as_array().unwrap();
    assert!(lines.len() > 30, "{} rows", lines.len());
    let root = rustix::process::geteuid().is_root();
    for (index, column) in columns.iter().enumerate() {
        let name = column["name"].as_str().unwrap();
        // Overlayfs is root's, and views that are one by themselves are not every program's.
        if name == "peer"
            || (["overlayfs", "native", "passthrough"].contains(&name) && !column["absent"].is_null())
        {
            continue;
        }
        assert!(column["absent"].is_null(), "{column}");
        for line in lines {
            let cell = &line["cells"][index];
            // Only root can empty caches, so that nothing is cold for others.
            let plain = line["cells"][0]["failed"].as_str().unwrap_or_default();
            let excused = (!root && !plain.is_empty()) || plain == "no npm";
            let measured = cell["rounds"][0]["nanoseconds"].as_u64().is_some_and(|time| time > 0);
            assert!(measured || excused, "{name}, {}: {cell}\n{said}", line["row"]);
        }
    }
    assert!(std::fs::read_to_string(markdown).unwrap().contains("| stat warm |"));
    assert!(std::fs::read_to_string(svg).unwrap().contains("<svg"));
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "the directory is left as it was");
    assert_eq!(mounted_in(work.path()), 0, "nothing stays mounted");
}

#[test]
fn only_the_rows_asked_for_are_measured() {
    let dir = directory();
    let output = compare(dir.path(), &["--arms", "ext4", "--only", "rename"]);
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<&str> = table.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    assert!(rows.iter().all(|row| row.starts_with("rename")), "{table}");
    assert_eq!(rows.len(), 2, "{table}");
}

#[test]
fn what_does_not_exist_is_refused_in_words() {
    let dir = directory();
    for (args, words) in
        [(["--arms", "depth-0"], "no arm 'depth-0'"), (["--only", "nothing"], "nothing to do")]
    {
        let output = compare(dir.path(), &args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{args:?}: {said}");
    }
}
