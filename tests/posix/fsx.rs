//! fsx: random operations of every kind on one file, each read compared with what was written.

use std::fs;
use std::path::Path;

use branchfs_tests::seed;
use tempfile::TempDir;

use crate::ground::{Ground, Place};
use crate::tools::{long, version};

/// Runs of each of the three kinds at each depth, each with its own seed and file.
const RUNS: u64 = 4;
/// What `flen` says in both settings files.
const HEAD: usize = 256 << 10;
/// Bytes behind the head that nobody writes.
const TAIL: usize = 64 << 10;

/// What fsx begins with.
#[derive(Clone, Copy)]
enum Start {
    /// A new name.
    New,
    /// A file of the base, truncated by the open.
    Truncated,
    /// A file of the base, its head written and mapped in place.
    InPlace,
}

#[test]
fn fsx_reads_what_it_wrote_in_new_files() {
    all_runs(Start::New, "a new file");
}

#[test]
fn fsx_reads_what_it_wrote_in_truncated_files_of_the_base() {
    all_runs(Start::Truncated, "a file of the base, truncated");
}

#[test]
fn fsx_reads_what_it_wrote_in_files_of_the_base_changed_in_place() {
    all_runs(Start::InPlace, "a file of the base, in place");
}

fn all_runs(start: Start, what: &str) {
    let fill = |base: &Path| {
        for run in 0..RUNS {
            fs::write(base.join(file_name(run)), old_content(run)).unwrap();
        }
    };
    let Some(ground) = Ground::new(&["fsx"], fill) else { return };
    let (seed, operations) = (seed() % (1 << 32), if long() { 100_000 } else { 10_000 });
    for place in ground.branches() {
        for run in 0..RUNS {
            one_run(place, start, run, seed + run, operations);
        }
        println!("posix: {}: {}: {what}: {RUNS} x {operations} operations", version("fsx"), place.name);
    }
    for run in 0..RUNS {
        let base = fs::read(ground.base().dir.join(file_name(run))).unwrap();
        assert!(base == old_content(run), "the base changed through a branch, run {run}");
    }
}

fn one_run(place: &Place, start: Start, run: u64, seed: u64, operations: u64) {
    let artifacts = TempDir::new().unwrap();
    let settings = artifacts.path().join("fsx.toml");
    let template = match start {
        Start::New | Start::Truncated => include_str!("fsx.toml"),
        Start::InPlace => include_str!("fsx-in-place.toml"),
    };
    // Every other run leaves it to the kernel when mapped pages are written.
    fs::write(&settings, template.replace("@nomsync@", if run.is_multiple_of(2) { "true" } else { "false" }))
        .unwrap();
    let name = match start {
        Start::New => format!("new-{run}"),
        Start::Truncated | Start::InPlace => file_name(run),
    };
    let mut fsx = place.command("fsx");
    fsx.arg("-f").arg(&settings).args(["-N", &operations.to_string(), "-S", &seed.to_string()]);
    fsx.arg("-P").arg(artifacts.path()).arg(&name);
    let output = fsx.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let good = output.status.success() && said.contains("All operations completed");
    assert!(good, "{}: {fsx:?}: {}", place.name, last_words(&output.stderr));
    if matches!(start, Start::InPlace) {
        let tail = fs::read(place.dir.join(&name)).unwrap().split_off(HEAD);
        assert!(tail == old_content(run)[HEAD..], "behind what fsx wrote, run {run}, seed {seed}");
    }
}

/// What went wrong is said first, then come up to a thousand operations that led to it.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().collect();
    let (first, last) = (lines.iter().take(5), lines.iter().skip(lines.len().saturating_sub(40).max(5)));
    first.chain(last).copied().collect::<Vec<_>>().join("\n")
}

fn file_name(run: u64) -> String {
    format!("base-{run}")
}

/// Recognisable, and different for every run.
fn old_content(run: u64) -> Vec<u8> {
    (0..HEAD + TAIL).map(|at| (at as u64 * 31 + at as u64 / 256 + run) as u8 | 1).collect()
}
