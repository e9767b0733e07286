//! Commits of many files, their undoing and aborts, against `cp -a` of the same files and one fdatasync in the same
//! run. On the disk under the temporary directory everything is durable; the same on tmpfs is what it costs without.
//!
//!     cargo bench -p branchfs-benches --bench commit                  # up to 10,000 files
//!     BRANCHFS_LONG=1 cargo bench -p branchfs-benches --bench commit  # and 100,000
//!
//! Further arguments are parts of names of rows: only those are measured.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops where it fails")]

mod cases;
mod ground;
mod rivals;

use std::path::Path;
use std::time::Duration;

use cases::Case;
use ground::Ground;
use rivals::Rivals;

const SIZES: [usize; 3] = [1, 100, 10_000];
const SIZE_LONG: usize = 100_000;
const MEMORY: &str = "/dev/shm";

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let long = std::env::var_os("BRANCHFS_LONG").is_some();
    let sizes = SIZES.into_iter().chain(long.then_some(SIZE_LONG));
    let disk = std::env::temp_dir();
    println!("files of {} bytes, {} in a directory", ground::FILE_LEN, ground::FILES_PER_DIR);
    println!("one fdatasync on {}: {}", disk.display(), shown(rivals::fdatasync(&disk)));
    println!(
        "{:<40} {:>7} {:>10} {:>10} {:>6} {:>15}",
        "", "files", "on tmpfs", "durable", "x cp", "x cp and syncfs"
    );
    // Nothing is deleted before the end: ext4 searches long for inodes where many have just been freed.
    let mut kept = Vec::new();
    for files in sizes {
        let wanted = |case: &&Case| {
            let row = format!("{} {files}", case.name);
            arguments.is_empty() || arguments.iter().any(|part| row.contains(part))
        };
        let cases: Vec<&Case> = cases::ALL.iter().filter(wanted).collect();
        if !cases.is_empty() {
            measure(&cases, files, &disk, &mut kept);
        }
    }
}

/// All rows of one size.
fn measure(cases: &[&Case], files: usize, disk: &Path, kept: &mut Vec<Ground>) {
    let mut rivals = Rivals::new(disk, files);
    let mut rows = Vec::new();
    for case in cases {
        rivals.measure();
        let mut durable = Vec::new();
        for _ in 0..rounds(files) {
            let ground = Ground::new(disk);
            durable.push((case.measure)(&ground, files));
            kept.push(ground);
        }
        let quick = std::iter::repeat_with(|| (case.measure)(&Ground::new(Path::new(MEMORY)), files));
        rows.push((case.name, median(quick.take(rounds(files)).collect()), median(durable)));
    }
    for (name, quick, durable) in rows {
        println!(
            "{name:<40} {files:>7} {:>10} {:>10} {:>6.3} {:>15.3}",
            shown(quick),
            shown(durable),
            durable.as_secs_f64() / rivals.copy().as_secs_f64(),
            durable.as_secs_f64() / rivals.synced().as_secs_f64()
        );
    }
    println!(
        "{:<40} {files:>7} {:>10} {:>10}",
        "cp -a; with syncfs",
        shown(rivals.copy()),
        shown(rivals.synced())
    );
}

/// Often where it is quick: the disk is shared, and its fsync varies.
fn rounds(files: usize) -> usize {
    match files {
        0..=100 => 15,
        101..=10_000 => 3,
        _ => 1,
    }
}

pub(crate) fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn shown(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.001 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} us", s * 1e6),
    }
}
