//! fio: large writes of every kind, each block with a checksum that is verified afterwards.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;

use crate::ground::{Ground, Place};
use crate::tools::{cannot, long, version};

/// Name, and what makes the job what it is.
const JOBS: [(&str, &str); 9] = [
    ("sequential", "--ioengine=psync --rw=write --bs=64k"),
    ("random", "--ioengine=psync --rw=randwrite --bs=4k --numjobs=2 --size=@half@ --offset_increment=@half@"),
    ("odd", "--ioengine=psync --rw=randwrite --bsrange=512-37k --bs_unaligned=1"),
    ("mixed", "--ioengine=psync --rw=randrw --bs=8k --fsync=256"),
    ("direct", "--ioengine=psync --rw=randwrite --bs=4k --direct=1"),
    ("mapped", "--ioengine=mmap --rw=randwrite --bs=4k"),
    ("libaio", "--ioengine=libaio --rw=randwrite --bs=4k --iodepth=16"),
    ("libaio-direct", "--ioengine=libaio --rw=randwrite --bs=16k --iodepth=16 --direct=1"),
    ("io_uring", "--ioengine=io_uring --rw=randwrite --bs=4k --iodepth=16"),
];

#[test]
fn fio_verifies_every_block_of_new_files() {
    all_jobs("new files", false);
}

#[test]
fn fio_verifies_every_block_written_over_files_of_the_base() {
    all_jobs("files of the base", true);
}

fn all_jobs(what: &str, of_the_base: bool) {
    let size = if long() { 256 << 20 } else { 8 << 20 };
    let fill = |base: &Path| {
        if of_the_base {
            for (name, _) in JOBS {
                old_file(&base.join(name), size);
            }
        }
    };
    let Some(ground) = Ground::new(&["fio"], fill) else { return };
    let jobs: Vec<_> = JOBS.into_iter().filter(|(name, job)| can(ground.plain(), name, job)).collect();
    for place in ground.branches() {
        let (mut written, mut verified) = (0, 0);
        for (name, job) in &jobs {
            let done = run(place, name, job, size);
            // Half of a mixed job is reads; blocks of odd sizes do not always fill the end.
            assert!(done.0 >= size / 10 * 4, "{name} on {} wrote only {} bytes", place.name, done.0);
            assert!(done.1 >= done.0, "{name} on {} read only {} bytes", place.name, done.1);
            (written, verified) = (written + done.0, verified + done.1);
            fs::remove_file(place.dir.join(name)).unwrap();
        }
        let (written, verified) = (written >> 20, verified >> 20);
        let (version, count) = (version("fio"), jobs.len());
        println!(
            "posix: {version}: {}: {what}: {count} jobs, {written} MiB written, {verified} MiB verified",
            place.name
        );
    }
}

/// Data at the start of every mebibyte only, so that copy-up meets holes.
fn old_file(path: &Path, size: u64) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for at in (0..size).step_by(1 << 20) {
        file.write_all_at(&[0x5a; 4096], at).unwrap();
    }
}

/// A small run on the plain filesystem: an engine that does not work there says nothing about a branch.
fn can(plain: &Place, name: &str, job: &str) -> bool {
    let output = fio(plain, "probe", job, 1 << 20).output().unwrap();
    fs::remove_file(plain.dir.join("probe")).unwrap();
    if !output.status.success() {
        cannot(&format!("fio's {name} does not run on the plain filesystem: {output:?}"));
    }
    output.status.success()
}

/// Bytes written and bytes read.
fn run(place: &Place, name: &str, job: &str, size: u64) -> (u64, u64) {
    let output = fio(place, name, job, size).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name} on {}: {said}\n{output:?}", place.name);
    let report: Value = serde_json::from_str(&said[said.find('{').unwrap()..]).unwrap();
    let jobs = report["jobs"].as_array().unwrap();
    assert!(jobs.iter().all(|job| job["error"] == 0), "{name} on {}: {said}", place.name);
    let bytes = |what: &str| jobs.iter().map(|job| job[what]["io_bytes"].as_u64().unwrap()).sum();
    (bytes("write"), bytes("read"))
}

fn fio(place: &Place, file: &str, job: &str, size: u64) -> std::process::Command {
    let mut fio = place.command("fio");
    fio.args([
        "--output-format=json",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        "--verify_dump=0",
    ]);
    fio.args([format!("--name={file}"), format!("--filename={file}"), format!("--size={size}")]);
    // Two writers, each with its half: on the same blocks they would spoil each other's checksums.
    fio.args(job.replace("@half@", &(size / 2).to_string()).split(' '));
    fio
}
